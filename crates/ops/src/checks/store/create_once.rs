//! The store keeps to "create, unless it is there".

use crate::check::prelude::*;
use crate::probe::{noise, probe_key};
use templar_store::{ErrorKind, StoreError};

/// The store keeps to "create, unless it is there".
pub struct CreateOnce;

#[async_trait(?Send)]
impl Check for CreateOnce {
    fn about(&self) -> About {
        About::new(
            "store.create_once",
            "the store never replaces an object that is created twice",
            "a manifest decides a window; one that could be replaced would let two decisions be seen",
            "use a store that honours If-None-Match on a put",
        )
        .roles(&Role::VALIDATORS)
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (bucket, key) = (subject.own_bucket()?, probe_key("once"));
        let first = tokio::time::timeout(crate::subject::ANSWER, bucket.put_if_absent(&key, noise(40))).await;
        let second = tokio::time::timeout(crate::subject::ANSWER, bucket.put_if_absent(&key, noise(41))).await;
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = bucket.delete(&key).await;
        match (first, second) {
            (Ok(first), Ok(second)) => judge(first, second),
            _ => Err(fail("the store did not answer in time")),
        }
    }
}

fn judge(first: Result<(), StoreError>, second: Result<(), StoreError>) -> Outcome {
    match (first, second) {
        (Err(error), _) => Err(fail(error.to_string())),
        (Ok(()), Err(error)) if error.kind() == ErrorKind::AlreadyExists => Ok(pass("a second creation was refused")),
        (Ok(()), Err(error)) => Err(fail(format!("a second creation failed otherwise than it must: {error}"))),
        (Ok(()), Ok(())) => Err(fail("a second creation replaced the first object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_key() {
        Lab::new().await.leading().passes(&CreateOnce).await;
    }

    #[tokio::test]
    async fn fails_without_the_right_and_when_replaced() {
        let mut lab = Lab::new().await.leading();
        lab.subject.variables.set(templar_store::ENV_SECRET_ACCESS_KEY, "another");
        lab.fails(&CreateOnce, "cannot create").await;
        assert_eq!(judge(Ok(()), Ok(())).unwrap_err().verdict, crate::check::Verdict::Fail);
    }
}
