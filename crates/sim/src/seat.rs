//! What both roles' drivers need: the node's own clock, the chain as it sees it, manifests, objects, checkpoints.

use crate::record::SimEntry;
use crate::scenario::FaultKind;
use crate::store::{Got, NodeIndex};
use crate::world::{NodeInfo, World};
use std::collections::BTreeMap;
use std::rc::Rc;
use templar_codec::{Expect, HEADER_BYTES, Opened};
use templar_node::decide::{Decided, ManifestRead};
use templar_node::follow::Ending;
use templar_node::journal::{Entry, HealthEntry, WindowEntry, trouble};
use templar_node::node::plan_entry;
use templar_node::position::Position;
use templar_node::round::{Round, claimed_theta, majority};
use templar_node::signed;
use templar_protocol::messages::{Accepted, CheckpointPointer, MANIFEST_BYTES_MAX, Manifest, Message};
use templar_protocol::{AccountId, Digest, Uid, Window, names};
use templar_wallet::Signer;

/// What a clock that is behind is wrong by, ms.
const CLOCK_BEHIND_MS: i64 = 4000;
/// Time between two attempts to reach the chain, ms.
const CHAIN_RETRY_MS: u64 = 500;
/// Free bytes of a disk that is not full.
const DISK_FREE_BYTES: u64 = 1 << 40;

/// A node in the world.
#[derive(Clone)]
pub struct Seat {
    /// The world.
    pub world: Rc<World>,
    /// Its place in the list of nodes.
    pub index: NodeIndex,
    /// Who it is.
    pub info: Rc<NodeInfo>,
    /// Its slot.
    pub uid: Uid,
    round: Option<Rc<Round>>,
    /// Time of each phase of the window, ms.
    phases: BTreeMap<String, u64>,
    /// Least and most of the clock less the head's timestamp since the last entry, ms.
    chain_age_ms: Option<[i64; 2]>,
}

/// The objects of a round.
#[derive(Default)]
pub struct Gathered {
    /// Those that open, in uid order.
    pub peers: Vec<Opened>,
    /// Those that came from a validator's copy.
    pub from_copies: Vec<Uid>,
    /// Bytes of all.
    pub bytes: u64,
}

impl Seat {
    /// The seat of the node at `index`, which holds `uid`.
    pub fn new(world: &Rc<World>, index: NodeIndex, uid: Uid) -> Self {
        Self { world: world.clone(), index, info: world.node(index), uid, round: None, phases: BTreeMap::new(), chain_age_ms: None }
    }

    /// Its hotkey.
    pub fn hotkey(&self) -> AccountId {
        self.info.key.account_id()
    }

    /// Now, by its own clock.
    pub fn now_ms(&self) -> u64 {
        self.world.time.now_ms().saturating_add_signed(self.skew_ms())
    }

    /// What its clock is wrong by, ms.
    pub fn skew_ms(&self) -> i64 {
        self.info.skew_ms - if self.suffers(FaultKind::ClockBehind) { CLOCK_BEHIND_MS } else { 0 }
    }

    /// Whether it suffers from a fault now.
    pub fn suffers(&self, kind: FaultKind) -> bool {
        self.world.suffers(self.index, kind)
    }

    /// Says that the process is up.
    pub fn note_start(&self, role: &str) {
        let (version, hotkey) = (env!("CARGO_PKG_VERSION").to_owned(), self.hotkey().to_string());
        self.note(&Entry::Started { role: role.to_owned(), version, hotkey, uid: self.uid, threads: 1 });
    }

    /// Adds the time since `begun_ms` of the world's clock to a phase of the window.
    pub fn add_time(&mut self, phase: &str, begun_ms: u64) {
        *self.phases.entry(phase.to_owned()).or_default() += self.world.time.now_ms().saturating_sub(begun_ms);
    }

    /// Waits until the chain can be reached, and notes how old its head is.
    pub async fn reach_chain(&mut self) {
        let mut told = false;
        while self.suffers(FaultKind::ChainDown) {
            if !std::mem::replace(&mut told, true) {
                let text =
                    format!("the chain cannot be reached to read its head (the fault holds); asking again every {CHAIN_RETRY_MS} ms");
                self.warn_of(trouble::CHAIN, text);
            }
            self.sleep_until(self.now_ms() + CHAIN_RETRY_MS).await;
        }
        self.note_age();
    }

