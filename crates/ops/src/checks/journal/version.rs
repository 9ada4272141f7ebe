//! The node runs the binary that examines it.

use crate::check::prelude::*;
use templar_node::journal::Entry;

/// The node runs the binary that examines it.
pub struct Version;

#[async_trait(?Send)]
impl Check for Version {
    fn about(&self) -> About {
        About::new(
            "journal.version",
            "the running node has this binary's version",
            "after an update the old program runs on until it is started again",
            "restart the node between two windows",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let tail = subject.journal().await?;
        let running = tail.lines.iter().rev().find_map(|line| match &line.entry {
            Entry::Started { version, .. } => Some(version.clone()),
            _ => None,
        });
        let running = running.ok_or_else(|| skip("the part of the journal that is read tells of no start"))?;
        let ours = env!("CARGO_PKG_VERSION");
        let sentence = format!("the node runs version {running}, this binary is {ours}");
        if running == ours { Ok(pass(sentence)) } else { Err(warn(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::Uid;

    #[tokio::test]
    async fn passes_with_the_same() {
        Lab::new().await.passes(&Version).await;
    }

    #[tokio::test]
    async fn warns_of_another() {
        let mut lab = Lab::new().await;
        lab.journal(9, Entry::Started { role: "miner".into(), version: "0.0.1".into(), hotkey: String::new(), uid: Uid(1), threads: 1 });
        lab.warns(&Version, "runs version 0.0.1").await;
    }
}
