//! This machine's clock agrees with the store's, as an object put now shows.

use super::judge;
use crate::check::prelude::*;

/// This machine's clock agrees with the store's, as an object put now shows.
pub struct StoreSkew;

#[async_trait(?Send)]
impl Check for StoreSkew {
    fn about(&self) -> About {
        About::new(
            "time.store_skew",
            "this machine's clock agrees with the store's",
            "a second clock, in both directions: it tells a wrong machine from a late chain",
            "let a time service keep the clock: systemd-timesyncd or chrony",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let before_ms = subject.now_ms();
        let probe = subject.probe("clock").await?;
        let after_ms = subject.now_ms();
        let info =
            probe.bucket.head(&probe.key, subject.deadline()).await.map_err(|error| Missing::new(error.to_string(), "store.write"))?;
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = probe.remove().await;
        let stored_ms = u64::try_from(info.last_modified_ms).unwrap_or(0);
        // The store counts whole seconds, and cuts what is over.
        let skew_ms = before_ms.saturating_sub(1000).saturating_sub(stored_ms).max(stored_ms.saturating_sub(after_ms));
        let sentence = format!("this clock and the store's differ by {:.1} s", skew_ms as f64 / 1e3);
        judge(skew_ms, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_right_time() {
        Lab::new().await.passes(&StoreSkew).await;
    }

    #[tokio::test]
    async fn fails_on_either_side() {
        let mut lab = Lab::new().await;
        for shift in [-60_000, 60_000] {
            lab.subject.clock = std::sync::Arc::new(Shifted(shift));
            lab.fails(&StoreSkew, "differ by").await;
        }
    }
}
