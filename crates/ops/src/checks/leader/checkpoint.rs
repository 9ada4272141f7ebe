//! The leader's checkpoints come as often as the run says.

use crate::check::prelude::*;
use templar_node::signed;
use templar_protocol::messages::{CheckpointPointer, Message};
use templar_protocol::names;

/// The leader's checkpoints come as often as the run says.
pub struct Checkpoint;

#[async_trait(?Send)]
impl Check for Checkpoint {
    fn about(&self) -> About {
        About::new(
            "leader.checkpoint",
            "this leader's checkpoints are recent",
            "without one, joiners live through all windows since the last, and a fork cannot be repaired",
            "see disk and bucket (`host.disk_space`, `store.write`), and the journal (`checkpoint`, `warning`)",
        )
        .live()
        .roles(&[Role::Leader])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (bucket, found, now) = (subject.own_bucket()?, subject.run().await?, subject.window().await?);
        let bytes = bucket.get(names::CHECKPOINT_LATEST, CheckpointPointer::BYTES_MAX, subject.deadline()).await;
        let opened = signed::open::<CheckpointPointer>(&bytes.map_err(|error| fail(error.to_string()))?);
        let pointer = opened.map_err(|error| fail(format!("the pointer does not count: {error}")))?.message;
        let (age, every) = (now.0.saturating_sub(pointer.next_window.0), found.run.hparams().checkpoint_frequency.max(1));
        let sentence = format!("the last checkpoint is {age} windows old, one is due every {every}");
        if pointer.run != found.run.id {
            return Err(fail("the pointer is of another run"));
        }
        if age <= 2 * every + 2 { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_recent() {
        Lab::new().await.leading().passes(&Checkpoint).await;
    }

    #[tokio::test]
    async fn fails_when_old() {
        let mut lab = Lab::new().await.leading();
        lab.close_blocks(80);
        lab.fails(&Checkpoint, "windows old").await;
    }
}
