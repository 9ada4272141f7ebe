//! The data set's manifest can be had, and is the one that the run names.

use crate::check::prelude::*;

/// The data set's manifest can be had, and is the one that the run names.
pub struct Manifest;

#[async_trait(?Send)]
impl Check for Manifest {
    fn about(&self) -> About {
        About::new(
            "data.manifest",
            "the data manifest can be had, with the run's digest",
            "without it a node does not know what to train on",
            "check the connection to the places that the run names; tell the run's operators if none of them has it",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let data = subject.data().await.map_err(|missing| missing.failure("data.manifest"))?;
        let (shards, tokens) = (data.manifest.shards.len(), data.manifest.shards.iter().map(|shard| shard.n_samples).sum::<u64>());
        Ok(pass(format!("{shards} shards with {tokens} samples of {} tokens", data.manifest.seq_len)).with("shards", shards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_data_set() {
        Lab::new().await.passes(&Manifest).await;
    }

    #[tokio::test]
    async fn fails_without_one_and_with_another() {
        let lab = Lab::new().await;
        lab.bucket("dataset").put("manifest.json", "{}".into()).await.unwrap();
        lab.fails(&Manifest, "digest").await;
        let lab = Lab::new().await;
        lab.bucket("dataset").delete("manifest.json").await.unwrap();
        lab.fails(&Manifest, "there is no manifest.json").await;
    }
}