    fn note_age(&mut self) {
        let age = self.now_ms() as i64 - self.world.head().time_ms as i64;
        self.chain_age_ms = Some(self.chain_age_ms.map_or([age; 2], |[least, most]| [least.min(age), most.max(age)]));
    }

    /// Waits until its own clock shows `at_ms`.
    pub async fn sleep_until(&self, at_ms: u64) {
        self.world.time.sleep_until(at_ms.saturating_add_signed(-self.skew_ms())).await;
    }

    /// Waits until the world's clock, which nobody sees, shows `at_ms`.
    pub async fn until(&self, at_ms: u64) {
        self.world.time.sleep_until(at_ms).await;
    }

    /// Writes to the journal.
    pub fn note(&self, entry: &Entry) {
        self.world.record.borrow_mut().note(self.world.time.now_ms(), &self.info.name, entry);
    }

    /// Writes a warning to the journal.
    pub fn warn(&self, text: impl Into<String>) {
        self.warn_of("", text);
    }

    /// Writes a warning with a stable name to the journal.
    pub fn warn_of(&self, kind: &str, text: impl Into<String>) {
        self.note(&Entry::Warning { kind: kind.to_owned(), text: text.into() });
    }

    /// Writes what only the simulation knows.
    pub fn tell(&self, entry: &SimEntry) {
        self.world.record.borrow_mut().tell(self.world.time.now_ms(), &self.info.name, entry);
    }

    /// Whether this hotkey still holds its slot at the newest block.
    pub fn is_registered(&self) -> bool {
        let metagraph = self.world.metagraph(self.world.head().number);
        metagraph.neuron(self.uid).is_some_and(|neuron| neuron.hotkey == self.hotkey())
    }

    /// Now, T(w) and, if the window is over, how it ended.
    pub fn look(&mut self, window: Window) -> (u64, u64, Option<Ending>) {
        let (run, head) = (&self.world.run, self.world.head());
        let blocks = run.blocks_per_window();
        let start_ms = self.world.block_ms(window.first_block(blocks));
        let now_ms = self.now_ms().max(head.time_ms);
        let over = head.number >= window.next().first_block(blocks);
        (now_ms, start_ms, over.then(|| self.open_round(window)))
    }

    fn open_round(&mut self, window: Window) -> Ending {
        let round = self.world.round(window);
        let ending = round.roster.ending(round.next_start_ms, &self.hotkey());
        self.round = Some(round);
        ending
    }

    /// The round that is being decided.
    pub fn round(&self) -> Rc<Round> {
        self.round.clone().expect("machines follow a window only after look or await_reveal has opened its round")
    }

    /// Waits until `window` has ended and commits may be read.
    pub async fn await_reveal(&mut self, window: Window) -> (u64, Ending) {
        let run = &self.world.run;
        let (first, block_ms) = (window.next().first_block(run.blocks_per_window()), run.block_ms());
        loop {
            self.reach_chain().await;
            let head = self.world.head();
            if head.number >= first {
                break;
            }
            let due_ms = head.time_ms + (first.0 - head.number.0) * block_ms;
            self.sleep_until(due_ms.max(self.now_ms() + block_ms / 8 + 1)).await;
        }
        let reveal_ms = self.world.run.hparams().timetable.reveal_ms(self.world.block_ms(first));
        self.sleep_until(reveal_ms).await;
        let ending = self.open_round(window);
        (self.now_ms(), ending)
    }

    /// The node of a member.
    pub fn node_of(&self, hotkey: &AccountId) -> Option<NodeIndex> {
        self.world.owner_of(hotkey)
    }

