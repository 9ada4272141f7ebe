//! The way up carries an object of the run within the upload window.

use crate::check::prelude::*;
use crate::probe::{noise, probe_key};
use std::time::{Duration, Instant};

/// Bytes sent to measure.
const SAMPLE: usize = 4 << 20;

/// The way up carries an object of the run within the upload window.
pub struct UploadRate;

#[async_trait(?Send)]
impl Check for UploadRate {
    fn about(&self) -> About {
        About::new(
            "store.upload_rate",
            "an object of the run goes up well within its deadline",
            "an object that is late counts as absent, however good it is",
            "use a faster or nearer store, end other traffic, or join a run with smaller objects",
        )
        .roles(&[Role::Miner])
        .alone()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (bucket, key, traffic) = (subject.own_bucket()?, probe_key("up"), subject.traffic().await?);
        let begun = Instant::now();
        let sent = bucket.put_by(&key, noise(SAMPLE), subject.deadline()).await;
        let took = begun.elapsed();
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = bucket.delete(&key).await;
        sent.map_err(|error| fail(format!("{SAMPLE} bytes did not go up: {error}")))?;
        judge(SAMPLE as f64, took, traffic.object_bytes, traffic.up_s)
    }
}

/// Half of the time is good, four fifths are too close.
pub fn judge(sample_bytes: f64, took: Duration, bytes: f64, seconds: f64) -> Outcome {
    let rate = sample_bytes / took.as_secs_f64().max(1e-6);
    let needs = bytes / rate;
    let sentence = format!("at {:.1} Mbit/s, {:.2} MB take {needs:.2} s of {seconds:.1} s", 8e-6 * rate, bytes / 1e6);
    let finding =
        |make: fn(String) -> Finding| make(sentence.clone()).with("bytes_per_s", rate).with("needs_s", needs).with("has_s", seconds);
    Err(if needs <= 0.5 * seconds {
        return Ok(finding(pass));
    } else if needs <= 0.8 * seconds {
        finding(warn)
    } else {
        finding(fail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_on_loopback() {
        Lab::new().await.passes(&UploadRate).await;
    }

    #[tokio::test]
    async fn fails_without_the_right_and_when_slow() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set(templar_store::ENV_SECRET_ACCESS_KEY, "another");
        lab.fails(&UploadRate, "did not go up").await;
        let verdict = |took_s| judge(1e6, Duration::from_secs(took_s), 1e7, 70.0).unwrap_or_else(|finding| finding).verdict;
        assert_eq!([3, 5, 7].map(verdict), [Verdict::Pass, Verdict::Warn, Verdict::Fail]);
    }
}
