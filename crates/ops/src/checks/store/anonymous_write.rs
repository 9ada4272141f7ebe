//! Nobody can write into the bucket without the key.

use crate::check::prelude::*;
use crate::probe::{noise, probe_key};
use templar_store::ErrorKind;

/// Nobody can write into the bucket without the key.
pub struct AnonymousWrite;

#[async_trait(?Send)]
impl Check for AnonymousWrite {
    fn about(&self) -> About {
        About::new(
            "store.anonymous_write",
            "nobody writes into the bucket without its key",
            "whoever can write here can replace this node's objects, and have it refused",
            "withdraw every right but reading objects by name from anonymous users",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (url, key) = (subject.bucket_url()?, probe_key("anonymous"));
        let put = subject.anonymous(url.clone())?.put_by(&key, noise(50), subject.deadline()).await;
        match put {
            Err(error) if error.kind() == ErrorKind::Denied => Ok(pass("a put without a key was refused")),
            Err(error) => Err(skip(format!("whether a put without a key is refused is not known: {error}"))),
            Ok(()) => {
                // What should not have been possible is undone as well as it can be.
                let _ = subject.own_bucket()?.delete(&key).await;
                Err(fail(format!("anybody can write into {url}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_refused() {
        Lab::new().await.passes(&AnonymousWrite).await;
    }

    #[tokio::test]
    async fn fails_when_anybody_can() {
        let mut lab = Lab::new().await;
        lab.subject.settings.bucket = Some(format!("file://{}", lab.dir.path().join("open").display()));
        lab.fails(&AnonymousWrite, "anybody can write").await;
    }
}
