//! The way down carries all objects of a round in the time that the timetable leaves.

use super::upload_rate::judge;
use crate::check::prelude::*;
use std::time::Instant;
use templar_protocol::names;

/// Bytes read to measure, at most.
const SAMPLE: u64 = 8 << 20;

/// The way down carries all objects of a round in the time that the timetable leaves.
pub struct DownloadRate;

#[async_trait(?Send)]
impl Check for DownloadRate {
    fn about(&self) -> About {
        About::new(
            "store.download_rate",
            "the objects of a round come down within their time",
            "a node that gathers too slowly applies the round late, and misses the next window",
            "use a faster link, and end other traffic",
        )
        .alone()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (offer, traffic) = (subject.pointer().await?, subject.traffic().await?);
        let length = offer.pointer.file_bytes.min(SAMPLE);
        let begun = Instant::now();
        let key = names::checkpoint(&offer.pointer.file);
        let read = offer.bucket.get_range(&key, 0..length, subject.deadline()).await;
        let took = begun.elapsed();
        let read = read.map_err(|error| fail(format!("{length} bytes of a peer's object did not come down: {error}")))?;
        judge(read.len() as f64, took, traffic.down_bytes, traffic.down_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_on_loopback() {
        Lab::new().await.passes(&DownloadRate).await;
    }

    #[tokio::test]
    async fn fails_when_peers_objects_cannot_be_read() {
        let lab = Lab::new().await;
        let file = lab.subject.pointer().await.unwrap().pointer.file;
        lab.bucket("leader").delete(&names::checkpoint(&file)).await.unwrap();
        lab.fails(&DownloadRate, "did not come down").await;
    }
}
