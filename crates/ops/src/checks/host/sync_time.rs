//! A small file reaches the disk quickly.

use crate::check::prelude::*;
use std::time::{Duration, Instant};

/// A small file reaches the disk quickly.
pub struct SyncTime;

#[async_trait(?Send)]
impl Check for SyncTime {
    fn about(&self) -> About {
        About::new(
            "host.sync_time",
            "a small write reaches the disk quickly",
            "every window waits for several of them",
            "put --dir on a local disk instead of a network drive, and end other work on it",
        )
        .alone()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?.clone();
        let waited =
            tokio::task::spawn_blocking(move || median(&dir)).await.map_err(|error| fail(format!("writing broke down: {error}")))?;
        judge(waited.map_err(|why| fail(format!("the disk cannot be written: {why}")))?)
    }
}

/// The median time of five small synced writes.
fn median(dir: &std::path::Path) -> Result<Duration, String> {
    use std::io::Write;
    let place = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    let mut file = tempfile::NamedTempFile::new_in(place).map_err(failed)?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[2])
}

fn judge(time: Duration) -> Outcome {
    let sentence = format!("4 KiB reach the disk in {:.1} ms", time.as_secs_f64() * 1e3);
    Err(match time.as_millis() {
        0..=100 => return Ok(pass(sentence)),
        101..=1000 => warn(sentence),
        _ => fail(sentence),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn the_disk_is_measured_and_a_quick_one_passes() {
        let measured = Lab::new().await.finds(&SyncTime).await;
        assert!(measured.sentence.contains("4 KiB reach the disk in"), "{measured:?}");
        assert_eq!(judge(Duration::from_millis(4)).unwrap().verdict, crate::check::Verdict::Pass);
    }

    #[tokio::test]
    async fn fails_where_nothing_can_be_written_and_when_slow() {
        let mut lab = Lab::new().await;
        let file = lab.dir.path().join("a-file");
        std::fs::write(&file, "x").unwrap();
        lab.subject.settings.dir = Some(file);
        lab.fails(&SyncTime, "the disk cannot be written").await;
        assert_eq!(judge(Duration::from_secs(3)).unwrap_err().verdict, crate::check::Verdict::Fail);
    }
}
