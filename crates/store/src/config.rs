//! What is needed to open a bucket: its place, the region that signatures name, and keys if it is to be written.

use crate::{BucketUrl, Secret};

/// Environment variable of the access key's id.
pub const ENV_ACCESS_KEY_ID: &str = "TEMPLAR_S3_ACCESS_KEY_ID";
/// Environment variable of the access key's secret.
pub const ENV_SECRET_ACCESS_KEY: &str = "TEMPLAR_S3_SECRET_ACCESS_KEY";

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Public part.
    pub access_key_id: String,
    /// Secret part; never printed.
    pub secret: Secret<String>,
}

impl Credentials {
    /// A key from its two parts.
    pub fn new(access_key_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { access_key_id: access_key_id.into(), secret: Secret::new(secret.into()) }
    }

    /// The key in [`ENV_ACCESS_KEY_ID`] and [`ENV_SECRET_ACCESS_KEY`]; `None` unless both are set and not empty.
    pub fn from_env() -> Option<Self> {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self::new(read(ENV_ACCESS_KEY_ID)?, read(ENV_SECRET_ACCESS_KEY)?))
    }
}

/// A bucket to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// Where it is.
    pub url: BucketUrl,
    /// The region that signatures name; see [`BucketConfig::region_or_default`].
    pub region: Option<String>,
    /// The key to write with; without one, reads are anonymous.
    pub credentials: Option<Credentials>,
}

impl BucketConfig {
    /// A bucket that is read without a key.
    pub fn anonymous(url: BucketUrl) -> Self {
        Self { url, region: None, credentials: None }
    }

    /// A bucket that is written with `credentials`.
    pub fn with_credentials(url: BucketUrl, credentials: Credentials) -> Self {
        Self { url, region: None, credentials: Some(credentials) }
    }

    /// The region, or `auto` for R2 and `us-east-1` elsewhere.
    pub fn region_or_default(&self) -> &str {
        let r2 = || self.url.endpoint().is_some_and(|endpoint| endpoint.ends_with(".r2.cloudflarestorage.com"));
        self.region.as_deref().unwrap_or_else(|| if r2() { "auto" } else { "us-east-1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_config_hides_the_secret() {
        let url = BucketUrl::parse("http://127.0.0.1:9000/miner-1").unwrap();
        let config = BucketConfig::with_credentials(url, Credentials::new("AK", "very-secret"));
        let text = format!("{config:?}");
        assert!(text.contains("AK") && !text.contains("very-secret"), "{text}");
    }

    #[test]
    fn r2_signs_for_the_region_auto() {
        let r2 = BucketConfig::anonymous(BucketUrl::parse("https://0a.r2.cloudflarestorage.com/bucket").unwrap());
        let other = BucketConfig::anonymous(BucketUrl::parse("https://host.example/bucket").unwrap());
        assert_eq!((r2.region_or_default(), other.region_or_default()), ("auto", "us-east-1"));
    }
}
