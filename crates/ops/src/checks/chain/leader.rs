//! There is a validator that decides, and its bucket can be found.

use crate::check::prelude::*;

/// There is a validator that decides, and its bucket can be found.
pub struct Leader;

#[async_trait(?Send)]
impl Check for Leader {
    fn about(&self) -> About {
        About::new(
            "chain.leader",
            "the subnet has a validator with stake, permit and bucket",
            "manifests, run descriptor and checkpoints come from the validators' buckets",
            "wait for the run's operators, or check the number of the subnet",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let roster = subject.roster_of(u32::MAX).await?;
        let leader = roster.leader().ok_or_else(|| fail("no neuron has a permit and stake"))?;
        match &leader.bucket {
            Some(url) => Ok(pass(format!("uid {} leads, its bucket is {url}", leader.uid)).with("uid", leader.uid.0)),
            None => Err(fail(format!("uid {} leads and names no bucket that can be read", leader.uid))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_one() {
        Lab::new().await.passes(&Leader).await;
    }

    #[tokio::test]
    async fn fails_without_stake() {
        Lab::with(|genesis| (genesis.neurons[0].stake, genesis.neurons[0].permit) = (0, false))
            .await
            .fails(&Leader, "no neuron has a permit")
            .await;
    }
}
