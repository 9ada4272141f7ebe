//! Paced time, the chain's side: virtual time goes on only when every expected participant sleeps.
//!
//! A participant is a named session: an open stream, and at most one sleep. When as many sessions as expected are there and all of
//! them sleep, time jumps to the earliest wake-up; every block whose time comes on the way is closed before anybody is woken. So what
//! a network does depends on what its nodes decide and not on how fast they are. While somebody is missing, time stands still.

use crate::{
    dev::DevChain,
    error::{ChainError, Result},
    types::BlockRef,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{oneshot, watch};

/// Sessions at once.
const SESSIONS_MAX: usize = 256;
/// The longest name of a session, bytes.
const NAME_BYTES_MAX: usize = 64;
/// A sleep longer than this is one without end: time does not jump there.
const JUMP_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// A request to sleep: `POST /pace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepRequest {
    /// The session's name.
    pub session: String,
    /// The number that its stream began with.
    pub incarnation: u64,
    /// When to wake up, virtual milliseconds since 1970.
    pub until_ms: u64,
}

/// The time that a participant is told: at the start of its stream, and when it wakes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceTime {
    /// The session's incarnation.
    pub incarnation: u64,
    /// Virtual time, milliseconds since 1970.
    pub now_ms: u64,
    /// The newest closed block.
    pub head: BlockRef,
}

/// Where pacing stands: `GET /pace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceStatus {
    /// Virtual time, milliseconds since 1970.
    pub now_ms: u64,
    /// Participants that must be there.
    pub expected: usize,
    /// The participants, with the time until which each sleeps; `None` while it is awake.
    pub sessions: BTreeMap<String, Option<u64>>,
}

#[derive(Debug)]
struct Session {
    incarnation: u64,
    sleep: Option<Sleep>,
    /// Dropped when another stream takes over the name, which ends the old stream.
    _stay: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Sleep {
    id: u64,
    until_ms: u64,
    wake: oneshot::Sender<PaceTime>,
}

#[derive(Debug)]
struct Inner {
    expected: usize,
    now_ms: u64,
    sessions: BTreeMap<String, Session>,
    next_id: u64,
}

/// Holds the participants of a paced chain and moves its time. Clones share one.
#[derive(Clone, Debug)]
pub struct Pacer {
    chain: DevChain,
    inner: Arc<Mutex<Inner>>,
    failure: watch::Sender<Option<ChainError>>,
}

fn refuse<T>(what: impl Into<String>) -> Result<T> {
    Err(ChainError::Unsupported { what: what.into() })
}

impl Pacer {
    /// Paces `chain`, whose time is virtual, for `expected` participants. Time goes on from the newest block's.
    pub fn new(chain: DevChain, expected: usize) -> Self {
        let now_ms = chain.best().time_ms;
        let inner = Inner { expected, now_ms, sessions: BTreeMap::new(), next_id: 1 };
        Self { chain, inner: Arc::new(Mutex::new(inner)), failure: watch::channel(None).0 }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where pacing stands.
    pub fn status(&self) -> PaceStatus {
        let inner = self.lock();
        let sessions = inner.sessions.iter().map(|(name, s)| (name.clone(), s.sleep.as_ref().map(|sleep| sleep.until_ms))).collect();
        PaceStatus { now_ms: inner.now_ms, expected: inner.expected, sessions }
    }

    /// From now on `expected` participants must be there.
    pub fn expect(&self, expected: usize) {
        let mut inner = self.lock();
        inner.expected = expected;
        self.advance(&mut inner);
    }

    /// Resolves when the chain's disk has failed.
    pub async fn failed(&self) -> ChainError {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // The sender lives as long as `self`, and the condition asks for an error.
            _ => std::future::pending().await,
        }
    }

    /// Lets a participant in; one of the same name is replaced.
    ///
    /// # Errors
    /// `Unsupported` when the name is empty or too long, or when there are too many participants.
    pub fn join(&self, name: &str) -> Result<Presence> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return refuse(format!("a session name of {} bytes: use 1 to {NAME_BYTES_MAX}", name.len()));
        }
        let mut inner = self.lock();
        if inner.sessions.len() >= SESSIONS_MAX && !inner.sessions.contains_key(name) {
            return refuse(format!("more than {SESSIONS_MAX} sessions"));
        }
        let incarnation = inner.id();
        let (stay, replaced) = oneshot::channel();
        inner.sessions.insert(name.into(), Session { incarnation, sleep: None, _stay: stay });
        let time = PaceTime { incarnation, now_ms: inner.now_ms, head: self.chain.best() };
        drop(inner);
        Ok(Presence { pacer: self.clone(), name: name.into(), time, replaced })
    }

    /// Sleeps until virtual time is `request.until_ms`. Dropping the future ends the sleep.
    ///
    /// # Errors
    /// `Unsupported` when the session is not there, or when it was replaced or slept again meanwhile.
    pub async fn sleep(&self, request: SleepRequest) -> Result<PaceTime> {
        let (wake, woken) = oneshot::channel();
        let _awake = {
            let mut inner = self.lock();
            let id = inner.id();
            let Some(session) = inner.sessions.get_mut(&request.session).filter(|s| s.incarnation == request.incarnation) else {
                return refuse(format!("a sleep of session {:?}, which has no stream: open it first", request.session));
            };
            session.sleep = Some(Sleep { id, until_ms: request.until_ms, wake });
            self.advance(&mut inner);
            Awake { pacer: self, session: request.session, id }
        };
        woken.await.or_else(|_| refuse("two sleeps of one session at a time: the later one counts"))
    }

    /// Wakes whose time has come, then moves time as far as it goes: until somebody is awake or missing.
    fn advance(&self, inner: &mut Inner) {
        self.wake(inner);
        if inner.sessions.is_empty() || inner.sessions.len() < inner.expected {
            return;
        }
        // Somebody who is awake counts as `None`, which sorts first.
        let Some(target) = inner.sessions.values().map(|s| s.sleep.as_ref().map(|sleep| sleep.until_ms)).min().flatten() else { return };
        if target > inner.now_ms.saturating_add(JUMP_MS_MAX) {
            return;
        }
        let interval_ms = self.chain.block_time().interval_ms();
        while self.chain.best().time_ms.saturating_add(interval_ms) <= target {
            if let Err(error) = self.chain.close_block() {
                self.failure.send_replace(Some(error));
                return;
            }
        }
        inner.now_ms = inner.now_ms.max(target);
        self.wake(inner);
    }

    fn wake(&self, inner: &mut Inner) {
        let (now_ms, head) = (inner.now_ms, self.chain.best());
        for session in inner.sessions.values_mut() {
            if let Some(sleep) = session.sleep.take_if(|sleep| sleep.until_ms <= now_ms) {
                // A participant that has just gone leaves by its own way.
                let _ = sleep.wake.send(PaceTime { incarnation: session.incarnation, now_ms, head });
            }
        }
    }
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// A participant's stay; it leaves when this is dropped.
#[derive(Debug)]
pub struct Presence {
    pacer: Pacer,
    name: String,
    /// The time on joining.
    pub time: PaceTime,
    replaced: oneshot::Receiver<()>,
}

