//! Paced time, the node's side: a clock whose time moves only while the node sleeps.
//!
//! One [`PacedClock`] is one session with one task. A node with several tasks gives each its own [`PacedClock::fork`]: the session sleeps
//! only while every fork sleeps. Work that should hold time back needs nothing but a clock that is awake.
//! The session outlives the chain: after a restart it joins again and asks for its sleep anew. Time never goes back.

use crate::{
    clock::Clock,
    error::{ChainError, Result},
    http::{Backoff, Http, Lines, persist},
    pace::{PaceTime, SleepRequest},
    types::BlockRef,
};
use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// How long a chain that does not answer is tried on connecting.
const PERSISTENCE: Duration = Duration::from_secs(30);

/// A participant's clock. Dropping the last fork leaves the session.
#[derive(Debug)]
pub struct PacedClock {
    shared: Arc<Shared>,
    fork: u64,
}

#[derive(Debug)]
struct Shared {
    session: String,
    state: Mutex<State>,
    /// The time at which the session wants to wake up; `None` while it is awake.
    wanted: watch::Sender<Option<u64>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct State {
    now_ms: u64,
    head: BlockRef,
    /// For each fork the number of its sleeps.
    forks: BTreeMap<u64, usize>,
    /// By time and id: the fork that sleeps.
    sleeps: BTreeMap<(u64, u64), (u64, oneshot::Sender<()>)>,
    next_id: u64,
}

impl PacedClock {
    /// Joins the paced chain at `endpoint` as `session`. A participant of the same name is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ChainError::Transport`] when the chain does not answer in time, or is not paced.
    pub async fn connect(endpoint: &str, session: &str) -> Result<Self> {
        if session.is_empty() || !session.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.') {
            return Err(ChainError::Unsupported { what: format!("the session name {session:?}: use letters, digits, - _ and .") });
        }
        let http = Http::new(endpoint)?;
        let (stream, time) = persist(PERSISTENCE, || join(&http, session)).await?;
        let state = State { now_ms: time.now_ms, head: time.head, forks: BTreeMap::from([(0, 0)]), sleeps: BTreeMap::new(), next_id: 1 };
        let (wanted, _) = watch::channel(None);
        let shared = Arc::new(Shared { session: session.into(), state: Mutex::new(state), wanted, worker: Mutex::default() });
        let worker = tokio::spawn(work(http, Arc::downgrade(&shared), shared.wanted.subscribe(), stream, time));
        *shared.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
        Ok(Self { shared, fork: 0 })
    }

    /// A clock for another task of this node, awake until it sleeps.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.shared.lock();
        let fork = state.id();
        state.forks.insert(fork, 0);
        self.shared.publish(&state);
        Self { shared: Arc::clone(&self.shared), fork }
    }

    /// The newest block when time was last told; a sleep that has ended has seen every block up to its time.
    pub fn head(&self) -> BlockRef {
        self.shared.lock().head
    }
}

impl Drop for PacedClock {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.forks.remove(&self.fork);
        if state.forks.is_empty()
            && let Some(worker) = self.shared.worker.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            worker.abort();
        }
        self.shared.publish(&state);
    }
}

impl Clock for PacedClock {
    fn now_ms(&self) -> u64 {
        self.shared.lock().now_ms
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn sleep_until(&self, ms: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some((asleep, woken)) = self.shared.sleep(self.fork, ms) else { return };
            // The sender is dropped with its sleep only, and that is dropped by `asleep`.
            let _ = woken.await;
            drop(asleep);
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        let asleep = !state.forks.is_empty() && state.forks.values().all(|&sleeps| sleeps > 0);
        let wanted = state.sleeps.keys().next().map(|&(until_ms, _)| until_ms).filter(|_| asleep);
        self.wanted.send_if_modified(|old| std::mem::replace(old, wanted) != wanted);
    }

    fn sleep(&self, fork: u64, until_ms: u64) -> Option<(Asleep<'_>, oneshot::Receiver<()>)> {
        let mut state = self.lock();
        if state.now_ms >= until_ms {
            return None;
        }
        let (wake, woken) = oneshot::channel();
        let key = (until_ms, state.id());
        state.sleeps.insert(key, (fork, wake));
        *state.forks.entry(fork).or_default() += 1;
        self.publish(&state);
        Some((Asleep { shared: self, key }, woken))
    }

    /// Takes in what time it is, and wakes whose time has come.
    fn tell(&self, time: PaceTime) {
        let mut state = self.lock();
        state.now_ms = state.now_ms.max(time.now_ms);
        if time.head.number >= state.head.number {
            state.head = time.head;
        }
        while let Some(entry) = state.sleeps.first_entry().filter(|entry| entry.key().0 <= time.now_ms) {
            let (fork, wake) = entry.remove();
            state.awake(fork);
            // A sleeper that has just gone needs no waking.
            let _ = wake.send(());
        }
        self.publish(&state);
    }
}

impl State {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn awake(&mut self, fork: u64) {
        if let Some(sleeps) = self.forks.get_mut(&fork) {
            *sleeps = sleeps.saturating_sub(1);
        }
    }
}

/// Ends a sleep whose future was dropped.
struct Asleep<'a> {
    shared: &'a Shared,
    key: (u64, u64),
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some((fork, _)) = state.sleeps.remove(&self.key) {
            state.awake(fork);
            self.shared.publish(&state);
        }
    }
}

async fn join(http: &Http, session: &str) -> Result<(Lines, PaceTime)> {
    let mut stream = http.lines(&format!("/pace/{session}")).await?;
    match stream.next::<PaceTime>().await? {
        Some(time) => Ok((stream, time)),
        None => Err(http.transport("it closed the session's stream", true)),
    }
}

/// Keeps the session's stream open, and asks for the session's sleep whenever it wants one. Ends when the last clock is gone.
async fn work(
    http: Http,
    shared: std::sync::Weak<Shared>,
    mut wanted: watch::Receiver<Option<u64>>,
    mut stream: Lines,
    mut time: PaceTime,
) {
    let mut backoff = Backoff::new();
    loop {
        let Some(session) = shared.upgrade().map(|shared| shared.session.clone()) else { return };
        loop {
            let want = *wanted.borrow_and_update();
            let sleep = async {
                match want {
                    Some(until_ms) => sleep(&http, &session, time.incarnation, until_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                woken = sleep => match (woken, shared.upgrade()) {
                    (Ok(now), Some(shared)) => {
                        backoff = Backoff::new();
                        shared.tell(now);
                    }
                    (Err(_), Some(_)) => break,
                    (_, None) => return,
                },
                changed = wanted.changed() => if changed.is_err() { return },
                // The stream tells nothing more: its end is the end of the session.
                _ = stream.next::<PaceTime>() => break,
            }
        }
        (stream, time) = loop {
            backoff.pause().await;
            match join(&http, &session).await {
                Ok(joined) => break joined,
                Err(error) => tracing::debug!(%error, session, "the paced chain is away"),
            }
        };
    }
}

async fn sleep(http: &Http, session: &str, incarnation: u64, until_ms: u64) -> Result<PaceTime> {
    let request = SleepRequest { session: session.into(), incarnation, until_ms };
    let answer = http.post("/pace", &request).await?;
    serde_json::from_value(answer).map_err(|e| http.transport(format!("the time cannot be read: {e}"), true))
}
