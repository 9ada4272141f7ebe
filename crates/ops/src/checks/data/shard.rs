//! The shard that is trained on now can be read, and is what the manifest says.

use crate::check::prelude::*;
use object_store::{GetOptions, GetRange, ObjectStore, path::Path};
use templar_node::recipe;
use templar_protocol::{Digest, rotation::shard_of};

/// The largest file whose digest is computed for a check.
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// The shard that is trained on now can be read, and is what the manifest says.
pub struct Shard;

#[async_trait(?Send)]
impl Check for Shard {
    fn about(&self) -> About {
        About::new(
            "data.shard",
            "the present shard is there and intact",
            "a miner that trains on other bytes than it was assigned is refused",
            "tell the run's operators; meanwhile another place of the data set may have it",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (data, found, offer) = (subject.data().await?, subject.run().await?, subject.pointer().await?);
        let rules = recipe::rotation(found.run.hparams(), data.manifest.shards.len() as u32);
        let index = shard_of(offer.pointer.global_step, &rules);
        let shard = data
            .manifest
            .shard(index)
            .ok_or_else(|| fail(format!("shard {index} is due, the data set has {}", data.manifest.shards.len())))?;
        let file = &shard.tokens;
        let whole = file.size <= WHOLE_BYTES_MAX;
        let range = if whole { 0..file.size } else { 0..4096 };
        let mut why = String::new();
        for endpoint in &data.endpoints {
            let reading = async {
                let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
                let result = endpoint.store.get_opts(&Path::from(file.name.as_str()), options).await?;
                Ok::<_, object_store::Error>((result.meta.size, result.bytes().await?))
            };
            match tokio::time::timeout(2 * crate::subject::ANSWER, reading).await {
                Err(_) => why = format!("{} did not answer in time", endpoint.name),
                Ok(Err(error)) => why = format!("{}: {}", endpoint.name, templar_data::reason(&error)),
                Ok(Ok((size, _))) if size != file.size => {
                    why = format!("{} has {size} bytes at {}, not {}", file.name, endpoint.name, file.size)
                }
                Ok(Ok((_, bytes))) if whole && Digest::of(&bytes) != file.digest => {
                    why = format!("{} has another digest at {}", file.name, endpoint.name)
                }
                Ok(Ok(_)) => {
                    let proved = if whole { "with its digest" } else { "with its size" };
                    return Ok(pass(format!("shard {index} is at {}, {proved}", endpoint.name)));
                }
            }
        }
        Err(fail(format!("shard {index} cannot be had: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_data_set() {
        Lab::new().await.passes(&Shard).await;
    }

    #[tokio::test]
    async fn fails_when_changed() {
        let lab = Lab::new().await;
        let file = lab.subject.data().await.unwrap().manifest.shards[0].tokens.clone();
        lab.bucket("dataset").put(&file.name, vec![0; file.size as usize].into()).await.unwrap();
        lab.fails(&Shard, "another digest").await;
        lab.bucket("dataset").put(&file.name, vec![0; 5].into()).await.unwrap();
        lab.fails(&Shard, "").await;
        lab.bucket("dataset").delete(&file.name).await.unwrap();
        lab.fails(&Shard, "there is no ").await;
    }
}
