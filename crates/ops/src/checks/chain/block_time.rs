//! The run's timetable counts blocks of the length that the chain has.

use crate::check::prelude::*;

/// The run's timetable counts blocks of the length that the chain has.
pub struct BlockTime;

#[async_trait(?Send)]
impl Check for BlockTime {
    fn about(&self) -> About {
        About::new(
            "chain.block_time",
            "the run and the chain agree on the length of a block",
            "deadlines are computed from the nominal length; with another one every object is early or late",
            "join a run that was made for this chain",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (info, found) = (subject.info().await?, subject.run().await?);
        let (chain, run) = (info.block_time_ms, found.run.block_ms());
        if chain != run {
            return Err(fail(format!("blocks of the chain take {chain} ms, the run counts {run} ms")));
        }
        Ok(pass(format!("blocks take {chain} ms")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_both_agree() {
        Lab::new().await.passes(&BlockTime).await;
    }

    #[tokio::test]
    async fn fails_when_they_do_not() {
        let mut lab = Lab::new().await;
        lab.publish_run(|run| run.hparams.timetable.block_ms = 2000).await;
        lab.fails(&BlockTime, "3000 ms, the run counts 2000 ms").await;
    }
}
