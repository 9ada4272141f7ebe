//! The chain pays this miner.

use crate::check::prelude::*;

/// The chain pays this miner.
pub struct Incentive;

#[async_trait(?Send)]
impl Check for Incentive {
    fn about(&self) -> About {
        About::new(
            "score.incentive",
            "the chain pays this miner",
            "incentive follows from the validators' weights at each epoch",
            "see `score.weighted`; weights set now count from the next epoch on",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, metagraph) = (subject.neuron().await?, subject.metagraph().await?);
        if metagraph.last_epoch_block.0 == 0 {
            return Err(skip("the chain has had no epoch yet"));
        }
        let rank = 1 + metagraph.neurons.iter().filter(|other| other.incentive > neuron.incentive).count();
        let share = 100.0 * f64::from(neuron.incentive) / f64::from(u16::MAX);
        let sentence = format!(
            "{share:.2} % of the miners' emission, {} rao in the last epoch, rank {rank} of {}",
            neuron.emission,
            metagraph.neurons.len()
        );
        if neuron.incentive > 0 { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_paid() {
        Lab::new().await.passes(&Incentive).await;
    }

    #[tokio::test]
    async fn fails_when_not() {
        let lab = Lab::with(|genesis| genesis.neurons.swap(1, 2)).await;
        let mut lab = lab;
        lab.subject.settings.wallet = "leader".into();
        lab.subject.facts = crate::facts::Facts::default();
        lab.fails(&Incentive, "0.00 %").await;
    }
}
