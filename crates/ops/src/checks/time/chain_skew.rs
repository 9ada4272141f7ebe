//! This machine's clock is not behind the chain's: a block cannot come from the future.

use super::judge;
use crate::check::prelude::*;

/// This machine's clock is not behind the chain's: a block cannot come from the future.
pub struct ChainSkew;

#[async_trait(?Send)]
impl Check for ChainSkew {
    fn about(&self) -> About {
        About::new(
            "time.chain_skew",
            "this machine's clock agrees with the chain's",
            "deadlines are instants of the chain; a wrong clock makes every object early or late",
            "let a time service keep the clock: systemd-timesyncd or chrony",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (info, head) = (subject.info().await?, subject.head().await?);
        if info.virtual_time {
            return Err(skip("time on this chain is virtual"));
        }
        // That the clock is ahead cannot be told from a late block; `chain.advances` and `time.store_skew` see that side.
        let behind_ms = head.time_ms.saturating_sub(subject.now_ms());
        let sentence = format!("this clock is {:.1} s behind block {}", behind_ms as f64 / 1e3, head.number);
        judge(behind_ms, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_right_time() {
        Lab::new().await.passes(&ChainSkew).await;
    }

    #[tokio::test]
    async fn fails_behind() {
        let mut lab = Lab::new().await;
        lab.subject.clock = std::sync::Arc::new(Shifted(-20_000));
        lab.fails(&ChainSkew, "s behind").await;
        lab.subject.clock = std::sync::Arc::new(Shifted(-4_500));
        lab.warns(&ChainSkew, "s behind").await;
    }
}
