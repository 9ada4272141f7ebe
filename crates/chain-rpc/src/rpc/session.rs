//! A connection and its subscriptions.
//!
//! Each subscription is a task that follows the chain and speaks into the connection's queue. A client that does not read fills the queue
//! and makes its own tasks wait, nobody else's; when the connection goes, its tasks go.

use super::{Face, Params, RpcError, author, chain::header_json, hexed, state};
use crate::{version::runtime_version_json, view::View};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use templar_chain::{At, BlockHash, TxReport};
use templar_protocol::BlockNumber;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 64;
/// Keys of one subscription to storage.
const KEYS_MAX: usize = 64;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A connection. Clones share one.
#[derive(Clone, Debug)]
pub struct Session {
    out: mpsc::Sender<String>,
    tasks: Arc<Mutex<Tasks>>,
    /// Subscriptions that wait until the client has been told their names.
    waiting: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
}

#[derive(Debug, Default)]
struct Tasks(BTreeMap<String, AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.0.values() {
            task.abort();
        }
    }
}

/// What a subscription tells, and under which name.
struct Teller {
    out: mpsc::Sender<String>,
    method: &'static str,
    id: String,
}

impl Teller {
    /// False when the connection is gone.
    async fn tell(&self, result: Value) -> bool {
        let message = json!({ "jsonrpc": "2.0", "method": self.method, "params": { "subscription": self.id, "result": result } });
        self.out.send(message.to_string()).await.is_ok()
    }
}

impl Session {
    /// A connection that speaks into `out`.
    pub fn new(out: mpsc::Sender<String>) -> Self {
        Self { out, tasks: Arc::default(), waiting: Arc::default() }
    }

    /// Lets new subscriptions speak: their names are on their way to the client, which would not know them before.
    pub fn answered(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for start in waiting {
            // A subscription that has already been ended does not listen.
            let _ = start.send(());
        }
    }

    /// Begins or ends a subscription. `None` when the method is neither.
    pub(super) fn subscribe(face: &Face, session: Option<&Self>, method: &str, params: &Params) -> Option<Result<Value, RpcError>> {
        let kind = Kind::of(method)?;
        let Some(session) = session else {
            let why = "subscriptions need a connection that stays open: use the WebSocket";
            return Some(Err(RpcError::new(-32000, "Subscriptions are not available", Some(why.into()))));
        };
        Some(match kind {
            Kind::End => session.end(params),
            Kind::Heads(name) => session.begin(name, |teller| heads(face.clone(), face.chain().watch().0, teller)),
            Kind::Finalized => session.begin("chain_finalizedHead", |teller| heads(face.clone(), face.chain().watch().1, teller)),
            Kind::Version => session.begin("state_runtimeVersion", |teller| version(face.clone(), teller)),
            Kind::Storage => wanted(params).and_then(|keys| session.begin("state_storage", |teller| storage(face.clone(), keys, teller))),
            Kind::Watch => session.watch(face, params),
        })
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        // A map of handles is whole whatever panicked.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin<F: Future<Output = ()> + Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(Teller) -> F,
    ) -> Result<Value, RpcError> {
        let mut tasks = self.tasks();
        tasks.0.retain(|_, task| !task.is_finished());
        if tasks.0.len() >= SUBSCRIPTIONS_MAX {
            return Err(full());
        }
        let id = format!("t{:08x}", NEXT.fetch_add(1, Ordering::Relaxed));
        let work = work(Teller { out: self.out.clone(), method, id: id.clone() });
        let (start, started) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(start);
        let work = async move {
            if started.await.is_ok() {
                work.await;
            }
        };
        tasks.0.insert(id.clone(), tokio::spawn(work).abort_handle());
        Ok(id.into())
    }

    fn end(&self, params: &Params) -> Result<Value, RpcError> {
        let task = self.tasks().0.remove(params.text(0)?);
        Ok(task.map(|task| task.abort()).is_some().into())
    }

    /// Submits a transaction and tells what becomes of it.
    fn watch(&self, face: &Face, params: &Params) -> Result<Value, RpcError> {
        let bytes = params.bytes(0)?;
        if self.tasks().0.values().filter(|task| !task.is_finished()).count() >= SUBSCRIPTIONS_MAX {
            return Err(full());
        }
        // Before the transaction goes in, so that no block is missed.
        let (head, finalized) = face.chain().watch();
        let report = author::submit(face, &bytes)?;
        self.begin("author_extrinsicUpdate", |teller| follow(face.clone(), head, finalized, report, teller))
    }
}

fn full() -> RpcError {
    RpcError::new(-32006, "Too many subscriptions on the connection", Some(format!("Exceeded max limit of {SUBSCRIPTIONS_MAX}").into()))
}

