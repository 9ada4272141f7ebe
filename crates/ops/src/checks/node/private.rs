//! Only its owner can look into the node's directory.

use crate::check::prelude::*;
use crate::probe::{mode_of, set_mode};

/// Only its owner can look into the node's directory.
pub struct Private;

#[async_trait(?Send)]
impl Check for Private {
    fn about(&self) -> About {
        About::new(
            "node.private",
            "only its owner may look into the node's directory",
            "residual and unrevealed objects are there; whoever reads them can copy this miner",
            "chmod 700 on the directory, or `templar doctor --fix`",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?;
        if !dir.exists() {
            return Err(skip("the directory is not there yet"));
        }
        let mode = mode_of(dir).map_err(|error| fail(format!("{}: {error}", dir.display())))?;
        let sentence = format!("{} has mode {mode:04o}", dir.display());
        if mode & 0o077 == 0 { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }

    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let dir = subject.dir().ok()?;
        Some(set_mode(dir, 0o700).map(|()| format!("{} has mode 0700 now", dir.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_for_its_owner_alone() {
        Lab::new().await.passes(&Private).await;
    }

    #[tokio::test]
    async fn fails_for_others_until_repaired() {
        let lab = Lab::new().await;
        set_mode(&lab.node(), 0o755).unwrap();
        lab.fails(&Private, "mode 0755").await;
        assert!(Private.fix(&lab.subject).unwrap().is_ok());
        lab.passes(&Private).await;
    }
}
