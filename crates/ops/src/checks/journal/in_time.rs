//! What a window needs fits into it.

use crate::check::prelude::*;
use crate::watch::measures;

/// What a window needs fits into it.
pub struct InTime;

#[async_trait(?Send)]
impl Check for InTime {
    fn about(&self) -> About {
        About::new(
            "journal.in_time",
            "the work of a window fits into the window",
            "a node whose work takes longer skips every other window",
            "see `engine.meets_deadline`; fewer or faster steps, or a faster disk",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (windows, found) = (subject.windows(5).await?, subject.run().await?);
        let length = found.run.window_ms();
        let most = windows.iter().map(measures::work_ms).max().unwrap_or(0);
        let sentence = format!("the longest of {} windows needed {most} ms of {length} ms", windows.len());
        Err(if most * 20 <= length * 19 {
            return Ok(pass(sentence));
        } else if most <= length {
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
    async fn passes_when_short() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| _ = entry.phases_ms.insert("train".into(), 8000));
        lab.passes(&InTime).await;
    }

    #[tokio::test]
    async fn fails_when_longer_than_a_window() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| _ = entry.phases_ms.insert("train".into(), 13_000));
        lab.fails(&InTime, "needed 13000 ms of 12000 ms").await;
    }
}
