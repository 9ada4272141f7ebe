//! The node runs.

use crate::check::prelude::*;
use crate::probe::is_running;
use templar_node::journal::Entry;

/// The node runs.
pub struct Running;

#[async_trait(?Send)]
impl Check for Running {
    fn about(&self) -> About {
        About::new(
            "node.running",
            "the node runs",
            "a node that has ended earns nothing, and says so only in its journal",
            "start it; the last lines of the journal say why it ended",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?;
        if is_running(dir) == Some(true) {
            return Ok(pass(format!("a node runs in {}", dir.display())));
        }
        let tail = subject.journal().await?;
        let stopped = tail.lines.iter().rev().find_map(|line| match &line.entry {
            Entry::Stopped { why, .. } => Some(why.clone()),
            _ => None,
        });
        Err(fail(format!(
            "no node runs in {}; the last one ended: {}",
            dir.display(),
            stopped.unwrap_or_else(|| "without a word".to_owned())
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_while_it_runs() {
        let lab = Lab::new().await;
        let lock = std::fs::File::create(lab.node().join("lock")).unwrap();
        lock.lock().unwrap();
        lab.passes(&Running).await;
    }

    #[tokio::test]
    async fn fails_when_it_has_ended() {
        let mut lab = Lab::new().await;
        lab.journal(9, Entry::Stopped { kind: String::new(), why: "out of coffee".into() });
        lab.fails(&Running, "the last one ended: out of coffee").await;
    }
}
