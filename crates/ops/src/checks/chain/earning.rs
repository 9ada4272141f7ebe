//! The leader's weights are not all on one uid, as they are where all emission is burned.

use crate::check::prelude::*;

/// The leader's weights are not all on one uid, as they are where all emission is burned.
pub struct Earning;

#[async_trait(?Send)]
impl Check for Earning {
    fn about(&self) -> About {
        About::new(
            "chain.earning",
            "emission goes to miners, and is not all on one uid",
            "where everything is burned, mining and renting machines for it earn nothing",
            "mine on a network that pays, or on one of your own: `templar localnet`",
        )
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (roster, metagraph) = (subject.roster_of(u32::MAX).await?, subject.metagraph().await?);
        let leader = roster.leader().ok_or_else(|| Missing::new("no validator has stake", "chain.leader"))?;
        let rows = subject.chain.weights(subject.settings.netuid, templar_chain::At::Best).await;
        let rows = rows.map_err(|error| Missing::new(error.to_string(), "chain.reachable"))?;
        let row = rows.iter().find(|(uid, _)| *uid == leader.uid).map(|(_, row)| row.as_slice()).unwrap_or_default();
        let total: u64 = row.iter().map(|(_, share)| u64::from(*share)).sum();
        let Some((uid, share)) = row.iter().max_by_key(|(_, share)| *share).filter(|_| total > 0) else {
            return Err(warn(format!("the leader, uid {}, has set no weights: nobody earns yet", leader.uid)));
        };
        let percent = 100.0 * f64::from(*share) / total as f64;
        let own = subject.neuron().await.is_ok_and(|neuron| neuron.uid == *uid);
        if percent > 99.0 && !own && metagraph.neurons.len() > 3 {
            return Err(warn(format!("{percent:.0} % of the leader's weight is on uid {uid}: expected earnings are zero")));
        }
        Ok(pass(format!("the leader weighs {} uids, the first has {percent:.0} %", row.iter().filter(|(_, share)| *share > 0).count())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_chain::{Chain, GenesisNeuron, Wait};
    use templar_protocol::Uid;
    use templar_wallet::Keypair;

    #[tokio::test]
    async fn passes_where_miners_are_paid() {
        Lab::new().await.passes(&Earning).await;
    }

    #[tokio::test]
    async fn warns_where_all_is_burned() {
        let more = Keypair::from_seed([9; 32]).public();
        let lab = Lab::with(|genesis| genesis.neurons.push(GenesisNeuron { hotkey: more, coldkey: more, stake: 0, permit: false })).await;
        lab.chain.put_weights(&lab.leader, NETUID, &[(Uid(3), u16::MAX)], 0, Wait::Submitted).await.unwrap();
        lab.chain.close_block().unwrap();
        lab.warns(&Earning, "is on uid 3: expected earnings are zero").await;
    }
}
