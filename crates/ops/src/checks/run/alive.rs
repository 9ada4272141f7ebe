//! The run goes on: recent windows were decided.

use crate::check::prelude::*;

/// The run goes on: recent windows were decided.
pub struct Alive;

#[async_trait(?Send)]
impl Check for Alive {
    fn about(&self) -> About {
        About::new(
            "run.alive",
            "recent windows of the run were decided",
            "where no manifests appear, nobody trains, and nobody is paid",
            "wait for the validators; compare with other miners whether it is only this node that sees nothing",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (manifests, now, found) =
            (subject.manifests().await.map_err(|missing| missing.failure("run.alive"))?, subject.window().await?, subject.run().await?);
        let newest = manifests.first().map_or(found.run.descriptor.start_window, |manifest| manifest.window);
        let age = now.0.saturating_sub(newest.0);
        let sentence = format!("the newest manifest is of window {newest}, now is window {now}");
        Err(match age {
            0..=2 => return Ok(pass(sentence)),
            3..=4 => warn(sentence),
            _ => fail(sentence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_manifests() {
        Lab::new().await.passes(&Alive).await;
    }

    #[tokio::test]
    async fn fails_when_they_end() {
        let mut lab = Lab::new().await;
        lab.close_blocks(8);
        lab.warns(&Alive, "newest manifest is of window 7").await;
        let mut lab = Lab::new().await;
        lab.close_blocks(60);
        lab.fails(&Alive, "there is no manifest").await;
    }
}
