//! No other process works in the node's directory.

use crate::check::prelude::*;
use crate::probe::is_running;

/// No other process works in the node's directory.
pub struct Free;

#[async_trait(?Send)]
impl Check for Free {
    fn about(&self) -> About {
        About::new(
            "node.free",
            "no other node works in the directory",
            "two nodes with one hotkey contradict each other, and look like a copy of each other",
            "stop the other node, or give this one a directory of its own",
        )
        .preflight()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?;
        match is_running(dir) {
            Some(true) => Err(fail(format!("a node is running in {}", dir.display()))),
            Some(false) => Ok(pass(format!("nobody holds the lock of {}", dir.display()))),
            None => Ok(pass(format!("there is no lock in {}", dir.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_free() {
        Lab::new().await.passes(&Free).await;
    }

    #[tokio::test]
    async fn fails_while_a_node_runs() {
        let lab = Lab::new().await;
        let lock = std::fs::File::create(lab.node().join("lock")).unwrap();
        lock.lock().unwrap();
        lab.fails(&Free, "a node is running").await;
    }
}