impl Presence {
    /// Resolves when another stream has taken over the name.
    pub async fn replaced(&mut self) {
        // Both a message and a dropped sender mean the same.
        let _ = (&mut self.replaced).await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut inner = self.pacer.lock();
        if inner.sessions.get(&self.name).is_some_and(|session| session.incarnation == self.time.incarnation) {
            inner.sessions.remove(&self.name);
        }
        // With more participants than expected, the others may now all be asleep.
        self.pacer.advance(&mut inner);
    }
}

/// Ends a sleep whose caller went away.
struct Awake<'a> {
    pacer: &'a Pacer,
    session: String,
    id: u64,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        let mut inner = self.pacer.lock();
        if let Some(session) = inner.sessions.get_mut(&self.session) {
            session.sleep.take_if(|sleep| sleep.id == self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockTime, GenesisConfig};
    use futures::FutureExt as _;
    use std::pin::pin;
    use templar_protocol::{BlockNumber, Netuid};

    fn pacer(expected: usize) -> (Pacer, u64) {
        let config = GenesisConfig::new(Netuid(3));
        let chain = DevChain::in_memory(&config, BlockTime::Virtual(250)).unwrap();
        (Pacer::new(chain, expected), config.genesis_ms)
    }

    fn sleep(presence: &Presence, until_ms: u64) -> SleepRequest {
        SleepRequest { session: presence.name.clone(), incarnation: presence.time.incarnation, until_ms }
    }

    #[test]
    fn a_sleep_without_end_never_drags_time_along() {
        let (pacer, start_ms) = pacer(2);
        let (one, two) = (pacer.join("one").unwrap(), pacer.join("two").unwrap());
        let mut forever = pin!(pacer.sleep(sleep(&one, u64::MAX)));
        assert!(forever.as_mut().now_or_never().is_none());
        let woken = pacer.sleep(sleep(&two, start_ms + 1000)).now_or_never().unwrap().unwrap();
        assert_eq!((woken.now_ms, woken.head.number), (start_ms + 1000, BlockNumber(4)));
        assert!(pacer.sleep(sleep(&two, u64::MAX)).now_or_never().is_none());
        assert_eq!(pacer.status().now_ms, start_ms + 1000);
    }

    #[test]
    fn a_sleep_that_is_over_ends_whoever_is_missing() {
        let (pacer, start_ms) = pacer(5);
        let one = pacer.join("one").unwrap();
        assert_eq!(pacer.sleep(sleep(&one, start_ms)).now_or_never().unwrap().unwrap().now_ms, start_ms);
        assert!(pacer.sleep(sleep(&one, start_ms + 1)).now_or_never().is_none());
        // The dropped sleep is gone, and more participants than expected must all sleep.
        assert_eq!(pacer.status().sessions["one"], None);
        pacer.expect(0);
        assert_eq!(pacer.status().now_ms, start_ms);
    }

    #[test]
    fn a_replaced_session_cannot_sleep() {
        let (pacer, start_ms) = pacer(1);
        let mut old = pacer.join("node").unwrap();
        let new = pacer.join("node").unwrap();
        assert!(old.replaced().now_or_never().is_some());
        assert!(matches!(pacer.sleep(sleep(&old, start_ms + 9)).now_or_never().unwrap(), Err(ChainError::Unsupported { .. })));
        drop(old);
        assert_eq!(pacer.sleep(sleep(&new, start_ms + 9)).now_or_never().unwrap().unwrap().now_ms, start_ms + 9);
    }

    #[test]
    fn participants_are_bounded() {
        let (pacer, _) = pacer(1);
        assert!(pacer.join("").is_err() && pacer.join(&"x".repeat(65)).is_err());
        let all: Vec<_> = (0..SESSIONS_MAX).map(|i| pacer.join(&i.to_string()).unwrap()).collect();
        assert!(pacer.join("one more").is_err());
        drop(all);
        assert!(pacer.status().sessions.is_empty() && pacer.join("one more").is_ok());
    }
}
