//! The tokenizer of the data set loads, is the run's, and fits the model.

use crate::check::prelude::*;
use templar_data::ShardCache;
use templar_protocol::rotation::RotationRules;

/// The tokenizer of the data set loads, is the run's, and fits the model.
pub struct Tokenizer;

#[async_trait(?Send)]
impl Check for Tokenizer {
    fn about(&self) -> About {
        About::new(
            "data.tokenizer",
            "the tokenizer loads, and is the run's",
            "tokens of another tokenizer are noise to the model",
            "tell the run's operators; a tokenizer behind a login needs HF_TOKEN when the data set is prepared",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (data, found) = (subject.data().await?, subject.run().await?);
        let (entry, wanted) = (&data.manifest.tokenizer, &found.run.descriptor.tokenizer);
        if entry.digest != *wanted {
            return Err(fail(format!("the data set's tokenizer is {}, the run's {}", entry.digest.short(), wanted.short())));
        }
        let folder = tempfile::tempdir().map_err(|error| skip(format!("there is no room for a temporary folder: {error}")))?;
        let cache = ShardCache::new(folder.path(), data.manifest.clone(), data.endpoints.clone(), RotationRules::cycle(1, 1));
        let tokenizer = cache.map_err(|error| fail(error.to_string()))?.tokenizer().await.map_err(|error| fail(error.to_string()))?;
        let model = found.run.hparams().model.vocab;
        if tokenizer.vocab() as usize > model {
            return Err(fail(format!("the tokenizer has {} ids, the model {model}", tokenizer.vocab())));
        }
        let mut ids = Vec::new();
        tokenizer.encode("one two", &mut ids).map_err(|error| fail(error.to_string()))?;
        Ok(pass(format!("{} ids, of {model} that the model has", tokenizer.vocab())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_runs() {
        Lab::new().await.passes(&Tokenizer).await;
    }

    #[tokio::test]
    async fn fails_with_another_and_with_a_model_that_is_too_small() {
        let mut lab = Lab::new().await;
        lab.publish_run(|run| run.tokenizer = templar_protocol::Digest::of(b"x")).await;
        lab.fails(&Tokenizer, "the run's").await;
        lab.publish_run(|run| run.hparams.model.vocab = 100).await;
        lab.fails(&Tokenizer, "the model 100").await;
    }
}
