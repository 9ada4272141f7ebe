//! The own key deletes an object, and it is gone.

use crate::check::prelude::*;
use crate::probe::probe_key;
use templar_store::ErrorKind;

/// The own key deletes an object, and it is gone.
pub struct Delete;

#[async_trait(?Send)]
impl Check for Delete {
    fn about(&self) -> About {
        About::new(
            "store.delete",
            "the own key deletes objects",
            "what retention cannot delete is paid for, until the bucket is full",
            "let the key delete objects of the bucket",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let deleted = tokio::time::timeout(crate::subject::ANSWER, subject.own_bucket()?.delete(&probe_key("none"))).await;
        deleted.map_err(|_| fail("the store did not answer a deletion in time"))?.map_err(|error| fail(error.to_string()))?;
        let probe = subject.probe("delete").await?;
        let (bucket, key) = (probe.bucket.clone(), probe.key.clone());
        probe.remove().await.map_err(|error| fail(error.to_string()))?;
        match bucket.head(&key, subject.deadline()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(pass("an object put and deleted now is gone")),
            Err(error) => Err(Missing::new(error.to_string(), "store.write").into()),
            Ok(_) => Err(fail(format!("{key} is still there after it was deleted"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_key() {
        Lab::new().await.passes(&Delete).await;
    }

    #[tokio::test]
    async fn fails_without_the_right() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set(templar_store::ENV_SECRET_ACCESS_KEY, "another");
        lab.fails(&Delete, "cannot delete").await;
    }
}