    /// Reads a slot's manifest at `at_ms` or later; gives the instant at which the read began.
    pub async fn read_manifest(&self, slot: u32, at_ms: u64) -> (u64, ManifestRead) {
        self.sleep_until(at_ms).await;
        let (began_ms, round) = (self.now_ms(), self.round());
        let Some(owner) = round.roster.publisher(slot).and_then(|publisher| self.node_of(&publisher.hotkey)) else {
            return (began_ms, ManifestRead::Absent { why: format!("there is no validator for slot {slot}") });
        };
        let (ready_ms, got) = self.world.get(self.index, owner, &names::manifest(round.window, slot), MANIFEST_BYTES_MAX);
        self.until(ready_ms).await;
        let read = match got {
            Got::Absent => ManifestRead::Absent { why: String::new() },
            Got::TooLarge => ManifestRead::Absent { why: "it is larger than any manifest".into() },
            Got::Failed(why) => ManifestRead::Unreachable { why },
            Got::Found(bytes) => match self.world.manifest(&round, slot, &bytes) {
                Ok(decided) => ManifestRead::Found(Box::new(decided)),
                Err(why) => ManifestRead::Absent { why },
            },
        };
        (began_ms, read)
    }

    /// The θ that the majority of the manifest's committed objects starts from.
    pub async fn survey(&self, manifest: &Manifest) -> Option<Digest> {
        let round = self.round();
        let mut shares: BTreeMap<Digest, u128> = BTreeMap::new();
        let mut answered_ms = 0;
        for commit in &manifest.commits {
            let Some(member) = round.roster.member(commit.uid) else { continue };
            let Some(owner) = self.node_of(&member.hotkey) else { continue };
            let (ready_ms, got) = self.world.get(self.index, owner, &names::object(round.window, commit.uid), u64::MAX);
            answered_ms = answered_ms.max(ready_ms);
            if let Got::Found(bytes) = got
                && let Some(header) = bytes.get(..HEADER_BYTES)
                && let Some(theta) = claimed_theta(header, &self.world.run.id, &member.hotkey, round.window)
            {
                *shares.entry(theta).or_default() += u128::from(member.stake.max(1));
            }
        }
        self.until(answered_ms).await;
        majority(&shares)
    }

    /// Fetches and opens the manifest's objects; none when they are not to be had within a window's time.
    pub async fn gather(&self, decided: &Decided, at_hand: &BTreeMap<Uid, bytes::Bytes>) -> Option<Gathered> {
        let (run, round) = (&self.world.run, self.round());
        let until_ms = self.now_ms() + run.window_ms();
        let mut objects: BTreeMap<Uid, bytes::Bytes> = BTreeMap::new();
        let mut gathered = Gathered::default();
        for accepted in &decided.manifest.accepted {
            if let Some(bytes) = at_hand.get(&accepted.uid).filter(|bytes| Digest::of(bytes) == accepted.object) {
                objects.insert(accepted.uid, bytes.clone());
            }
        }
        loop {
            let mut arrived_ms = self.world.time.now_ms();
            for accepted in &decided.manifest.accepted {
                if objects.contains_key(&accepted.uid) {
                    continue;
                }
                let (ready_ms, found) = self.fetch_accepted(&round, accepted, until_ms);
                arrived_ms = arrived_ms.max(ready_ms);
                if let Some((bytes, copied)) = found {
                    objects.insert(accepted.uid, bytes);
                    gathered.from_copies.extend(copied.then_some(accepted.uid));
                }
            }
            self.until(arrived_ms).await;
            if objects.len() == decided.manifest.accepted.len() {
                break;
            }
            if self.now_ms() >= until_ms {
                return None;
            }
            self.sleep_until(self.now_ms() + run.poll_ms()).await;
        }
        gathered.bytes = objects.values().map(|bytes| bytes.len() as u64).sum();
        for accepted in &decided.manifest.accepted {
            let Some(bytes) = objects.get(&accepted.uid) else { continue };
            let expect = Expect { run_id: run.id, uid: accepted.uid, hotkey: accepted.hotkey, window: round.window };
            let opened = self.world.lab.borrow_mut().open(bytes, &expect);
            match opened {
                Ok(peer) => gathered.peers.push(peer),
                Err(refusal) => self.note(&Entry::Refused {
                    window: round.window,
                    uid: accepted.uid,
                    kind: refusal.kind().to_owned(),
                    reason: format!("the manifest lists it, but it does not open: {refusal}"),
                }),
            }
        }
        Some(gathered)
    }

