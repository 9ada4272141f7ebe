//! The node does not complain all the time.

use crate::check::prelude::*;
use templar_node::journal::Entry;

/// The node does not complain all the time.
pub struct Warnings;

#[async_trait(?Send)]
impl Check for Warnings {
    fn about(&self) -> About {
        About::new(
            "journal.warnings",
            "the node's journal is not full of warnings",
            "a node goes on where it can, and says what it had to go round",
            "read them: each says what failed, why and what the node did",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let tail = subject.journal().await?;
        let recent = &tail.lines[tail.lines.len().saturating_sub(100)..];
        let warnings: Vec<&String> = recent
            .iter()
            .filter_map(|line| match &line.entry {
                Entry::Warning { text, .. } => Some(text),
                _ => None,
            })
            .collect();
        let sentence = format!("{} of the last {} entries are warnings", warnings.len(), recent.len());
        match warnings.last() {
            Some(last) if warnings.len() * 5 >= recent.len() => {
                Err(warn(format!("{sentence}; the last: {}", last.chars().take(200).collect::<String>())))
            }
            _ => Ok(pass(sentence)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_quiet() {
        Lab::new().await.passes(&Warnings).await;
    }

    #[tokio::test]
    async fn warns_when_loud() {
        let mut lab = Lab::new().await;
        (0..9).for_each(|count| lab.journal(count, Entry::Warning { kind: String::new(), text: format!("complaint {count}") }));
        lab.warns(&Warnings, "complaint 8").await;
    }
}
