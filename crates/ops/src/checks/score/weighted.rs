//! The leader gives this miner weight.

use crate::check::prelude::*;

/// The leader gives this miner weight.
pub struct Weighted;

#[async_trait(?Send)]
impl Check for Weighted {
    fn about(&self) -> About {
        About::new(
            "score.weighted",
            "the leader gives this miner weight",
            "weight is what a score becomes on the chain",
            "see `score.accepted` and `journal.in_step`; a new miner needs some windows of good scores first",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, roster) = (subject.neuron().await?, subject.roster_of(u32::MAX).await?);
        let leader = roster.leader().ok_or_else(|| Missing::new("no validator has stake", "chain.leader"))?;
        let rows = subject.chain.weights(subject.settings.netuid, templar_chain::At::Best).await;
        let rows = rows.map_err(|error| Missing::new(error.to_string(), "chain.reachable"))?;
        let row = rows.iter().find(|(uid, _)| *uid == leader.uid).map(|(_, row)| row.as_slice()).unwrap_or_default();
        let total: u64 = row.iter().map(|(_, share)| u64::from(*share)).sum();
        if total == 0 {
            return Err(skip("the leader has set no weights yet"));
        }
        let own = row.iter().find(|(uid, _)| *uid == neuron.uid).map_or(0, |(_, share)| u64::from(*share));
        let rank = 1 + row.iter().filter(|(_, share)| u64::from(*share) > own).count();
        let sentence = format!(
            "the leader gives uid {} {:.2} % of its weight, rank {rank} of {}",
            neuron.uid,
            100.0 * own as f64 / total as f64,
            row.len()
        );
        if own > 0 { Ok(pass(sentence).with("rank", rank)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_chain::{Chain, Wait};
    use templar_protocol::Uid;

    #[tokio::test]
    async fn passes_with_weight() {
        Lab::new().await.passes(&Weighted).await;
    }

    #[tokio::test]
    async fn fails_without() {
        let lab = Lab::new().await;
        lab.chain.put_weights(&lab.leader, NETUID, &[(Uid(2), u16::MAX)], 0, Wait::Submitted).await.unwrap();
        lab.chain.close_block().unwrap();
        lab.fails(&Weighted, "gives uid 1 0.00 %").await;
    }
}
