//! The subnet exists and has neurons.

use crate::check::prelude::*;

/// The subnet exists and has neurons.
pub struct Subnet;

#[async_trait(?Send)]
impl Check for Subnet {
    fn about(&self) -> About {
        About::new(
            "chain.subnet",
            "the subnet exists on this chain",
            "the number of the subnet differs from network to network, and a wrong one means another training or none",
            "give the right number with --netuid or network.netuid",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let metagraph = subject.metagraph().await.map_err(|missing| missing.failure("chain.subnet"))?;
        if metagraph.neurons.is_empty() {
            return Err(fail(format!("subnet {} has no neuron", metagraph.netuid)));
        }
        Ok(pass(format!("subnet {} has {} neurons", metagraph.netuid, metagraph.neurons.len())).with("neurons", metagraph.neurons.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_on_a_subnet_with_neurons() {
        Lab::new().await.passes(&Subnet).await;
    }

    #[tokio::test]
    async fn fails_on_another_and_on_an_empty_one() {
        let mut lab = Lab::new().await;
        lab.subject.settings.netuid = templar_protocol::Netuid(99);
        lab.fails(&Subnet, "").await;
        Lab::bare().fails(&Subnet, "no neuron").await;
    }
}
