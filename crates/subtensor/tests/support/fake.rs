//! A node whose every answer is the test's: it serves a list of blocks that the test appends to, replaces or hides, and can be stopped
//! with all its connections.

use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle, SubscriptionMessage},
    types::ErrorObjectOwned,
};
use parity_scale_codec::{Compact, Encode as _};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use templar_chain_rpc::{Face, rpc::Params};
use tokio::sync::broadcast;

/// The key of `Timestamp.Now`.
const NOW: &str = "0xf0c365c3cf59d671eb72da0e7a4113c49f1f0515f462cdcf84e0f1d6045dfcbb";

/// One block: its branch decides its hash, so that branches differ.
#[derive(Clone, Debug)]
pub struct FakeBlock {
    pub hash: [u8; 32],
    pub parent: [u8; 32],
    pub time_ms: u64,
    pub body: Vec<Vec<u8>>,
}

/// What the node serves.
#[derive(Debug)]
pub struct Served {
    pub blocks: Vec<FakeBlock>,
    /// States of blocks below this are gone.
    pub pruned_below: u64,
    /// Other storage entries, by key.
    pub storage: BTreeMap<String, Vec<u8>>,
    /// What the node answers to a transaction; `None` takes it and says nothing more.
    pub refusal: Option<(i32, String, String)>,
    /// Transactions that were taken.
    pub taken: Vec<Vec<u8>>,
    /// How many requests came, by method.
    pub asked: BTreeMap<String, u64>,
    /// What the node says of its chain.
    pub properties: Value,
}

/// A running node; dropping it leaves it running until the test ends.
#[derive(Clone)]
pub struct Fake {
    served: Arc<Mutex<Served>>,
    heads: broadcast::Sender<u64>,
    metadata: Arc<Vec<u8>>,
    /// A chain whose newest state is given for what is not in `storage`, and by whose functions calls are answered.
    behind: Option<Face>,
}

/// A started server.
pub struct Running {
    handle: ServerHandle,
    pub address: SocketAddr,
}

