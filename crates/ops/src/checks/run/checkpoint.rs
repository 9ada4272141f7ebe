//! A checkpoint of the run is offered, and it is not old.

use crate::check::prelude::*;

/// A checkpoint of the run is offered, and it is not old.
pub struct Checkpoint;

#[async_trait(?Send)]
impl Check for Checkpoint {
    fn about(&self) -> About {
        About::new(
            "run.checkpoint",
            "a recent checkpoint of the run is offered",
            "a node joins from a checkpoint, and must live through every window since then again",
            "wait for the next one; a leader that writes none must look at its disk and bucket",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let offer = subject.pointer().await.map_err(|missing| missing.failure("run.checkpoint"))?;
        let (now, found) = (subject.window().await?, subject.run().await?);
        let age = now.0.saturating_sub(offer.pointer.next_window.0);
        let every = found.run.hparams().checkpoint_frequency.max(1);
        let sentence = format!(
            "uid {} offers window {}, {age} windows old ({} bytes)",
            offer.from, offer.pointer.next_window, offer.pointer.file_bytes
        );
        if age <= 3 * every { Ok(pass(sentence)) } else { Err(warn(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::names;

    #[tokio::test]
    async fn passes_with_a_fresh_one() {
        Lab::new().await.passes(&Checkpoint).await;
    }

    #[tokio::test]
    async fn fails_without_one_and_warns_of_an_old_one() {
        let mut lab = Lab::new().await;
        lab.close_blocks(60);
        lab.warns(&Checkpoint, "windows old").await;
        let lab = Lab::new().await;
        lab.bucket("leader").delete(names::CHECKPOINT_LATEST).await.unwrap();
        lab.fails(&Checkpoint, "no validator offers a checkpoint").await;
    }
}
