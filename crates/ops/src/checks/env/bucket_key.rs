//! The bucket's key is in the environment, both parts, as they are and without what copying adds.

use crate::check::prelude::*;
use templar_store::{ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY};

/// The bucket's key is in the environment, both parts, as they are and without what copying adds.
pub struct BucketKey;

#[async_trait(?Send)]
impl Check for BucketKey {
    fn about(&self) -> About {
        About::new(
            "env.bucket_key",
            "both parts of the bucket's key are set, without quotes or spaces",
            "without a key nothing can be written, and a quote or a line's end that came along gives a wrong signature",
            "set TEMPLAR_S3_ACCESS_KEY_ID and TEMPLAR_S3_SECRET_ACCESS_KEY, for example in the .env file beside templar.toml",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        if subject.bucket_url().is_ok_and(|url| !url.is_http()) {
            return Err(skip("a bucket on this machine's disk needs no key"));
        }
        for name in [ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY] {
            let value = subject.variables.get(name).ok_or_else(|| fail(format!("{name} is not set")))?;
            if let Some(bad) = value.chars().find(|c| c.is_whitespace() || c.is_control() || "'\"".contains(*c)) {
                return Err(fail(format!("{name} contains {bad:?}, which no access key does")));
            }
        }
        Ok(pass("both parts of the bucket's key are set"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_key() {
        Lab::new().await.passes(&BucketKey).await;
    }

    #[tokio::test]
    async fn fails_without_one_and_with_a_quote() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set(ENV_SECRET_ACCESS_KEY, "\"quoted\"");
        lab.fails(&BucketKey, "contains '\"'").await;
        lab.subject.variables.remove(ENV_SECRET_ACCESS_KEY);
        lab.fails(&BucketKey, "TEMPLAR_S3_SECRET_ACCESS_KEY is not set").await;
    }
}
