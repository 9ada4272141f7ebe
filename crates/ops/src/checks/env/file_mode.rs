//! Only its owner can read the file with the secrets.

use crate::check::prelude::*;
use crate::probe::{mode_of, set_mode};

/// Only its owner can read the file with the secrets.
pub struct FileMode;

#[async_trait(?Send)]
impl Check for FileMode {
    fn about(&self) -> About {
        About::new(
            "env.file_mode",
            "only its owner may read the .env file",
            "the file holds the key with which anybody could overwrite this node's objects",
            "chmod 600 on the file, or `templar doctor --fix`",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let path = subject.settings.env_file.as_ref().ok_or_else(|| skip("there is no .env file"))?;
        let mode = mode_of(path).map_err(|error| fail(format!("{}: {error}", path.display())))?;
        if mode & 0o077 != 0 {
            return Err(fail(format!("{} has mode {mode:04o}", path.display())));
        }
        Ok(pass(format!("{} has mode {mode:04o}", path.display())))
    }

    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let path = subject.settings.env_file.as_ref()?;
        Some(set_mode(path, 0o600).map(|()| format!("{} has mode 0600 now", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_for_its_owner_alone() {
        Lab::new().await.passes(&FileMode).await;
    }

    #[tokio::test]
    async fn fails_for_others_until_repaired() {
        let lab = Lab::new().await;
        set_mode(lab.subject.settings.env_file.as_ref().unwrap(), 0o644).unwrap();
        lab.fails(&FileMode, "mode 0644").await;
        assert!(FileMode.fix(&lab.subject).unwrap().is_ok());
        lab.passes(&FileMode).await;
    }
}
