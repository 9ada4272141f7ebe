//! Only its owner can read the hotkey's file.

use crate::check::prelude::*;
use crate::probe::{mode_of, set_mode};
use std::path::PathBuf;

/// Only its owner can read the hotkey's file.
pub struct FileModes;

#[async_trait(?Send)]
impl Check for FileModes {
    fn about(&self) -> About {
        About::new(
            "wallet.file_modes",
            "only its owner may read the hotkey's file",
            "whoever reads it can act as this node",
            "chmod 600 on the file, or `templar doctor --fix`",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let path = hotkey(subject).map_err(fail)?;
        let mode = mode_of(&path).map_err(|error| Missing::new(format!("{}: {error}", path.display()), "wallet.hotkey"))?;
        if mode & 0o077 != 0 {
            return Err(fail(format!("{} has mode {mode:04o}", path.display())));
        }
        Ok(pass(format!("{} has mode {mode:04o}", path.display())))
    }

    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let path = hotkey(subject).ok()?;
        Some(set_mode(&path, 0o600).map(|()| format!("{} has mode 0600 now", path.display())))
    }
}

fn hotkey(subject: &Subject) -> Result<PathBuf, String> {
    subject.wallets().hotkey_path(&subject.settings.wallet, &subject.settings.hotkey).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_for_its_owner_alone() {
        Lab::new().await.passes(&FileModes).await;
    }

    #[tokio::test]
    async fn fails_for_others_until_repaired() {
        let lab = Lab::new().await;
        set_mode(&hotkey(&lab.subject).unwrap(), 0o640).unwrap();
        lab.fails(&FileModes, "mode 0640").await;
        assert!(FileModes.fix(&lab.subject).unwrap().is_ok());
        lab.passes(&FileModes).await;
    }
}
