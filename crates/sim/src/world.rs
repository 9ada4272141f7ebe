//! The world that nodes share: time, chain, buckets, the lab, and the record of what happened.

use crate::draw::Draw;
use crate::key::SimKey;
use crate::lab::{Lab, LabError};
use crate::record::Record;
use crate::scenario::{FaultKind, Scenario};
use crate::store::{Got, Link, NodeIndex, Store};
use crate::time::{TaskId, Time};
use futures::FutureExt;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use templar_chain::{At, BlockRef, BlockTime, Chain, ChainError, DevChain, GenesisConfig, Metagraph, SubnetRules, Wait, WeightRows};
use templar_chain::{DevControl, GenesisNeuron};
use templar_node::decide::Decided;
use templar_node::position::Position;
use templar_node::roster::Roster;
use templar_node::round::Round;
use templar_node::run::Run;
use templar_node::signed;
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::{DataReference, PROTOCOL_VERSION, RunDescriptor};
use templar_protocol::{AccountId, BlockNumber, Digest, GlobalStep, Netuid, Uid, Window};
use templar_wallet::Signer;

/// The subnet.
pub const NETUID: Netuid = Netuid(3);
/// The window that is trained first.
pub const FIRST_WINDOW: Window = Window(1);
/// Unit of stake, rao.
const STAKE_UNIT: u64 = 1_000_000_000_000;
/// What every coldkey has at the start, rao.
const BALANCE: u64 = 1_000_000_000_000_000;

/// Why a simulation cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// The learner.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The chain.
    #[error("the simulated chain refused: {0}")]
    Chain(#[from] ChainError),
    /// A message.
    #[error("a message cannot be signed: {0}")]
    Signed(#[from] signed::SignedError),
}

/// A node's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Mines.
    Miner,
    /// Validates.
    Validator,
}

/// A node, whether its process is up or not.
pub struct NodeInfo {
    /// `m3`, `v0`.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its hotkey.
    pub key: Rc<SimKey>,
    /// Its coldkey.
    pub coldkey: Rc<SimKey>,
    /// What its clock is wrong by, ms.
    pub skew_ms: i64,
    /// Time of an inner step, ms.
    pub step_ms: u64,
    /// Its attack, if it has one.
    pub attack: Option<&'static str>,
    /// The window in which the attack begins.
    pub attack_from: Window,
    /// The nodes that attack together with it, itself among them, in rising order.
    pub gang: Vec<NodeIndex>,
}

/// A manifest's window, and what its check gave: all nodes check the same bytes.
type CheckedManifest = (u64, Result<Decided, String>);

/// What nodes share.
pub struct World {
    /// Time.
    pub time: Rc<Time>,
    /// The scenario.
    pub scenario: Scenario,
    /// All chance.
    pub draw: Draw,
    /// The run.
    pub run: Run,
    /// The chain.
    pub chain: DevChain,
    /// The heavy state.
    pub lab: RefCell<Lab>,
    /// The buckets.
    pub store: RefCell<Store>,
    /// The nodes.
    pub nodes: RefCell<Vec<Rc<NodeInfo>>>,
    /// What happened.
    pub record: RefCell<Record>,
    /// The running task of each node.
    pub tasks: RefCell<Vec<Option<TaskId>>>,
    /// The faults that hold now.
    pub ills: RefCell<BTreeSet<(NodeIndex, FaultKind)>>,
    owners: RefCell<HashMap<AccountId, NodeIndex>>,
    rosters: RefCell<BTreeMap<Window, (Rc<Round>, u64)>>,
    manifests: RefCell<HashMap<(Digest, u32), CheckedManifest>>,
    /// θ of the checkpoints that are offered.
    pub checkpoints: RefCell<BTreeMap<NodeIndex, Digest>>,
    /// The windows that nodes have finished, for pruning.
    pruned: Cell<u64>,
}

/// What a call of the in-process chain gives: it never waits.
pub fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the chain in process answers at once")
}

