//! The node has lived the last window.

use crate::check::prelude::*;

/// The node has lived the last window.
pub struct Window;

#[async_trait(?Send)]
impl Check for Window {
    fn about(&self) -> About {
        About::new(
            "journal.window",
            "the node is at the present window",
            "a node that lags behind catches up without being paid",
            "wait while it catches up; when it does not come nearer, see `engine.meets_deadline` and `store.download_rate`",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        // First of all: without a run there are no windows.
        let now = subject.window().await?.0;
        let windows = subject.windows(1).await.map_err(|missing| missing.failure("journal.window"))?;
        let last = windows.last().map_or(0, |entry| entry.window.0);
        let behind = now.saturating_sub(last);
        let sentence = format!("the last window lived is {last}, now is window {now}");
        Err(match behind {
            0..=2 => return Ok(pass(sentence)),
            3 => warn(sentence),
            _ => fail(sentence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_at_present() {
        Lab::new().await.passes(&Window).await;
    }

    #[tokio::test]
    async fn fails_behind() {
        let mut lab = Lab::new().await;
        lab.close_blocks(20);
        lab.fails(&Window, "the last window lived is 7, now is window 13").await;
    }
}