    /// One object, from its owner or from a validator's copy: when, and whether it is a copy.
    fn fetch_accepted(&self, round: &Round, accepted: &Accepted, until_ms: u64) -> (u64, Option<(bytes::Bytes, bool)>) {
        let patience_ms = until_ms.min(self.now_ms() + round.patience_ms).saturating_add_signed(-self.skew_ms());
        let peer = round.roster.member(accepted.uid).filter(|member| member.hotkey == accepted.hotkey);
        let mut tried_ms = self.world.time.now_ms();
        let sources = peer.map(|member| (member.hotkey, names::object(round.window, accepted.uid), false)).into_iter();
        let copies = round.roster.validators.iter().map(|member| (member.hotkey, names::accepted(round.window, accepted.uid), true));
        for (hotkey, key, copied) in sources.chain(copies) {
            let Some(owner) = self.node_of(&hotkey) else { continue };
            let (ready_ms, got) = self.world.get(self.index, owner, &key, accepted.object_bytes);
            if !copied && ready_ms > patience_ms {
                tried_ms = patience_ms;
                continue;
            }
            tried_ms = tried_ms.max(ready_ms);
            if let Got::Found(bytes) = got
                && Digest::of(&bytes) == accepted.object
            {
                return (tried_ms, Some((bytes, copied)));
            }
        }
        (tried_ms, None)
    }

    /// The newest checkpoint that any validator offers, after its transfer; none when no validator can be asked.
    pub async fn load_checkpoint(&self) -> Option<Position> {
        let metagraph = self.world.metagraph(self.world.head().number);
        let mut newest: Option<Position> = None;
        let mut answered_ms = self.world.time.now_ms();
        for neuron in metagraph.neurons.iter().filter(|neuron| neuron.permit) {
            let Some(owner) = self.node_of(&neuron.hotkey) else { continue };
            let (ready_ms, got) = self.world.get(self.index, owner, names::CHECKPOINT_LATEST, CheckpointPointer::BYTES_MAX);
            answered_ms = answered_ms.max(ready_ms);
            let Got::Found(bytes) = got else { continue };
            let Ok(opened) = signed::open::<CheckpointPointer>(&bytes) else { continue };
            let pointer = opened.message;
            if opened.signer != neuron.hotkey || pointer.run != self.world.run.id || !self.world.lab.borrow().holds(&pointer.theta) {
                continue;
            }
            let offer = Position {
                window: pointer.next_window,
                global_step: pointer.global_step,
                theta: pointer.theta,
                manifest: pointer.manifest,
            };
            if newest.is_none_or(|best| (offer.window, offer.global_step) > (best.window, best.global_step)) {
                newest = Some(offer);
            }
        }
        self.until(answered_ms).await;
        newest
    }

    /// The window's entry for the journal.
    pub fn window_entry(
        &mut self,
        window: Window,
        after: &Position,
        stepped: bool,
        decided: Option<&Decided>,
        gathered: &Gathered,
    ) -> WindowEntry {
        let manifest = decided.map(|decided| &decided.manifest);
        let (committed, count) = (manifest.map_or(0, |manifest| manifest.commits.len()), gathered.peers.len());
        WindowEntry {
            window,
            global_step: after.global_step,
            stepped,
            state_digest: after.theta,
            manifest: decided.map(|decided| decided.digest),
            gathered: gathered.peers.iter().map(|peer| peer.header().uid).collect(),
            refused: manifest
                .map(|manifest| manifest.refused.iter().map(|r| (r.uid, format!("{}: {}", r.kind, r.reason))).collect())
                .unwrap_or_default(),
            from_copies: gathered.from_copies.clone(),
            gather_success: if committed == 0 { 0.0 } else { count as f64 / committed as f64 },
            object_bytes: gathered.bytes,
            phases_ms: std::mem::take(&mut self.phases),
            store_bytes: self.world.store.borrow().traffic[self.index].map(|bytes| bytes as u64),
            plan: plan_entry(&self.world.run),
            health: HealthEntry {
                disk_free_bytes: Some(if self.suffers(FaultKind::DiskFull) { 0 } else { DISK_FREE_BYTES }),
                chain_age_ms: self.chain_age_ms.take(),
                requests: self.world.store.borrow().attempts[self.index],
                ..HealthEntry::default()
            },
            ..WindowEntry::default()
        }
    }
}
