//! The own key lists the bucket, and the listing is up to date.

use crate::check::prelude::*;
use crate::probe::PROBES;

/// The own key lists the bucket, and the listing is up to date.
pub struct List;

#[async_trait(?Send)]
impl Check for List {
    fn about(&self) -> About {
        About::new(
            "store.list",
            "the own key lists the bucket",
            "old objects are found by a listing and deleted; without it the bucket grows without end",
            "let the key list the bucket",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let list = tokio::time::timeout(crate::subject::ANSWER, subject.own_bucket()?.list(PROBES)).await;
        list.map_err(|_| fail("the store did not answer a listing in time"))?.map_err(|error| fail(error.to_string()))?;
        let probe = subject.probe("list").await?;
        let list = probe.bucket.list(PROBES).await;
        let key = probe.key.clone();
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = probe.remove().await;
        match list {
            Ok(found) if found.iter().any(|info| info.key == key) => Ok(pass("an object put now is in the listing")),
            Ok(found) => Err(fail(format!("an object put now is not among the {} that the listing shows", found.len()))),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_key() {
        Lab::new().await.passes(&List).await;
    }

    #[tokio::test]
    async fn fails_without_the_right() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set(templar_store::ENV_SECRET_ACCESS_KEY, "another");
        lab.fails(&List, "cannot list").await;
    }
}
