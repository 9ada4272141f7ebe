//! The objects of the rounds were gathered.

use crate::check::prelude::*;
use crate::watch::measures;

/// The objects of the rounds were gathered.
pub struct Gather;

#[async_trait(?Send)]
impl Check for Gather {
    fn about(&self) -> About {
        About::new(
            "journal.gather",
            "most of the announced objects are gathered",
            "below 75 % either the network or this node's way down is in trouble",
            "compare with other nodes: if only this one is low, see `store.download_rate`",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let windows = subject.windows(10).await?;
        let (mean, count) = measures::gather_success(&windows).ok_or_else(|| skip("no window with a manifest yet"))?;
        let sentence = format!("{:.0} % of the announced objects over {count} windows", 100.0 * mean);
        Err(if mean >= measures::GATHER_GOOD {
            return Ok(pass(sentence));
        } else if mean >= measures::GATHER_LOW {
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
    async fn passes_with_most() {
        Lab::new().await.passes(&Gather).await;
    }

    #[tokio::test]
    async fn fails_with_few() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| entry.gather_success = 0.5);
        lab.fails(&Gather, "50 % of").await;
        lab.write_journal(|entry| entry.gather_success = 0.8);
        lab.warns(&Gather, "80 % of").await;
    }
}
