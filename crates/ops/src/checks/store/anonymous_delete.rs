//! Nobody can delete an object without the key.

use crate::check::prelude::*;
use templar_store::ErrorKind;

/// Nobody can delete an object without the key.
pub struct AnonymousDelete;

#[async_trait(?Send)]
impl Check for AnonymousDelete {
    fn about(&self) -> About {
        About::new(
            "store.anonymous_delete",
            "nobody deletes an object without the key",
            "an object that somebody else deletes before the deadline counts as absent",
            "withdraw every right but reading objects by name from anonymous users",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let url = subject.bucket_url()?;
        let (peers, probe) = (subject.anonymous(url.clone())?, subject.probe("deleted").await?);
        let deleted = tokio::time::timeout(crate::subject::ANSWER, peers.delete(&probe.key)).await;
        let still = probe.bucket.head(&probe.key, subject.deadline()).await;
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = probe.remove().await;
        match (deleted, still) {
            (_, Err(error)) if error.kind() == ErrorKind::NotFound => Err(fail(format!("anybody can delete objects of {url}"))),
            (Ok(Err(error)), Ok(_)) if error.kind() == ErrorKind::Denied => {
                Ok(pass("a deletion without a key was refused, and the object is still there"))
            }
            (Ok(Ok(())), Ok(_)) => Err(warn("a deletion without a key was accepted, but the object is still there")),
            _ => Err(skip("whether a deletion without a key is refused is not known: the store did not answer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_refused() {
        Lab::new().await.passes(&AnonymousDelete).await;
    }

    #[tokio::test]
    async fn fails_when_anybody_can() {
        let mut lab = Lab::new().await;
        lab.subject.settings.bucket = Some(format!("file://{}", lab.dir.path().join("open").display()));
        lab.fails(&AnonymousDelete, "anybody can delete").await;
    }
}