impl World {
    /// The world of a scenario at its seed, at block 0, with no process up yet.
    ///
    /// # Errors
    /// The scenario cannot be played.
    pub fn new(scenario: &Scenario, seed: u64, record: Record) -> Result<Rc<Self>, WorldError> {
        scenario.check()?;
        let draw = Draw::new(seed);
        let hparams = scenario.hparams()?;
        let nodes: Vec<Rc<NodeInfo>> = crate::nodes::all(scenario, seed, draw).into_iter().map(Rc::new).collect();
        let links = (0..nodes.len()).map(|index| crate::nodes::link(scenario, draw, index, nodes[index].role)).collect();
        let network = scenario.network;
        let (lab, theta) = Lab::new(scenario, &hparams, draw.of("lab"))?;
        let genesis = genesis(scenario, &nodes, &hparams);
        let chain = DevChain::in_memory(&genesis, BlockTime::Virtual(hparams.timetable.block_ms))?;
        let run = start(&nodes[0], hparams, theta, genesis.genesis_ms)?;
        let owners = nodes.iter().enumerate().map(|(index, node)| (node.key.account_id(), index)).collect();
        let tasks = RefCell::new(vec![None; nodes.len()]);
        Ok(Rc::new(Self {
            time: Time::new(genesis.genesis_ms),
            scenario: scenario.clone(),
            draw,
            run,
            chain,
            lab: RefCell::new(lab),
            store: RefCell::new(Store::new(links, draw.of("store"), network.loss, network.size_factor)),
            nodes: RefCell::new(nodes),
            record: RefCell::new(record),
            tasks,
            ills: RefCell::default(),
            owners: RefCell::new(owners),
            rosters: RefCell::default(),
            manifests: RefCell::default(),
            checkpoints: RefCell::default(),
            pruned: Cell::new(0),
        }))
    }

    /// A node.
    pub fn node(&self, index: NodeIndex) -> Rc<NodeInfo> {
        self.nodes.borrow()[index].clone()
    }

    /// Whether a node suffers from a fault now.
    pub fn suffers(&self, index: NodeIndex, kind: FaultKind) -> bool {
        self.ills.borrow().contains(&(index, kind))
    }

    /// The node with this hotkey.
    pub fn owner_of(&self, hotkey: &AccountId) -> Option<NodeIndex> {
        self.owners.borrow().get(hotkey).copied()
    }

    /// Adds a node that comes later; it has no process and no slot yet.
    pub fn add_node(&self, node: NodeInfo, link: Link) -> NodeIndex {
        let hotkey = node.key.account_id();
        self.store.borrow_mut().add(link);
        self.tasks.borrow_mut().push(None);
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Rc::new(node));
        self.owners.borrow_mut().insert(hotkey, nodes.len() - 1);
        nodes.len() - 1
    }

    /// Where the run begins.
    pub fn beginning(&self) -> Position {
        Position { window: FIRST_WINDOW, global_step: GlobalStep(0), theta: self.run.descriptor.initial_theta, manifest: None }
    }

    /// The instant of a block in the past, or its nominal one in the future.
    pub fn block_ms(&self, block: BlockNumber) -> u64 {
        let head = self.chain.best();
        match now(self.chain.head(At::Number(block))) {
            Ok(block) => block.time_ms,
            Err(_) if block.0 > head.number.0 => head.time_ms + (block.0 - head.number.0) * self.run.block_ms(),
            Err(_) => head.time_ms - (head.number.0 - block.0) * self.run.block_ms(),
        }
    }

    /// The newest block.
    pub fn head(&self) -> BlockRef {
        self.chain.best()
    }

    /// The metagraph as of `block`, or of the newest one when that is no longer kept.
    pub fn metagraph(&self, block: BlockNumber) -> Metagraph {
        let at = now(self.chain.metagraph(NETUID, At::Number(block))).or_else(|_| now(self.chain.metagraph(NETUID, At::Best)));
        at.expect("the subnet is there from block 0 on")
    }

    /// The round of a window that is over: who decides it and when.
    pub fn round(&self, window: Window) -> Rc<Round> {
        if let Some((round, _)) = self.rosters.borrow().get(&window) {
            return round.clone();
        }
        let first = window.next().first_block(self.run.blocks_per_window());
        let roster = Roster::new(&self.metagraph(first), self.run.hparams().timetable.slots, |_| None);
        let round = Rc::new(Round {
            window,
            roster,
            next_start_ms: self.block_ms(first),
            object_bytes_max: self.lab.borrow().object_bytes_max(),
            patience_ms: self.run.hparams().timetable.gather_ms,
        });
        self.rosters.borrow_mut().insert(window, (round.clone(), window.0));
        round
    }

    /// The manifest in `bytes`, which were read from the bucket of the publisher of `slot`.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn manifest(&self, round: &Round, slot: u32, bytes: &[u8]) -> Result<Decided, String> {
        let key = (Digest::of(bytes), slot);
        if let Some((_, known)) = self.manifests.borrow().get(&key) {
            return known.clone();
        }
        let publisher = round.roster.publisher(slot).ok_or_else(|| format!("there is no validator for slot {slot}"))?;
        let checked = round.check_manifest(&self.run, publisher, slot, bytes);
        self.manifests.borrow_mut().insert(key, (round.window.0, checked.clone()));
        checked
    }

    /// Reads an object of another node's bucket.
    pub fn get(&self, node: NodeIndex, owner: NodeIndex, key: &str, bytes_max: u64) -> (u64, Got) {
        self.store.borrow_mut().get(node, owner, key, bytes_max, self.time.now_ms())
    }

    /// Sets weights.
    ///
    /// # Errors
    /// What the chain says.
    pub fn put_weights(&self, by: &dyn Signer, weights: &[(Uid, u16)]) -> Result<BlockNumber, String> {
        let put = now(self.chain.put_weights(by, NETUID, weights, 0, Wait::Submitted));
        put.map(|report| report.tx.block).map_err(|error| error.to_string())
    }

    /// The weights that stand on the chain.
    pub fn weights(&self) -> WeightRows {
        now(self.chain.weights(NETUID, At::Best)).unwrap_or_default()
    }

    /// Funds a coldkey and registers a hotkey with it; the uid it got.
    ///
    /// # Errors
    /// What the chain says.
    pub fn register(&self, coldkey: &dyn Signer, hotkey: &AccountId) -> Result<(Uid, u64), String> {
        let registered = now(async {
            self.chain.fund(&coldkey.account_id(), BALANCE).await?;
            self.chain.register(coldkey, NETUID, hotkey, u64::MAX, Wait::Submitted).await
        });
        registered.map(|registered| (registered.uid, registered.price)).map_err(|error| error.to_string())
    }

    /// Forgets what no node needs any more.
    pub fn forget(&self, window: Window) {
        if window.0 <= self.pruned.get() {
            return;
        }
        self.pruned.set(window.0);
        let before = window.0.saturating_sub(self.run.hparams().retention.objects_windows + 2);
        self.rosters.borrow_mut().retain(|of, _| of.0 >= before);
        self.manifests.borrow_mut().retain(|_, (of, _)| *of >= before);
        let checkpoints: Vec<Digest> = self.checkpoints.borrow().values().copied().collect();
        self.lab.borrow_mut().forget(window, &checkpoints);
    }
}

