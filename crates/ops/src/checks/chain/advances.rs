//! The chain goes on: its newest block is young.

use crate::check::prelude::*;

/// The chain goes on: its newest block is young.
pub struct Advances;

#[async_trait(?Send)]
impl Check for Advances {
    fn about(&self) -> About {
        About::new(
            "chain.advances",
            "the chain's newest block is fresh",
            "a node behind a stalled endpoint trains in windows that are over",
            "use another endpoint, or wait until this one has caught up; check this machine's clock, too",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (info, head) = (subject.info().await?, subject.head().await?);
        if info.virtual_time {
            return Err(skip("time on this chain is virtual, so its blocks have no age"));
        }
        let (age_ms, block_ms) = (subject.now_ms().saturating_sub(head.time_ms), info.block_time_ms);
        let sentence = format!("block {} is {:.1} s old, blocks take {:.1} s", head.number, age_ms as f64 / 1e3, block_ms as f64 / 1e3);
        Err(if age_ms <= 3 * block_ms + 2000 {
            return Ok(pass(sentence));
        } else if age_ms <= 10 * block_ms {
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
    async fn passes_when_fresh() {
        Lab::new().await.passes(&Advances).await;
    }

    #[tokio::test]
    async fn fails_when_old() {
        let mut lab = Lab::new().await;
        lab.subject.clock = std::sync::Arc::new(Shifted(600_000));
        lab.fails(&Advances, "s old").await;
        lab.subject.clock = std::sync::Arc::new(Shifted(15_000));
        lab.warns(&Advances, "s old").await;
    }
}