impl Running {
    pub fn endpoint(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends the server and all its connections.
    pub async fn stop(self) {
        let _ = self.handle.stop();
        self.handle.stopped().await;
    }
}

fn hash(branch: u8, number: u64) -> [u8; 32] {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

fn hex0x(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// The transaction that sets the clock.
fn inherent(time_ms: u64) -> Vec<u8> {
    let inner = [&[4, 2, 0][..], &Compact(time_ms).encode()].concat();
    [Compact(inner.len() as u32).encode(), inner].concat()
}

impl Fake {
    /// A node with the genesis block alone.
    pub fn new(genesis: u8, metadata: Vec<u8>) -> Self {
        let first = FakeBlock { hash: hash(genesis, 0), parent: [0; 32], time_ms: 0, body: Vec::new() };
        let served = Served {
            blocks: vec![first],
            pruned_below: 0,
            storage: BTreeMap::new(),
            refusal: None,
            taken: Vec::new(),
            asked: BTreeMap::new(),
            properties: json!({}),
        };
        Self { served: Arc::new(Mutex::new(served)), heads: broadcast::channel(1024).0, metadata: Arc::new(metadata), behind: None }
    }

    /// A node with as many blocks as the chain behind `face`, whose state it serves under other metadata.
    pub fn over(face: Face, metadata: Vec<u8>) -> Self {
        let fake = Self { behind: Some(face.clone()), ..Self::new(1, metadata) };
        fake.grow(1, face.chain().best().number.0, &[]);
        fake
    }

    /// What the chain behind answers; parameters that name a block are left out by the caller.
    fn ask_behind(&self, method: &str, params: &[Value]) -> Option<Result<Value, ErrorObjectOwned>> {
        let answer = self.behind.as_ref()?.call(method, &Params(params.to_vec()));
        Some(answer.map_err(|_| refusal(4003, "Client error", method)))
    }

    pub fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap()
    }

    pub fn head(&self) -> u64 {
        self.served().blocks.len() as u64 - 1
    }

    /// Appends blocks of `branch`, each with `transactions`, and tells of each.
    pub fn grow(&self, branch: u8, blocks: u64, transactions: &[Vec<u8>]) {
        for _ in 0..blocks {
            let number = {
                let mut served = self.served();
                let number = served.blocks.len() as u64;
                let parent = served.blocks.last().unwrap().hash;
                let time_ms = 1_750_000_000_000 + number * 12_000;
                let body = [&[inherent(time_ms)], transactions].concat();
                served.blocks.push(FakeBlock { hash: hash(branch, number), parent, time_ms, body });
                number
            };
            let _ = self.heads.send(number);
        }
    }

    /// Replaces the blocks from `from` on by as many and one more of another branch.
    pub fn reorganise(&self, branch: u8, from: u64) {
        let replaced = {
            let mut served = self.served();
            let replaced = served.blocks.len() as u64 - from;
            served.blocks.truncate(from as usize);
            replaced
        };
        self.grow(branch, replaced + 1, &[]);
    }

    /// Starts it, at `address` or anywhere.
    pub async fn start(&self, address: Option<SocketAddr>) -> Running {
        let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let server = Server::builder().build(address).await.unwrap();
        let address = server.local_addr().unwrap();
        Running { handle: server.start(self.module()), address }
    }

    fn number_of(&self, hash: &str) -> Option<u64> {
        self.served().blocks.iter().position(|block| hex0x(block.hash) == hash).map(|number| number as u64)
    }

    fn header(&self, number: u64) -> Value {
        let served = self.served();
        let block = &served.blocks[number as usize];
        json!({
            "parentHash": hex0x(block.parent), "number": format!("{number:#x}"),
            "stateRoot": hex0x([0; 32]), "extrinsicsRoot": hex0x([0; 32]), "digest": { "logs": [] },
        })
    }

    fn answer(&self, method: &str, params: &[Value]) -> Result<Value, ErrorObjectOwned> {
        *self.served().asked.entry(method.to_owned()).or_default() += 1;
        let text = |i: usize| params.get(i).and_then(Value::as_str).unwrap_or_default().to_owned();
        let state = |i: usize| {
            let number = self.number_of(&text(i)).ok_or_else(|| refusal(4003, "Client error", "UnknownBlock: Header was not found"))?;
            if number < self.served().pruned_below {
                return Err(refusal(4003, "Client error", "UnknownBlock: State already discarded for it"));
            }
            Ok(number)
        };
        Ok(match method {
            "chain_getBlockHash" => {
                let number = params.first().and_then(Value::as_u64).unwrap_or_else(|| self.head());
                json!(self.served().blocks.get(number as usize).map(|block| hex0x(block.hash)))
            }
            "chain_getFinalizedHead" => {
                let head = self.head().saturating_sub(2);
                json!(hex0x(self.served().blocks[head as usize].hash))
            }
            "chain_getHeader" => self.number_of(&text(0)).map_or(Value::Null, |number| self.header(number)),
            "chain_getBlock" => self.number_of(&text(0)).map_or(Value::Null, |number| {
                let body: Vec<String> = self.served().blocks[number as usize].body.iter().map(hex0x).collect();
                json!({ "block": { "header": self.header(number), "extrinsics": body }, "justifications": null })
            }),
            "state_getRuntimeVersion" => {
                state(0)?;
                json!({ "specName": "node-subtensor", "specVersion": 365, "transactionVersion": 1 })
            }
            "state_call" => {
                state(2)?;
                match text(0).as_str() {
                    "Metadata_metadata_versions" => json!(hex0x(vec![14u32, 15, 16].encode())),
                    "Metadata_metadata_at_version" => json!(hex0x(Some(self.metadata.as_ref().clone()).encode())),
                    "AccountNonceApi_account_nonce" => json!(hex0x(7u32.encode())),
                    other => {
                        *self.served().asked.entry(other.to_owned()).or_default() += 1;
                        let answer = self.ask_behind(method, &params[..2]);
                        return answer.unwrap_or_else(|| Err(refusal(4003, "Client error", other)));
                    }
                }
            }
            "state_getKeysPaged" => {
                state(3)?;
                return self.ask_behind(method, &params[..3]).unwrap_or_else(|| Err(refusal(4003, "Client error", "no keys")));
            }
            "state_getStorage" => {
                let number = state(1)?;
                if text(0) != NOW && !self.served().storage.contains_key(&text(0)) && self.behind.is_some() {
                    return self.ask_behind(method, &params[..1]).unwrap_or(Ok(Value::Null));
                }
                let served = self.served();
                let stored = served.storage.get(&text(0)).map(hex0x);
                json!(if text(0) == NOW { Some(hex0x(served.blocks[number as usize].time_ms.encode())) } else { stored })
            }
            "system_properties" => self.served().properties.clone(),
            other => return Err(refusal(-32601, "Method not found", other)),
        })
    }

    fn module(&self) -> RpcModule<Fake> {
        const METHODS: [&str; 10] = [
            "chain_getBlockHash",
            "chain_getFinalizedHead",
            "chain_getHeader",
            "chain_getBlock",
            "state_getRuntimeVersion",
            "state_call",
            "state_getStorage",
            "state_getKeysPaged",
            "system_properties",
            "rpc_methods",
        ];
        let mut module = RpcModule::new(self.clone());
        for method in METHODS {
            let answer = move |params: jsonrpsee::types::Params<'_>, fake: &Fake, _: &_| {
                let params: Vec<Value> = params.parse().unwrap_or_default();
                fake.answer(method, &params)
            };
            module.register_method(method, answer).unwrap();
        }
        for (subscribe, notify, unsubscribe, behind) in [
            ("chain_subscribeNewHeads", "chain_newHead", "chain_unsubscribeNewHeads", 0),
            ("chain_subscribeFinalizedHeads", "chain_finalizedHead", "chain_unsubscribeFinalizedHeads", 2),
        ] {
            let follow = move |_, pending: jsonrpsee::PendingSubscriptionSink, fake: Arc<Fake>, _| async move {
                let mut heads = fake.heads.subscribe();
                let Ok(sink) = pending.accept().await else { return };
                let mut number = fake.head();
                loop {
                    let shown = number.min(fake.head()).saturating_sub(behind);
                    let header = serde_json::value::to_raw_value(&fake.header(shown)).unwrap();
                    if sink.send(SubscriptionMessage::from(header)).await.is_err() {
                        return;
                    }
                    let Ok(next) = heads.recv().await else { return };
                    number = next;
                }
            };
            module.register_subscription(subscribe, notify, unsubscribe, follow).unwrap();
        }
        let watch = |params: jsonrpsee::types::Params<'static>, pending: jsonrpsee::PendingSubscriptionSink, fake: Arc<Fake>, _| async move {
            let sent: Vec<String> = params.parse().unwrap();
            let bytes = hex::decode(sent[0].trim_start_matches("0x")).unwrap();
            *fake.served().asked.entry("author_submitAndWatchExtrinsic".into()).or_default() += 1;
            let refused = fake.served().refusal.clone();
            if let Some((code, message, data)) = refused {
                pending.reject(refusal(code, &message, &data)).await;
                return;
            }
            fake.served().taken.push(bytes);
            let Ok(sink) = pending.accept().await else { return };
            let ready = serde_json::value::to_raw_value("ready").unwrap();
            let _ = sink.send(SubscriptionMessage::from(ready)).await;
            sink.closed().await;
        };
        module.register_subscription("author_submitAndWatchExtrinsic", "author_extrinsicUpdate", "author_unwatchExtrinsic", watch).unwrap();
        module
    }
}

fn refusal(code: i32, message: &str, data: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message.to_owned(), Some(data.to_owned()))
}
