//! The attacks, each in a small file: what it does, why anybody would, and how much of an honest miner's work it costs.
//!
//! Miners' attacks are [`Conduct`]s, so they run in a simulated and in a real network alike; validators' are [`Office`]s.

mod boost;
mod bytes;
mod collude;
mod copy;
pub mod craft;
mod data;
mod flip;
mod free;
mod late;
mod leader;
mod sleeper;
mod stale;
mod sybil;
mod weights;

use crate::draw::Draw;
use crate::store::NodeIndex;
use crate::world::World;
use templar_chain::WeightRows;
use templar_node::conduct::{Conduct, Honest};
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::Manifest;
use templar_protocol::{Uid, Window};

/// What an attacking miner knows when it begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its own chance.
    pub draw: Draw,
    /// Its slot.
    pub uid: Uid,
    /// Its place in its gang, from 0.
    pub place: usize,
    /// The slot of the gang's first member.
    pub head: Uid,
    /// The run's hyper-parameters.
    pub hparams: Hparams,
}

/// What a validator does where the protocol leaves it the choice.
pub trait Office {
    /// May change the manifest before it is signed; `false` withholds it.
    fn publish(&mut self, _manifest: &mut Manifest) -> bool {
        true
    }

    /// The weights to set, given the own ones and those that stand on the chain.
    fn weights(&mut self, own: Vec<(Uid, f64)>, _chain: &WeightRows) -> Vec<(Uid, f64)> {
        own
    }
}

/// The honest validator.
pub struct HonestOffice;

impl Office for HonestOffice {}

/// Whose attack it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Miners,
    Validators,
    Leader,
}

/// A kind of attack.
pub struct Kind {
    /// Its name in scenarios, tables and on the command line.
    pub name: &'static str,
    /// A sentence about it.
    pub about: &'static str,
    /// Training that one attacker does, as a share of an honest miner's; for gangs with one trainer see `gang_compute`.
    pub compute: f64,
    /// Whether only one member of a gang trains.
    pub one_trainer: bool,
    party: Party,
    make: fn(&Setup) -> Box<dyn Conduct>,
}

impl Kind {
    /// Whether validators do it.
    pub fn is_validators(&self) -> bool {
        self.party != Party::Miners
    }

    /// Whether a miner's process does it by itself: without a store or a validator of its making.
    pub fn is_a_conduct(&self) -> bool {
        self.party == Party::Miners && !matches!(self.name, "slow" | "equivocate")
    }

    /// Whether it is done by whoever has most stake.
    pub fn leads(&self) -> bool {
        self.party == Party::Leader
    }

    /// Training that a gang of `members` does, in honest miners.
    pub fn gang_compute(&self, members: usize) -> f64 {
        self.compute * if self.one_trainer { 1.0 } else { members as f64 }
    }

    /// The conduct of a miner with this attack.
    pub fn conduct(&self, setup: &Setup) -> Box<dyn Conduct> {
        (self.make)(setup)
    }
}

const fn miners(name: &'static str, about: &'static str, compute: f64, make: fn(&Setup) -> Box<dyn Conduct>) -> Kind {
    Kind { name, about, compute, one_trainer: false, party: Party::Miners, make }
}

const fn gang(name: &'static str, about: &'static str, make: fn(&Setup) -> Box<dyn Conduct>) -> Kind {
    Kind { one_trainer: true, ..miners(name, about, 1.0, make) }
}

const fn validators(name: &'static str, about: &'static str, party: Party) -> Kind {
    Kind { party, ..miners(name, about, 1.0, |_| Box::new(Honest)) }
}

