//! An upload in parts is put together to the object that was sent.

use crate::check::prelude::*;
use crate::probe::{noise, probe_key};
use object_store::{ObjectStoreExt, path::Path};
use templar_protocol::Digest;

/// The least size of a part that S3 knows, and a little more.
const PART: usize = 5 << 20;

/// An upload in parts is put together to the object that was sent.
pub struct Multipart;

#[async_trait(?Send)]
impl Check for Multipart {
    fn about(&self) -> About {
        About::new(
            "store.multipart",
            "an upload in parts arrives whole",
            "large objects and checkpoints go in parts, and a store may refuse them though it takes small ones",
            "let the key upload in parts; on stores with an own minimum size of parts, use one that keeps to 5 MiB",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (bucket, key) = (subject.own_bucket()?, probe_key("parts"));
        let (path, bytes) = (Path::from(key.as_str()), noise(PART + 1000));
        let store = bucket.object_store();
        let sending = async {
            let mut upload = store.put_multipart(&path).await?;
            upload.put_part(bytes.slice(..PART).into()).await?;
            upload.put_part(bytes.slice(PART..).into()).await?;
            upload.complete().await
        };
        let sent = tokio::time::timeout(2 * crate::subject::ANSWER, sending).await;
        sent.map_err(|_| fail("5 MiB in parts did not arrive in time"))?
            .map_err(|error| fail(format!("an upload in parts failed: {}", templar_data::reason(&error))))?;
        let read = bucket.get(&key, 2 * PART as u64, subject.deadline()).await;
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = bucket.delete(&key).await;
        let read = read.map_err(|error| fail(error.to_string()))?;
        if Digest::of(&read) != Digest::of(&bytes) {
            return Err(fail(format!("{} bytes went in two parts, {} others came back", bytes.len(), read.len())));
        }
        Ok(pass(format!("{} bytes in two parts came back whole", bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_key() {
        Lab::new().await.passes(&Multipart).await;
    }

    #[tokio::test]
    async fn fails_without_the_right() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set(templar_store::ENV_SECRET_ACCESS_KEY, "another");
        lab.fails(&Multipart, "an upload in parts failed").await;
    }
}
