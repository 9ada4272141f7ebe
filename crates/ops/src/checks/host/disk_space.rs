//! The disk has room for shards, a checkpoint and the private state.

use crate::check::prelude::*;

/// The disk has room for shards, a checkpoint and the private state.
pub struct DiskSpace;

#[async_trait(?Send)]
impl Check for DiskSpace {
    fn about(&self) -> About {
        About::new(
            "host.disk_space",
            "the disk has room for shards, checkpoint and state",
            "on a full disk the state cannot be saved, and an object without saved state is not sent",
            "free some space, or put --dir on a larger disk",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let free = subject.machine.disk_free_bytes.ok_or_else(|| skip("the free space of the disk is not known"))?;
        let (data, found) = (subject.data().await?, subject.run().await?);
        let shard = data.manifest.shards.iter().map(|shard| shard.tokens.size + shard.ids.size).max().unwrap_or(0);
        let theta = 4 * found.run.hparams().model.parameter_count();
        // Two shards, a checkpoint, and twice residual and two moments, because the new state is written beside the old one.
        let needs = 2 * shard + theta + 6 * theta;
        let sentence = format!("{:.1} GB are free, {:.3} GB are needed", free as f64 / 1e9, needs as f64 / 1e9);
        Err(if free >= needs + needs / 2 {
            return Ok(pass(sentence));
        } else if free >= needs {
            warn(sentence)
        } else {
            fail(sentence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_room() {
        Lab::new().await.passes(&DiskSpace).await;
    }

    #[tokio::test]
    async fn fails_without() {
        let mut lab = Lab::new().await;
        lab.subject.machine.disk_free_bytes = Some(1000);
        lab.fails(&DiskSpace, "are needed").await;
    }
}
