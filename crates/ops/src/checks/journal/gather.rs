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
            "a warning says that others failed to deliver, which is no fault of this node; after a failure see `store.download_rate`",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let windows = subject.windows(10).await?;
        let (mean, count) = measures::gather_success(&windows).ok_or_else(|| skip("no window with a manifest yet"))?;
        let sentence = format!("{:.0} % of the announced objects over {count} windows", 100.0 * mean);
        let lost_here = windows.iter().any(|entry| entry.manifest.is_some() && measures::lost_here(entry));
        Err(if mean >= measures::GATHER_GOOD {
            return Ok(pass(sentence));
        } else if !lost_here {
            warn(format!("{sentence}; all others were refused for all nodes, for reasons that the journal gives"))
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

    #[tokio::test]
    async fn what_nobody_gathers_is_no_fault_of_this_node() {
        let mut lab = Lab::new().await;
        let refused = |uids: std::ops::Range<u16>| uids.map(|uid| (templar_protocol::Uid(uid), "late: by 3 s".to_owned())).collect();
        let change = |lab: &mut Lab, of: std::ops::Range<u16>| {
            lab.write_journal(|entry| {
                (entry.gathered, entry.gather_success) = (vec![templar_protocol::Uid(1), templar_protocol::Uid(2)], 0.5);
                entry.refused = refused(of.clone());
            });
        };
        change(&mut lab, 3..5);
        lab.warns(&Gather, "50 % of the announced objects over 6 windows; all others were refused").await;
        change(&mut lab, 3..4);
        lab.fails(&Gather, "50 % of").await;
    }
}
