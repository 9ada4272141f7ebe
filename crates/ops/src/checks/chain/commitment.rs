//! The chain names the bucket that is configured.

use crate::check::prelude::*;
use templar_node::context::{bucket_commitment, peer_url};

/// The chain names the bucket that is configured.
pub struct Commitment;

#[async_trait(?Send)]
impl Check for Commitment {
    fn about(&self) -> About {
        About::new(
            "chain.commitment",
            "the chain names this node's bucket",
            "peers read where the chain points; a stale commitment points to an empty bucket",
            "start the node, which commits by itself; when it has refused, check the hotkey's rights and the limit on commitments",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, url) = (subject.neuron().await?, subject.bucket_url()?);
        let commitments = subject.commitments().await?;
        let Some(commitment) = commitments.get(&neuron.hotkey) else {
            return Err(warn("the chain names no bucket for this node yet; a node commits when it starts"));
        };
        if commitment.data == bucket_commitment(&url) {
            return Ok(pass(format!("the chain names {url} since block {}", commitment.block)));
        }
        let named = peer_url(&commitment.data).map_or_else(|| "something that is no bucket".to_owned(), |url| url.to_string());
        Err(fail(format!("the chain names {named}, configured is {url}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_chain::{Chain, Wait};

    #[tokio::test]
    async fn passes_when_both_agree() {
        Lab::new().await.passes(&Commitment).await;
    }

    #[tokio::test]
    async fn fails_when_they_do_not() {
        let lab = Lab::new().await;
        lab.chain.set_commitment(&lab.miner, NETUID, &bucket_commitment(&lab.url("other")), Wait::Submitted).await.unwrap();
        lab.chain.close_block().unwrap();
        lab.fails(&Commitment, "/other, configured is").await;
    }
}
