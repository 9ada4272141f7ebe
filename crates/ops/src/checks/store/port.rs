//! The store's host accepts connections.

use crate::check::prelude::*;

/// The store's host accepts connections.
pub struct Port;

#[async_trait(?Send)]
impl Check for Port {
    fn about(&self) -> About {
        About::new(
            "store.port",
            "the store's host accepts connections",
            "a name that does not resolve, a closed port and a refused key have different remedies",
            "check the bucket's URL and the firewall",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let url = subject.bucket_url()?;
        let endpoint = url.endpoint().ok_or_else(|| skip("a bucket on this machine's disk has no port"))?;
        let authority = crate::checks::chain::port::authority(&endpoint).ok_or_else(|| fail(format!("{endpoint} has no host")))?;
        crate::probe::connects(&authority).await.map(|ms| pass(format!("{authority} accepts connections ({ms} ms)"))).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_where_the_store_listens() {
        Lab::new().await.passes(&Port).await;
    }

    #[tokio::test]
    async fn fails_where_nothing_does() {
        let mut lab = Lab::new().await;
        lab.subject.settings.bucket = Some("http://127.0.0.1:1/miner".into());
        lab.fails(&Port, "refused").await;
    }
}
