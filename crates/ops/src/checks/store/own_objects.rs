//! Old objects are deleted: nothing in the bucket is far beyond its time.

use crate::check::prelude::*;
use templar_protocol::names;

/// Old objects are deleted: nothing in the bucket is far beyond its time.
pub struct OwnObjects;

#[async_trait(?Send)]
impl Check for OwnObjects {
    fn about(&self) -> About {
        About::new(
            "store.own_objects",
            "old objects leave the bucket in time",
            "a bucket that only grows costs money and one day refuses the next object",
            "let the key list and delete (`store.list`, `store.delete`); the node then deletes by itself at its next start",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (found, now) = (subject.run().await?, subject.window().await?);
        let keep = found.run.hparams().retention.objects_windows;
        let list = tokio::time::timeout(crate::subject::ANSWER, subject.own_bucket()?.list(names::OBJECTS)).await;
        let list = list.map_err(|_| Missing::new("the store did not answer in time", "store.list"))?;
        let objects = list.map_err(|error| Missing::new(error.to_string(), "store.list"))?;
        // The node deletes once a window; a few more than it must keep are no fault.
        let oldest = now.0.saturating_sub(keep + 5);
        let old = objects.iter().filter(|info| names::window_of(&info.key).is_some_and(|window| window.0 < oldest)).count();
        let bytes: u64 = objects.iter().map(|info| info.size_bytes).sum();
        let sentence = format!("{} objects, {bytes} bytes, {old} of them older than {} windows", objects.len(), keep + 5);
        if old == 0 { Ok(pass(sentence)) } else { Err(warn(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::{Uid, Window};

    #[tokio::test]
    async fn passes_with_young_objects() {
        let lab = Lab::new().await;
        lab.bucket("miner").put(&names::object(NOW, Uid(1)), "x".into()).await.unwrap();
        lab.passes(&OwnObjects).await;
    }

    #[tokio::test]
    async fn warns_of_old_ones() {
        let mut lab = Lab::new().await;
        lab.bucket("miner").put(&names::object(Window(1), Uid(1)), "x".into()).await.unwrap();
        lab.close_blocks(80);
        lab.warns(&OwnObjects, "1 of them older").await;
    }
}
