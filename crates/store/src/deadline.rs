//! Time limits as data: a moment ([`Deadline`]) or a rule that turns a size into a duration ([`Pace`]).

use std::time::Duration;
use tokio::time::Instant;

/// A year: durations are cut to it, so that arithmetic on moments cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The moment by which an operation must have ended; afterwards it fails with [`crate::ErrorKind::Deadline`].
///
/// Counted by tokio's clock, hence virtual in tests that pause it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `limit` from now (at most a year).
    pub fn within(limit: Duration) -> Self {
        Self(Instant::now() + limit.min(LONGEST))
    }

    /// At `moment`.
    pub fn at(moment: Instant) -> Self {
        Self(moment)
    }

    /// The moment.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// The time left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// How long a transfer may take: `base + bytes / bytes_per_s_min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time for connecting and the answer's first byte, granted to every operation.
    pub base: Duration,
    /// The least throughput that is still worth waiting for, in bytes per second; 0 counts as 1.
    pub bytes_per_s_min: u64,
}

impl Pace {
    /// The time for an operation that moves `bytes` (at most a year).
    pub fn time_for(&self, bytes: u64) -> Duration {
        let transfer_ms = u128::from(bytes) * 1000 / u128::from(self.bytes_per_s_min.max(1));
        let transfer = Duration::from_millis(u64::try_from(transfer_ms).unwrap_or(u64::MAX));
        self.base.saturating_add(transfer).min(LONGEST)
    }
}

impl Default for Pace {
    /// 30 s and 1 MiB/s.
    fn default() -> Self {
        Self { base: Duration::from_secs(30), bytes_per_s_min: 1 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_adds_base_and_transfer_and_saturates() {
        let pace = Pace { base: Duration::from_secs(2), bytes_per_s_min: 100 };
        assert_eq!(pace.time_for(0), Duration::from_secs(2));
        assert_eq!(pace.time_for(250), Duration::from_millis(4500));
        assert_eq!(Pace { bytes_per_s_min: 0, ..pace }.time_for(u64::MAX), LONGEST);
    }
}
