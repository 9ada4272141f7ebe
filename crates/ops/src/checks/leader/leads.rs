//! This node is the leader.

use crate::check::prelude::*;

/// This node is the leader.
pub struct Leads;

#[async_trait(?Send)]
impl Check for Leads {
    fn about(&self) -> About {
        About::new(
            "leader.leads",
            "this node is the validator with the most stake",
            "only the first in the order of stake publishes first",
            "stake more on the hotkey, or examine it as a validator (--role validator)",
        )
        .roles(&[Role::Leader])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (neuron, roster) = (subject.neuron().await?, subject.roster_of(u32::MAX).await?);
        let leader = roster.leader().ok_or_else(|| Missing::new("no validator has stake", "chain.leader"))?;
        let sentence = format!("uid {} leads with stake {} rao, this node is uid {}", leader.uid, leader.stake, neuron.uid);
        if leader.uid == neuron.uid { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_for_the_leader() {
        Lab::new().await.leading().passes(&Leads).await;
    }

    #[tokio::test]
    async fn fails_for_another() {
        Lab::new().await.fails(&Leads, "uid 0 leads").await;
    }
}
