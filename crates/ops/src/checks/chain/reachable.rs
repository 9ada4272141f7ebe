//! The chain answers.

use crate::check::prelude::*;

/// The chain answers.
pub struct Reachable;

#[async_trait(?Send)]
impl Check for Reachable {
    fn about(&self) -> About {
        About::new(
            "chain.reachable",
            "the chain answers",
            "windows, peers and weights come from the chain; without it a node waits",
            "check the endpoint, and try another one; `chain.port` tells whether the host answers at all",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let info = subject.info().await.map_err(|missing| missing.failure("chain.reachable"))?;
        let head = subject.head().await.map_err(|missing| missing.failure("chain.reachable"))?;
        Ok(pass(format!("{} answers, block {}", info.spec_name, head.number))
            .with("block", head.number.0)
            .with("genesis", info.genesis_hash.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_chain() {
        Lab::new().await.passes(&Reachable).await;
    }

    #[tokio::test]
    async fn fails_without_one() {
        let mut lab = Lab::new().await;
        let options = templar_subtensor::Options { persistence: std::time::Duration::ZERO, ..templar_subtensor::Options::default() };
        let chain = templar_subtensor::Subtensor::with_options("ws://127.0.0.1:1".parse().unwrap(), options);
        lab.subject.chain = std::sync::Arc::new(chain);
        lab.fails(&Reachable, "did not answer").await;
    }
}
