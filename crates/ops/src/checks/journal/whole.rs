//! Every line of the journal is complete and readable.

use crate::check::prelude::*;

/// Every line of the journal is complete and readable.
pub struct Whole;

#[async_trait(?Send)]
impl Check for Whole {
    fn about(&self) -> About {
        About::new(
            "journal.whole",
            "every line of the journal is whole",
            "lines that cannot be read mean a full disk, a kill in the middle of a write, or somebody else's hand",
            "free some space; the node ends a torn line at its next start",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let tail = subject.journal().await?;
        if tail.torn {
            return Err(fail("the last line is torn"));
        }
        if tail.unreadable > 0 {
            return Err(warn(format!("{} of {} lines cannot be read", tail.unreadable, tail.unreadable + tail.lines.len())));
        }
        Ok(pass(format!("all {} lines are whole", tail.lines.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use std::io::Write;

    #[tokio::test]
    async fn passes_with_whole_lines() {
        Lab::new().await.passes(&Whole).await;
    }

    #[tokio::test]
    async fn fails_with_a_torn_one_and_warns_of_rubbish() {
        let mut lab = Lab::new().await;
        let append = |lab: &Lab, text: &str| {
            let file = std::fs::File::options().append(true).open(lab.node().join("journal.jsonl"));
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        append(&lab, "rubbish\n");
        lab.warns(&Whole, "1 of").await;
        lab.subject.facts = crate::facts::Facts::default();
        append(&lab, "{\"v\":1,");
        lab.fails(&Whole, "torn").await;
    }
}
