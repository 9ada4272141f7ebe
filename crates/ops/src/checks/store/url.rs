//! The bucket's URL is one that peers can be given.

use crate::check::prelude::*;
use templar_store::{BucketUrl, Reach};

/// The bucket's URL is one that peers can be given.
pub struct Url;

#[async_trait(?Send)]
impl Check for Url {
    fn about(&self) -> About {
        About::new(
            "store.url",
            "the bucket has a URL that peers can use",
            "the URL goes to the chain, in one commitment of 128 bytes, and everybody reads from there",
            "give https://host/bucket with --bucket or bucket.url",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let url = subject.bucket_url().map_err(|missing| missing.failure("store.url"))?;
        let peers = BucketUrl::parse_peer(&url.to_string()).map_err(|error| fail(format!("peers cannot use {url}: {error}")))?;
        if subject.http.reach() == Reach::Public && peers.is_private_host() {
            return Err(fail(format!("{url} is inside a network of one's own, where peers cannot reach it")));
        }
        Ok(pass(format!("{url} can go to the chain")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_store::Http;

    #[tokio::test]
    async fn passes_with_a_url() {
        Lab::new().await.passes(&Url).await;
    }

    #[tokio::test]
    async fn fails_for_urls_of_no_use_to_peers() {
        let mut lab = Lab::new().await;
        lab.subject.http = Http::new(Reach::Public).unwrap();
        lab.fails(&Url, "inside a network of one's own").await;
        lab.subject.settings.bucket = Some("file:///somewhere".into());
        lab.fails(&Url, "peers cannot use file:///somewhere").await;
        lab.subject.settings.bucket = Some("bucket".into());
        lab.fails(&Url, "is not a bucket's URL").await;
        lab.subject.settings.bucket = None;
        lab.fails(&Url, "no bucket is configured").await;
    }
}
