//! What a node's own threads do and when: the host's spans of a profile.
//!
//! Clones share one record. Nothing is kept unless somebody has asked for a record, and a record is bounded: what goes beyond is
//! counted and left out, so that a node that waits for days does not grow.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The node's phases, as the journal names them.
pub const PHASES: &str = "/host:templar phases";
/// The thread that owns the heavy state.
pub const WORKER: &str = "/host:templar worker";
/// The thread that reads batches ahead.
pub const READER: &str = "/host:templar reader";
/// The thread that brings moments to the host while the worker compresses.
pub const OFFLOAD: &str = "/host:templar offload";

/// Name of the worker's spans in which it waits for tokens.
pub const WAIT: &str = "wait for data";

/// Spans that a record keeps.
const SPANS_MAX: usize = 100_000;

/// One thing that a thread of the node did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpan {
    /// One of the tracks above.
    pub track: &'static str,
    /// What was done.
    pub name: String,
    /// When it began.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Spans since the last [`Timeline::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// In the order of their ends.
    pub spans: Vec<HostSpan>,
    /// Those that did not fit.
    pub left_out: u64,
}

/// A shared record of spans, and the clock that times them.
#[derive(Clone)]
pub struct Timeline {
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    record: Arc<Mutex<Option<Record>>>,
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timeline")
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl Timeline {
    /// A timeline that records nothing yet, with `now` as its clock.
    pub fn with_clock(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), record: Arc::default() }
    }

    /// Begins a record, or ends one and forgets it.
    pub fn record(&self, on: bool) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = on.then(Record::default);
    }

    /// What was recorded, which is then forgotten; the record goes on.
    pub fn take(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Does `work` and gives its result and its time.
    pub fn time<T>(&self, track: &'static str, name: &str, work: impl FnOnce() -> T) -> (T, Duration) {
        let begun = (self.now)();
        let result = work();
        (result, self.add(track, name, begun))
    }

    /// Adds what was done from `begun` until now, and gives its time.
    pub fn add(&self, track: &'static str, name: &str, begun: Instant) -> Duration {
        let took = (self.now)().saturating_duration_since(begun);
        if let Some(record) = self.record.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            if record.spans.len() < SPANS_MAX {
                record.spans.push(HostSpan { track, name: name.to_owned(), begun, took });
            } else {
                record.left_out += 1;
            }
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_kept() {
        let start = Instant::now();
        let timeline = Timeline::with_clock(move || start + Duration::from_secs(5));
        assert_eq!(timeline.add(WORKER, "before", start), Duration::from_secs(5));
        assert_eq!(timeline.take(), Record::default());
        timeline.clone().record(true);
        assert_eq!(timeline.time(WORKER, "work", || 7), (7, Duration::ZERO));
        timeline.add(PHASES, "train", start);
        let span = |track, name: &str, begun, took| HostSpan { track, name: name.into(), begun, took };
        let five = Duration::from_secs(5);
        let spans = vec![span(WORKER, "work", start + five, Duration::ZERO), span(PHASES, "train", start, five)];
        assert_eq!(timeline.take(), Record { spans, left_out: 0 });
        for _ in 0..SPANS_MAX + 3 {
            timeline.add(WORKER, "work", start);
        }
        let record = timeline.take();
        assert_eq!((record.spans.len(), record.left_out), (SPANS_MAX, 3));
        timeline.record(false);
        timeline.add(WORKER, "after", start);
        assert_eq!(timeline.take(), Record::default());
    }
}
