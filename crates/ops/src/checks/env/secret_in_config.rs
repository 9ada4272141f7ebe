//! The file with settings holds no secret: it is made to be shown and copied.

use crate::check::prelude::*;
use crate::settings::secret_values;

/// The file with settings holds no secret: it is made to be shown and copied.
pub struct SecretInConfig;

#[async_trait(?Send)]
impl Check for SecretInConfig {
    fn about(&self) -> About {
        About::new(
            "env.secret_in_config",
            "templar.toml contains no secret",
            "the file may be read by others, shown in a report or kept under version control",
            "move the value to the .env file, and make a new key: the old one must count as known",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let path = subject.settings.config_file.as_ref().ok_or_else(|| skip("there is no templar.toml"))?;
        let text = std::fs::read_to_string(path).map_err(|error| fail(format!("{}: {error}", path.display())))?;
        let secrets = secret_values(subject);
        if secrets.is_empty() {
            return Err(skip("no secret is configured that could be in it"));
        }
        match secrets.iter().find(|(_, value)| text.contains(value.expose().as_str())) {
            Some((name, _)) => Err(fail(format!("{} contains the value of {name}", path.display()))),
            None => Ok(pass(format!("{} contains none of {} secrets", path.display(), secrets.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_without_secrets() {
        Lab::new().await.passes(&SecretInConfig).await;
    }

    #[tokio::test]
    async fn fails_with_one_and_does_not_show_it() {
        let lab = Lab::new().await;
        std::fs::write(lab.subject.settings.config_file.as_ref().unwrap(), "# secret-of-miner-0123456789\n").unwrap();
        lab.fails(&SecretInConfig, "contains the value of TEMPLAR_S3_SECRET_ACCESS_KEY").await;
        assert!(!format!("{:?}", lab.finds(&SecretInConfig).await).contains("secret-of-miner"));
    }
}
