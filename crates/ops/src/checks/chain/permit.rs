//! A validator may set weights.

use crate::check::prelude::*;

/// A validator may set weights.
pub struct Permit;

#[async_trait(?Send)]
impl Check for Permit {
    fn about(&self) -> About {
        About::new(
            "chain.permit",
            "the validator has a permit and stake",
            "without a permit its weights are refused, and without stake it has no slot to publish in",
            "stake more on the hotkey; the permit follows at the next epoch",
        )
        .roles(&Role::VALIDATORS)
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let neuron = subject.neuron().await?;
        if neuron.permit && neuron.total_stake > 0 {
            return Ok(pass(format!("a permit, and stake {} rao", neuron.total_stake)));
        }
        let permit = if neuron.permit { "a permit" } else { "no permit" };
        Err(fail(format!("uid {} has {permit} and stake {} rao", neuron.uid, neuron.total_stake)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_for_the_leader() {
        Lab::new().await.leading().passes(&Permit).await;
    }

    #[tokio::test]
    async fn fails_for_one_without_stake() {
        Lab::new().await.fails(&Permit, "no permit").await;
    }
}
