//! The node's θ is the leader's, digest by digest.

use crate::check::prelude::*;

/// The node's θ is the leader's, digest by digest.
pub struct InStep;

#[async_trait(?Send)]
impl Check for InStep {
    fn about(&self) -> About {
        About::new(
            "journal.in_step",
            "this node's θ is the one that the leader decides on",
            "an object from another θ is refused as desynchronised",
            "`templar miner --resync` with this node's --dir loads the newest checkpoint before the next window",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (windows, manifests) = (subject.windows(10).await?, subject.manifests().await?);
        let mut compared = 0;
        for entry in windows.iter().rev() {
            let Some(manifest) = manifests.iter().find(|manifest| manifest.window == entry.window.next()) else { continue };
            compared += 1;
            if manifest.theta_before != entry.state_digest {
                return Err(fail(format!(
                    "after window {} θ is {}, the leader has {}",
                    entry.window,
                    entry.state_digest.short(),
                    manifest.theta_before.short()
                )));
            }
        }
        if compared == 0 {
            return Err(skip("no manifest follows a window in the journal yet"));
        }
        Ok(pass(format!("θ was the leader's after {compared} windows")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_in_step() {
        Lab::new().await.passes(&InStep).await;
    }

    #[tokio::test]
    async fn fails_out_of_step() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| entry.state_digest = templar_protocol::Digest::of(b"elsewhere"));
        lab.fails(&InStep, "the leader has").await;
    }
}
