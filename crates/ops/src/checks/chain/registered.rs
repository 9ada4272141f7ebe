//! The hotkey has a uid.

use crate::check::prelude::*;

/// The hotkey has a uid.
pub struct Registered;

#[async_trait(?Send)]
impl Check for Registered {
    fn about(&self) -> About {
        About::new(
            "chain.registered",
            "the hotkey is registered on the subnet",
            "without a uid nobody reads what this node publishes",
            "register it (`templar subnet register`; on a development chain `templar chain register`), or use another hotkey with --wallet and --hotkey",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let neuron = subject.neuron().await.map_err(|missing| missing.failure("chain.registered"))?;
        Ok(pass(format!("uid {} with stake {} rao", neuron.uid, neuron.total_stake))
            .with("uid", neuron.uid.0)
            .with("stake", neuron.total_stake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_uid() {
        Lab::new().await.passes(&Registered).await;
    }

    #[tokio::test]
    async fn fails_without_one() {
        Lab::with(|genesis| _ = genesis.neurons.remove(1)).await.fails(&Registered, "has no uid").await;
    }
}
