//! The leader published the last decided window's manifest, in its own bucket and slot.

use crate::check::prelude::*;
use templar_node::signed;
use templar_protocol::messages::{Manifest as Decision, Message};
use templar_protocol::{Window, names};

/// The leader published the last decided window's manifest, in its own bucket and slot.
pub struct Manifest;

#[async_trait(?Send)]
impl Check for Manifest {
    fn about(&self) -> About {
        About::new(
            "leader.manifest",
            "this leader's manifests are published",
            "a window whose manifest is missing goes to the successor, or is void for everybody",
            "see the journal (`published`, `warning`), `store.create_once` and `time.chain_skew`",
        )
        .live()
        .roles(&[Role::Leader])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (bucket, found, now, hotkey) = (subject.own_bucket()?, subject.run().await?, subject.window().await?, subject.hotkey().await?);
        // The window before the last one is decided in any case.
        let due = Window(now.0.saturating_sub(2)).max(found.run.descriptor.start_window);
        let name = names::manifest(due, 0);
        let bytes = bucket.get(&name, Decision::BYTES_MAX, subject.deadline()).await.map_err(|error| fail(error.to_string()))?;
        let opened = signed::open::<Decision>(&bytes).map_err(|error| fail(format!("{name} does not count: {error}")))?;
        if opened.signer != hotkey || opened.message.run != found.run.id {
            return Err(fail(format!("{name} is of another run, or signed by another key")));
        }
        Ok(pass(format!("{name} accepts {} miners", opened.message.accepted.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_published() {
        Lab::new().await.leading().passes(&Manifest).await;
    }

    #[tokio::test]
    async fn fails_when_not() {
        let mut lab = Lab::new().await.leading();
        lab.close_blocks(20);
        lab.fails(&Manifest, "no such object").await;
    }
}