fn genesis(scenario: &Scenario, nodes: &[Rc<NodeInfo>], hparams: &Hparams) -> GenesisConfig {
    let mut genesis = GenesisConfig::new(NETUID);
    let validators = scenario.nodes.validators;
    let windows = hparams.blocks_per_window;
    genesis.rules = SubnetRules {
        // An epoch a window, so that reward follows the window's weights.
        tempo: u16::try_from(windows.saturating_sub(1).max(1)).unwrap_or(u16::MAX),
        immunity_period: 5 * windows,
        max_allowed_uids: u16::try_from(nodes.len()).unwrap_or(u16::MAX),
        max_allowed_validators: u16::try_from(validators).unwrap_or(u16::MAX),
        stake_threshold: STAKE_UNIT,
        ..SubnetRules::default()
    };
    genesis.accounts = nodes.iter().map(|node| (node.coldkey.account_id(), BALANCE)).collect();
    genesis.neurons = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let stake = match node.role {
                Role::Miner => 0,
                Role::Validator => scenario.nodes.stakes.get(index).copied().unwrap_or_else(|| fall(index)).max(1) * STAKE_UNIT,
            };
            let (hotkey, coldkey) = (node.key.account_id(), node.coldkey.account_id());
            GenesisNeuron { hotkey, coldkey, stake, permit: node.role == Role::Validator }
        })
        .collect();
    genesis
}

/// Stake of the validator at `index` where the scenario says none: each has four fifths of the one before.
fn fall(index: usize) -> u64 {
    (100_000.0 * 0.8f64.powi(i32::try_from(index).unwrap_or(i32::MAX))) as u64
}

fn start(leader: &NodeInfo, hparams: Hparams, theta: Digest, started_ms: u64) -> Result<Run, WorldError> {
    let descriptor = RunDescriptor {
        protocol: PROTOCOL_VERSION,
        netuid: NETUID,
        hparams_digest: hparams.digest(),
        hparams,
        tokenizer: Digest::default(),
        data: DataReference { manifest: Digest::default(), places: vec![] },
        initial_checkpoint: theta,
        initial_theta: theta,
        start_window: FIRST_WINDOW,
        started_ms,
    };
    let envelope = signed::sign(&descriptor, &*leader.key)?;
    let id = signed::open::<RunDescriptor>(&envelope)?.digest;
    Ok(Run { id, descriptor, envelope: envelope.into() })
}
