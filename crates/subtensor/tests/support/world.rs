//! One development chain, seen through either of its faces: the engine in process, or the client over JSON-RPC.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use templar_chain::{
    BlockTime, Chain, ChainError, DevChain, GenesisConfig, GenesisNeuron, PoolCode, Result, RuntimeOptions, SubnetOwner, SubnetRules,
};
use templar_chain_rpc::{Permissions, serve};
use templar_protocol::{AccountId, Netuid};
use templar_subtensor::{Network, Subtensor, dispatch_name_of};
use templar_wallet::Keypair;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub const NETUID: Netuid = Netuid(3);
/// One alpha or TAO, rao.
pub const ONE: u64 = 1_000_000_000;

/// A served chain.
pub struct Server {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<()>>,
    pub address: SocketAddr,
}

impl Server {
    pub async fn start(dev: &DevChain, address: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let dev = dev.clone();
        let serving = async move { serve(dev, listener, None, Permissions::default(), async { drop(stopped.await) }).await };
        Self { stop, ended: tokio::spawn(serving), address }
    }

    pub async fn stop(self) {
        drop(self.stop);
        self.ended.await.unwrap().unwrap();
    }

    pub fn network(&self) -> Network {
        format!("ws://{}", self.address).parse().unwrap()
    }
}

/// Which face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    Engine,
    Rpc,
}

pub struct World {
    pub dev: DevChain,
    pub chain: Arc<dyn Chain>,
    _server: Option<Server>,
}

/// The coldkey of everybody.
pub fn coldkey() -> Keypair {
    Keypair::from_seed([99; 32])
}

/// A hotkey by its number.
pub fn hotkey(number: u8) -> Keypair {
    Keypair::from_seed([number; 32])
}

/// A chain with three neurons of stake 1000, 500 and 0, and a rich coldkey.
pub fn genesis(runtime: RuntimeOptions, rules: SubnetRules) -> GenesisConfig {
    let owner = coldkey().public();
    let neuron =
        |number: u8, stake: u64| GenesisNeuron { hotkey: hotkey(number).public(), coldkey: owner, stake: stake * ONE, permit: stake > 0 };
    GenesisConfig {
        rules,
        owner: Some(SubnetOwner { hotkey: hotkey(200).public(), coldkey: hotkey(201).public() }),
        accounts: vec![(owner, 1000 * ONE)],
        neurons: vec![neuron(1, 1000), neuron(2, 500), neuron(3, 0)],
        runtime,
        ..GenesisConfig::new(NETUID)
    }
}

impl World {
    pub async fn new(through: Through, time: BlockTime, config: &GenesisConfig) -> Self {
        let dev = DevChain::in_memory(config, time).unwrap();
        let (chain, server): (Arc<dyn Chain>, _) = match through {
            Through::Engine => (Arc::new(dev.clone()), None),
            Through::Rpc => {
                let server = Server::start(&dev, None).await;
                (Arc::new(Subtensor::with_options(server.network(), super::quick())), Some(server))
            }
        };
        Self { dev, chain, _server: server }
    }

    pub fn close(&self, blocks: u64) {
        for _ in 0..blocks {
            self.dev.close_block().unwrap();
        }
    }

    /// Does a write of `who`. One block is closed meanwhile or afterwards, whatever comes of it.
    pub async fn write<T>(&self, who: &AccountId, write: impl Future<Output = Result<T>>) -> Result<T> {
        let (start, nonce) = (self.dev.best().number.0, self.dev.next_nonce(who));
        let arrives = async {
            while self.dev.next_nonce(who) == nonce {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.close(1);
            std::future::pending::<()>().await
        };
        let done = tokio::select! {
            done = write => done,
            () = arrives => unreachable!("it never ends"),
        };
        if self.dev.best().number.0 == start {
            self.close(1);
        }
        done
    }
}

/// What both faces must agree on: a value, or the name of an error.
pub fn told<T: std::fmt::Debug>(result: &Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("refused: {}", name(error)),
    }
}

/// An error's name.
pub fn name(error: &ChainError) -> String {
    match error {
        ChainError::Dispatch { pallet, error, .. } => format!("{pallet}.{error}"),
        // Some rules are checked before a call runs; the engine's direct way runs it at once.
        ChainError::PoolRejected { code: PoolCode::Custom(number), .. } => match dispatch_name_of(*number) {
            Some(name) => format!("SubtensorModule.{name}"),
            None => format!("pool {number}"),
        },
        ChainError::PoolRejected { code, .. } => format!("pool {code:?}"),
        // A price falls from block to block: the engine names the next block's, the client the newest block's.
        ChainError::TooExpensive { limit, .. } => format!("TooExpensive {limit}"),
        ChainError::StatePruned { block } => format!("StatePruned {block}"),
        ChainError::NotFound { .. } => "NotFound".into(),
        ChainError::Unsupported { .. } => "Unsupported".into(),
        other => format!("{other}"),
    }
}
