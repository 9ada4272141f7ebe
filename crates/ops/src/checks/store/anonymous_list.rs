//! Nobody can list the bucket without the key.

use crate::check::prelude::*;
use crate::probe::PROBES;
use templar_store::ErrorKind;

/// Nobody can list the bucket without the key.
pub struct AnonymousList;

#[async_trait(?Send)]
impl Check for AnonymousList {
    fn about(&self) -> About {
        About::new(
            "store.anonymous_list",
            "nobody lists the bucket without its key",
            "nobody needs to: names follow from uid and window; a listing shows objects before they are revealed",
            "withdraw the right to list from anonymous users",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let url = subject.bucket_url()?;
        let list = tokio::time::timeout(crate::subject::ANSWER, subject.anonymous(url.clone())?.list(PROBES)).await;
        match list {
            Ok(Err(error)) if error.kind() == ErrorKind::Denied => Ok(pass("a listing without a key was refused")),
            Ok(Ok(_)) => Err(warn(format!("anybody can list {url}"))),
            Ok(Err(error)) => Err(skip(format!("whether a listing without a key is refused is not known: {error}"))),
            Err(_) => Err(skip("whether a listing without a key is refused is not known: the store did not answer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_refused() {
        Lab::new().await.passes(&AnonymousList).await;
    }

    #[tokio::test]
    async fn warns_when_anybody_can() {
        let mut lab = Lab::new().await;
        lab.subject.settings.bucket = Some(format!("file://{}", lab.dir.path().join("open").display()));
        lab.warns(&AnonymousList, "anybody can list").await;
    }
}
