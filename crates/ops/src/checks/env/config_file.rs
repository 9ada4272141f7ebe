//! The file with settings can be read, and every key in it means something.

use crate::check::prelude::*;
use crate::settings::Config;

/// The file with settings can be read, and every key in it means something.
pub struct ConfigFile;

#[async_trait(?Send)]
impl Check for ConfigFile {
    fn about(&self) -> About {
        About::new(
            "env.config_file",
            "templar.toml is valid and has no unknown keys",
            "a key that is not known has no effect",
            "correct the file; `templar config show` prints every key with its value and origin",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let path = subject.settings.config_file.as_ref().ok_or_else(|| skip("there is no templar.toml"))?;
        let config = Config::read(path).map_err(|error| fail(error.to_string()))?;
        Ok(pass(format!("{} sets {} values", path.display(), config.values().len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_valid() {
        Lab::new().await.passes(&ConfigFile).await;
    }

    #[tokio::test]
    async fn fails_on_unknown_keys_and_on_rubbish() {
        let lab = Lab::new().await;
        let path = lab.subject.settings.config_file.clone().unwrap();
        std::fs::write(&path, "[network]\nnetuit = 3\n").unwrap();
        lab.fails(&ConfigFile, "network.netuit").await;
        std::fs::write(&path, "[network\n").unwrap();
        lab.fails(&ConfigFile, "line 1").await;
    }
}
