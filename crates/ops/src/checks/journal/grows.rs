//! The journal grows: its last line is young.

use crate::check::prelude::*;

/// The journal grows: its last line is young.
pub struct Grows;

#[async_trait(?Send)]
impl Check for Grows {
    fn about(&self) -> About {
        About::new(
            "journal.grows",
            "the journal's last line is recent",
            "a node that writes nothing for two windows hangs, or has ended",
            "look at the last lines and at the process; restart the node if it hangs",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (tail, info) = (subject.journal().await?, subject.info().await?);
        if info.virtual_time {
            return Err(skip("time on this chain is virtual"));
        }
        let newest_ms = tail.lines.last().map_or(0, |line| line.t_ms);
        let window_ms = subject.run().await?.run.window_ms();
        let age_ms = subject.now_ms().saturating_sub(newest_ms);
        let sentence = format!("the last line is {:.0} s old, a window takes {:.0} s", age_ms as f64 / 1e3, window_ms as f64 / 1e3);
        Err(if age_ms <= 2 * window_ms {
            return Ok(pass(sentence));
        } else if age_ms <= 3 * window_ms {
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
    async fn passes_when_young() {
        Lab::new().await.passes(&Grows).await;
    }

    #[tokio::test]
    async fn fails_when_old() {
        let mut lab = Lab::new().await;
        lab.subject.clock = std::sync::Arc::new(Shifted(120_000));
        lab.fails(&Grows, "s old").await;
        lab.subject.clock = std::sync::Arc::new(Shifted(30_000));
        lab.warns(&Grows, "s old").await;
    }
}