enum Kind {
    Heads(&'static str),
    Finalized,
    Version,
    Storage,
    Watch,
    End,
}

impl Kind {
    fn of(method: &str) -> Option<Self> {
        Some(match method {
            "chain_subscribeNewHeads" | "chain_subscribeNewHead" => Self::Heads("chain_newHead"),
            "chain_subscribeAllHeads" => Self::Heads("chain_allHead"),
            "chain_subscribeFinalizedHeads" | "chain_subscribeFinalisedHeads" => Self::Finalized,
            "state_subscribeRuntimeVersion" | "chain_subscribeRuntimeVersion" => Self::Version,
            "state_subscribeStorage" => Self::Storage,
            "author_submitAndWatchExtrinsic" => Self::Watch,
            "author_unwatchExtrinsic"
            | "chain_unsubscribeAllHeads"
            | "chain_unsubscribeFinalisedHeads"
            | "chain_unsubscribeFinalizedHeads"
            | "chain_unsubscribeNewHead"
            | "chain_unsubscribeNewHeads"
            | "chain_unsubscribeRuntimeVersion"
            | "state_unsubscribeRuntimeVersion"
            | "state_unsubscribeStorage" => Self::End,
            _ => return None,
        })
    }
}

/// The headers from the present one on, one after another. A client that reads too slowly continues with the oldest that is kept.
async fn heads(face: Face, mut numbers: watch::Receiver<BlockNumber>, teller: Teller) {
    let mut next = numbers.borrow_and_update().0;
    loop {
        while next <= numbers.borrow().0 {
            match face.chain().header(BlockNumber(next)) {
                Ok(header) => {
                    if !teller.tell(header_json(&header)).await {
                        return;
                    }
                    next += 1;
                }
                Err(_) => next = numbers.borrow().0,
            }
        }
        if numbers.changed().await.is_err() {
            return;
        }
    }
}

/// The version, which never changes.
async fn version(face: Face, teller: Teller) {
    if teller.tell(runtime_version_json(&face.chain().runtime())).await {
        std::future::pending::<()>().await;
    }
}

fn wanted(params: &Params) -> Result<Vec<Vec<u8>>, RpcError> {
    let keys = params.list(0)?;
    if keys.len() > KEYS_MAX {
        return Err(RpcError::invalid_params(format!("at most {KEYS_MAX} keys")));
    }
    keys.iter().map(|key| Params(vec![key.clone()]).bytes(0)).collect()
}

/// The values of some keys: all at first, then those that changed.
async fn storage(face: Face, keys: Vec<Vec<u8>>, teller: Teller) {
    let (mut head, _) = face.chain().watch();
    let mut known: Option<Vec<Option<Vec<u8>>>> = None;
    loop {
        head.borrow_and_update();
        if let Ok(view) = View::at(face.chain(), None) {
            let values: Vec<Option<Vec<u8>>> = keys.iter().map(|key| state::get(&face, &view, key)).collect();
            let changed = |place: usize| known.as_ref().is_none_or(|known| known[place] != values[place]);
            let changes: Vec<Value> = (0..keys.len())
                .filter(|&place| changed(place))
                .map(|place| json!([hexed(&keys[place]), values[place].as_deref().map(hexed)]))
                .collect();
            let first = known.is_none();
            known = Some(values);
            let block = hexed(&view.block.header.block.hash.0);
            if (first || !changes.is_empty()) && !teller.tell(json!({ "block": block, "changes": changes })).await {
                return;
            }
        }
        if head.changed().await.is_err() {
            return;
        }
    }
}

/// What becomes of a transaction: ready, in a block, final.
async fn follow(
    face: Face,
    mut head: watch::Receiver<BlockNumber>,
    mut finalized: watch::Receiver<BlockNumber>,
    report: TxReport,
    teller: Teller,
) {
    if !teller.tell(json!("ready")).await || head.wait_for(|head| *head >= report.block).await.is_err() {
        return;
    }
    let Ok(hash) = face.chain().header(report.block).map(|header| header.block.hash) else { return };
    if !included(&face, report, &hash) || !teller.tell(json!({ "inBlock": hexed(&hash.0) })).await {
        return;
    }
    if finalized.wait_for(|finalized| *finalized >= report.block).await.is_ok() {
        // Whether this arrives is the last thing that matters to the subscription.
        let _ = teller.tell(json!({ "finalized": hexed(&hash.0) })).await;
    }
}

/// Whether the transaction is in the block that was foretold. It always is, while the block's transactions are kept.
fn included(face: &Face, report: TxReport, hash: &BlockHash) -> bool {
    let block = face.chain().block(At::Number(report.block));
    let found = block.as_ref().is_ok_and(|block| block.body.transactions.iter().any(|tx| tx.hash == report.tx));
    if !found {
        tracing::warn!(%hash, tx = %report.tx, "a watched transaction's block is no longer kept");
    }
    found
}
