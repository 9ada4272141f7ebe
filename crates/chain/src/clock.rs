//! What time it is, and how to wait: real time, or the paced time of a development chain.

use futures::future::BoxFuture;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time as a node sees it, milliseconds since 1970.
pub trait Clock: Send + Sync {
    /// The present time, milliseconds since 1970. It never goes back.
    fn now_ms(&self) -> u64;
    /// Returns when [`Clock::now_ms`] is at least `ms`; at once when it is already.
    fn sleep_until(&self, ms: u64) -> BoxFuture<'_, ()>;
    /// Whether this time stands still while the node works, so that nothing real may be measured by it.
    fn is_virtual(&self) -> bool {
        false
    }
}

/// The machine's own clock. Its time follows the system's at the start and cannot jump afterwards.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    start: tokio::time::Instant,
    start_ms: u64,
}

impl RealClock {
    /// A clock that agrees with the system's now.
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now(), start_ms: system_ms() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The system's time, milliseconds since 1970; 0 before that.
pub(crate) fn system_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, ms: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A timer may fire a fraction of a millisecond early; the promise is about `now_ms`.
            while let Some(left) = ms.checked_sub(self.now_ms()).filter(|&left| left > 0) {
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn the_past_is_not_waited_for() {
        let clock = RealClock::new();
        let now_ms = clock.now_ms();
        assert!(now_ms >= 1_700_000_000_000, "milliseconds since 1970");
        assert!(clock.sleep_until(now_ms).now_or_never().is_some());
        assert!(clock.sleep_until(now_ms + 3_600_000).now_or_never().is_none());
        assert!(clock.now_ms() >= now_ms);
    }
}
