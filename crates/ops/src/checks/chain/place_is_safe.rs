//! The next registration does not push this node off the subnet.

use crate::check::prelude::*;

/// The next registration does not push this node off the subnet.
pub struct PlaceIsSafe;

#[async_trait(?Send)]
impl Check for PlaceIsSafe {
    fn about(&self) -> About {
        About::new(
            "chain.place_is_safe",
            "this node is not the next to lose its place",
            "on a full subnet a new neuron replaces the one with the least emission whose immunity is over",
            "earn more than the last, or register again when it has happened; the checks of `score` tell what is missing",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, metagraph, rules, head) =
            (subject.neuron().await?, subject.metagraph().await?, subject.rules().await?, subject.head().await?);
        let slots = usize::from(rules.max_allowed_uids);
        if metagraph.neurons.len() < slots {
            return Ok(pass(format!("{} of {slots} places are taken, so nobody is replaced", metagraph.neurons.len())));
        }
        let immune = |registered: u64| head.number.0.saturating_sub(registered) < rules.immunity_period;
        let others = metagraph.neurons.iter().filter(|other| other.uid != neuron.uid && !other.permit && !immune(other.registered_at.0));
        let worse = others.filter(|other| other.emission < neuron.emission).count();
        if immune(neuron.registered_at.0) {
            let left = rules.immunity_period - (head.number.0 - neuron.registered_at.0);
            return Ok(pass(format!("the subnet is full, and this node is immune for {left} more blocks")));
        }
        let sentence = format!("the subnet is full and {worse} replaceable neurons earn less than this node's {} rao", neuron.emission);
        Err(match worse {
            0 => fail(sentence),
            1..=5 => warn(sentence),
            _ => return Ok(pass(sentence)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_while_there_is_room() {
        Lab::new().await.passes(&PlaceIsSafe).await;
        let young = Lab::with(|genesis| (genesis.rules.max_allowed_uids, genesis.rules.immunity_period) = (3, 1000)).await;
        young.passes(&PlaceIsSafe).await;
    }

    #[tokio::test]
    async fn fails_for_the_last_of_a_full_subnet() {
        let full = Lab::with(|genesis| (genesis.rules.max_allowed_uids, genesis.rules.immunity_period) = (3, 0)).await;
        full.fails(&PlaceIsSafe, "0 replaceable neurons earn less").await;
    }
}
