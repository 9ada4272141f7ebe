//! No other neuron has committed to the same bucket.

use crate::check::prelude::*;
use templar_node::context::bucket_commitment;

/// No other neuron has committed to the same bucket.
pub struct BucketUnique;

#[async_trait(?Send)]
impl Check for BucketUnique {
    fn about(&self) -> About {
        About::new(
            "chain.bucket_unique",
            "no other neuron names this node's bucket",
            "two nodes in one bucket overwrite each other's commits, and look like copies of each other",
            "give each hotkey a bucket of its own",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, url) = (subject.neuron().await?, subject.bucket_url()?);
        let (commitments, ours) = (subject.commitments().await?, bucket_commitment(&url));
        let same: Vec<String> = commitments
            .iter()
            .filter(|(hotkey, other)| **hotkey != neuron.hotkey && other.data == ours)
            .map(|(hotkey, _)| hotkey.to_string())
            .collect();
        match same.first() {
            None => Ok(pass(format!("no other of {} commitments names {url}", commitments.len()))),
            Some(hotkey) => Err(fail(format!("{hotkey} names {url}, too"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_chain::{Chain, Wait};

    #[tokio::test]
    async fn passes_alone() {
        Lab::new().await.passes(&BucketUnique).await;
    }

    #[tokio::test]
    async fn fails_together() {
        let lab = Lab::new().await;
        lab.chain.set_commitment(&lab.leader, NETUID, &bucket_commitment(&lab.url("miner")), Wait::Submitted).await.unwrap();
        lab.chain.close_block().unwrap();
        lab.fails(&BucketUnique, "/miner, too").await;
    }
}