/// All attacks, in the order of the table.
pub static KINDS: &[Kind] = &[
    miners("copy-late", "waits for a peer's object, then commits to a copy of it", 0.0, copy::late),
    miners("copy-replay", "sends a peer's object of the previous window again", 0.0, copy::replay),
    miners("copy-rescaled", "sends a peer's previous update, larger", 0.0, copy::rescaled),
    miners("copy-overwritten", "sends a peer's previous update with its smaller half replaced by noise", 0.0, copy::overwritten),
    miners("copy-average", "sends the mean of all peers' previous updates", 0.0, copy::average),
    miners("free-zero", "sends an update that changes nothing", 0.0, free::zeros),
    miners("free-noise", "sends noise of the usual norm", 0.0, free::noise),
    miners("sign-flip", "trains, and sends the opposite", 1.0, flip::flip),
    miners("norm-boost", "trains, and sends ten times the result", 1.0, boost::boost),
    miners("other-data", "trains on samples of its own choice", 1.0, data::other),
    miners("part-data", "trains on the first quarter of its assignment only", 0.25, data::part),
    miners("part-boosted", "trains on the first quarter of its assignment and sends four times the result", 0.25, data::part_boosted),
    miners("stale-honest", "trains from θ of four steps ago and says so", 1.0, stale::honest),
    miners("stale-lying", "trains from θ of four steps ago and claims the present one", 1.0, stale::lying),
    miners("late", "puts its object after the upload window", 1.0, late::late),
    miners("malformed", "seals bytes that are no update", 0.0, bytes::malformed),
    miners("oversized", "puts more bytes than it has committed to", 1.0, bytes::oversized),
    miners("slow", "lets its bucket drip", 1.0, |_| Box::new(Honest)),
    miners("equivocate", "gives different bytes to different readers", 1.0, |_| Box::new(Honest)),
    gang("sybil", "several hotkeys send the object of one trainer", sybil::exact),
    gang("sybil-rescaled", "several hotkeys send one trainer's update in different sizes", sybil::rescaled),
    gang(
        "sybil-overwritten",
        "several hotkeys send one trainer's update, each with another third of the small values replaced",
        sybil::overwritten,
    ),
    gang("sybil-noised", "several hotkeys send one trainer's update, each with noise of half its norm", sybil::noised),
    gang("sybil-split", "several hotkeys send different halves of one trainer's update", sybil::split),
    miners("sleeper", "is honest for 20 windows, then sends noise", 0.0, sleeper::sleeper),
    validators("weight-copier", "a validator that sets the weights it reads on the chain", Party::Validators),
    validators("leader-lies", "a leader that leaves a third of the miners out of its manifest", Party::Leader),
    validators("leader-withholds", "a leader that publishes no manifest", Party::Leader),
    validators("collusion", "validators that give all weight to the attacking miners, or to one miner", Party::Validators),
];

/// The attack called `name`.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The names of all attacks.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// The conduct of an attacking miner of the simulation.
pub fn conduct(world: &World, index: NodeIndex, kind: &'static str) -> Box<dyn Conduct> {
    let info = world.node(index);
    let place = info.gang.iter().position(|&member| member == index).unwrap_or(0);
    let setup = Setup {
        draw: world.draw.of("attack").at(index as u64),
        uid: uid_of(world, index),
        place,
        head: uid_of(world, info.gang.first().copied().unwrap_or(index)),
        hparams: world.run.hparams().clone(),
    };
    let Some(kind) = find(kind) else { return Box::new(Honest) };
    if kind.name == "slow" {
        let timetable = setup.hparams.timetable;
        let bytes = world.lab.borrow().object_bytes_max() as f64 * world.scenario.network.size_factor;
        // A full object takes four times as long as everybody waits.
        world.store.borrow_mut().slow_down(index, bytes / (4.0 * (timetable.upload_window_ms + timetable.gather_ms) as f64));
    }
    let conduct = kind.conduct(&setup);
    if info.attack_from > Window(0) { Box::new(sleeper::Begins::new(info.attack_from, conduct)) } else { conduct }
}

/// What every other reader gets of an equivocating miner.
pub fn alternate(attack: Option<&'static str>, bytes: &::bytes::Bytes) -> Option<::bytes::Bytes> {
    (attack == Some("equivocate")).then(|| bytes::altered(bytes))
}

/// The office of a validator of the simulation.
pub fn office(world: &World, index: NodeIndex) -> Box<dyn Office> {
    let info = world.node(index);
    match info.attack {
        Some("weight-copier") => Box::new(weights::Copier { own: uid_of(world, index) }),
        Some("leader-lies") => Box::new(leader::Lies { draw: world.draw.of("attack").at(index as u64) }),
        Some("leader-withholds") => Box::new(leader::Withholds),
        Some("collusion") => Box::new(collude::Collusion::new(world)),
        _ => Box::new(HonestOffice),
    }
}

fn uid_of(world: &World, index: NodeIndex) -> Uid {
    let key = world.node(index).key.clone();
    let metagraph = world.metagraph(world.head().number);
    metagraph.by_hotkey(&templar_wallet::Signer::account_id(&*key)).map_or(Uid(u16::MAX), |neuron| neuron.uid)
}
