//! There is a journal with entries.

use crate::check::prelude::*;

/// There is a journal with entries.
pub struct Present;

#[async_trait(?Send)]
impl Check for Present {
    fn about(&self) -> About {
        About::new(
            "journal.present",
            "the journal can be read",
            "all that a node decided is there; without it there is nothing to judge by",
            "start the node once, or name its directory with --dir",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let tail = subject.journal().await.map_err(|missing| missing.failure("journal.present"))?;
        if tail.lines.is_empty() {
            return Err(fail("the journal has no entry that can be read"));
        }
        Ok(pass(format!("{} entries in the last {} bytes", tail.lines.len(), tail.bytes.min(4 << 20))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_entries() {
        Lab::new().await.passes(&Present).await;
    }

    #[tokio::test]
    async fn fails_without() {
        let lab = Lab::new().await;
        std::fs::remove_file(lab.node().join("journal.jsonl")).unwrap();
        lab.fails(&Present, "journal.jsonl").await;
    }
}
