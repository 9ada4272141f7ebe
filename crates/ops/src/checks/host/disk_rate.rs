//! The disk takes the state of a window in the time that its end leaves.

use crate::check::prelude::*;
use std::time::Instant;

/// Bytes written to measure.
const SAMPLE: usize = 32 << 20;

/// The disk takes the state of a window in the time that its end leaves.
pub struct DiskRate;

#[async_trait(?Send)]
impl Check for DiskRate {
    fn about(&self) -> About {
        About::new(
            "host.disk_rate",
            "the disk saves the state fast enough",
            "the state must be on disk before the commit, and the commit must be out before the window ends",
            "put --dir on a faster disk",
        )
        .alone()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?.clone();
        let written =
            tokio::task::spawn_blocking(move || rate(&dir)).await.map_err(|error| fail(format!("writing broke down: {error}")))?;
        let rate = written.map_err(|why| fail(format!("the disk cannot be written: {why}")))?;
        let needed = match subject.traffic().await {
            Ok(traffic) => traffic.disk_gb_s.ok_or_else(|| warn("the run's timetable leaves no time to save the state"))?,
            Err(missing) => return Err(missing.into()),
        };
        judge(rate / 1e9, needed)
    }
}

/// Bytes a second that reach the disk.
fn rate(dir: &std::path::Path) -> Result<f64, String> {
    use std::io::Write;
    let place = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
    let bytes = crate::probe::noise(SAMPLE);
    let mut file = tempfile::NamedTempFile::new_in(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let begun = Instant::now();
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(|error| format!("{}: {error}", place.display()))?;
    Ok(SAMPLE as f64 / begun.elapsed().as_secs_f64().max(1e-6))
}

/// Twice the need is good.
fn judge(gb_s: f64, needed: f64) -> Outcome {
    let sentence = format!("{gb_s:.3} GB/s reach the disk, {needed:.4} GB/s are needed");
    Err(if gb_s >= 2.0 * needed {
        return Ok(pass(sentence));
    } else if gb_s >= needed {
        warn(sentence)
    } else {
        fail(sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_on_a_disk() {
        Lab::new().await.passes(&DiskRate).await;
    }

    #[tokio::test]
    async fn fails_where_nothing_can_be_written_and_when_slow() {
        let mut lab = Lab::new().await;
        let file = lab.dir.path().join("a-file");
        std::fs::write(&file, "x").unwrap();
        lab.subject.settings.dir = Some(file);
        lab.fails(&DiskRate, "the disk cannot be written").await;
        assert_eq!(judge(0.1, 0.2).unwrap_err().verdict, crate::check::Verdict::Fail);
    }
}
