//! The newest checkpoint can be loaded, and is the θ that its pointer names.

use crate::check::prelude::*;
use templar_model::checkpoint;
use templar_node::recipe;
use templar_protocol::{ThetaDigest, names};

/// The largest file that is loaded for a check.
const WHOLE_BYTES_MAX: u64 = 256 << 20;

/// The newest checkpoint can be loaded, and is the θ that its pointer names.
pub struct CheckpointLoads;

#[async_trait(?Send)]
impl Check for CheckpointLoads {
    fn about(&self) -> About {
        About::new(
            "run.checkpoint_loads",
            "the newest checkpoint loads and has the leader's digest",
            "a damaged checkpoint would be found only after the whole download at the start",
            "wait for the next checkpoint, and tell the run's operators",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (offer, found) = (subject.pointer().await?, subject.run().await?);
        let (key, pointer) = (names::checkpoint(&offer.pointer.file), offer.pointer);
        if pointer.file_bytes > WHOLE_BYTES_MAX {
            let info = offer.bucket.head(&key, subject.deadline()).await.map_err(|error| fail(error.to_string()))?;
            if info.size_bytes != pointer.file_bytes {
                return Err(fail(format!("{key} has {} bytes, its pointer says {}", info.size_bytes, pointer.file_bytes)));
            }
            return Err(skip(format!("{key} is there with its {} bytes; it is too large to be loaded for a check", info.size_bytes)));
        }
        let bytes = offer.bucket.get(&key, pointer.file_bytes, subject.deadline()).await.map_err(|error| fail(error.to_string()))?;
        let config = recipe::llama(found.run.hparams(), None).map_err(|error| Missing::new(error.to_string(), "run.hyper_parameters"))?;
        let examined = tokio::task::spawn_blocking(move || {
            let specs = config.params();
            let loaded = checkpoint::decode(&specs, &bytes).map_err(|error| error.to_string())?;
            if loaded.digest != pointer.file {
                return Err("the file has another digest than its pointer names".to_owned());
            }
            let theta = ThetaDigest::of(&specs, &loaded.tensors).root;
            if theta != pointer.theta {
                return Err(format!("θ has the digest {}, its pointer names {}", theta.short(), pointer.theta.short()));
            }
            Ok(theta)
        });
        let theta = examined.await.map_err(|error| fail(format!("loading the checkpoint broke down: {error}")))?.map_err(fail)?;
        Ok(pass(format!("θ {} loads, as the leader names it", theta.short())).with("theta", theta.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::Digest;

    #[tokio::test]
    async fn passes_with_the_leaders_file() {
        Lab::new().await.passes(&CheckpointLoads).await;
    }

    #[tokio::test]
    async fn fails_with_another_file_and_another_digest() {
        let mut lab = Lab::new().await;
        let pointer = lab.subject.pointer().await.unwrap().pointer;
        let wrong = templar_protocol::messages::CheckpointPointer { theta: Digest::of(b"other"), ..pointer.clone() };
        lab.put_pointer(&wrong).await;
        lab.fails(&CheckpointLoads, "its pointer names").await;
        lab.bucket("leader").put(&names::checkpoint(&pointer.file), vec![0; pointer.file_bytes as usize].into()).await.unwrap();
        lab.fails(&CheckpointLoads, "").await;
    }
}
