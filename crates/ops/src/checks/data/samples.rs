//! Each shard has enough samples for the assignment of a window.

use crate::check::prelude::*;

/// Each shard has enough samples for the assignment of a window.
pub struct Samples;

#[async_trait(?Send)]
impl Check for Samples {
    fn about(&self) -> About {
        About::new(
            "data.samples",
            "a shard has enough samples for a window",
            "with too few, samples repeat within a window and miners are assigned each other's",
            "tell the run's operators: more text, or fewer inner steps",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (data, found) = (subject.data().await?, subject.run().await?);
        let hparams = found.run.hparams();
        let (has, needs) = (data.manifest.samples_min(), (hparams.inner_steps * hparams.target_batch_size) as u64);
        let sentence = format!("the smallest shard has {has} samples, a window of one miner needs {needs}");
        if has >= needs { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_enough() {
        Lab::new().await.passes(&Samples).await;
    }

    #[tokio::test]
    async fn fails_with_too_few() {
        let mut lab = Lab::new().await;
        lab.publish_run(|run| run.hparams.inner_steps = 100_000).await;
        lab.fails(&Samples, "needs 1600000").await;
    }
}
