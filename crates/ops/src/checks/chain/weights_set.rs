//! A validator has set weights lately.

use crate::check::prelude::*;

/// A validator has set weights lately.
pub struct WeightsSet;

#[async_trait(?Send)]
impl Check for WeightsSet {
    fn about(&self) -> About {
        About::new(
            "chain.weights_set",
            "the validator has set weights lately",
            "weights that grow old stop counting, and the validator's own dividends stop with them",
            "look for refusals in the journal (`weights`, `warning`), and check the rate limit and the version key of the subnet",
        )
        .live()
        .roles(&Role::VALIDATORS)
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, head, found) = (subject.neuron().await?, subject.head().await?, subject.run().await?);
        let age = head.number.0.saturating_sub(neuron.last_update.0) / found.run.blocks_per_window().max(1);
        let due = found.run.hparams().evaluation.windows_per_weights.max(1);
        let sentence = format!("weights were set {age} windows ago and are due every {due}");
        Err(if age <= 2 * due {
            return Ok(pass(sentence));
        } else if age <= 4 * due {
            warn(sentence)
        } else {
            fail(sentence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_set() {
        Lab::new().await.leading().passes(&WeightsSet).await;
    }

    #[tokio::test]
    async fn fails_when_old() {
        let mut lab = Lab::new().await.leading();
        lab.close_blocks(60);
        lab.fails(&WeightsSet, "windows ago").await;
    }
}
