//! Attackers in a local network: miners of their own processes, whose conduct is an attack of the simulator.

use super::setup::NodeSpec;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use templar_node::conduct::Conduct;
use templar_protocol::Uid;
use templar_protocol::hparams::Hparams;
use templar_sim::attacks::{self, KINDS, Kind, Setup};
use templar_sim::draw::Draw;

/// Most attackers of one kind.
const COUNT_MAX: usize = 100;

/// Attackers of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversaries {
    /// The attack's name.
    pub kind: String,
    /// How many.
    pub count: usize,
}

/// One attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The attack's name.
    pub kind: &'static str,
    /// Its place among those of its kind, from 0.
    pub place: usize,
    /// The uid of the first of them.
    pub head: Uid,
}

fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.is_a_conduct())
}

/// What `--help` says: every kind with its sentence.
pub fn help() -> String {
    let list: String = kinds().map(|kind| format!("\n  {:<18} {}", kind.name, kind.about)).collect();
    format!("Add N attacking miners of a kind [default: 1]; may be repeated. Kinds:{list}")
}

/// `KIND` or `KIND=N`.
///
/// # Errors
/// An unknown kind, with the list of all, or a number that is none.
pub fn parse(text: &str) -> Result<Adversaries, String> {
    let (kind, count) = text.split_once('=').unwrap_or((text, "1"));
    let known = named(kind)?;
    match count.parse() {
        Ok(count) if (1..=COUNT_MAX).contains(&count) => Ok(Adversaries { kind: known.name.to_owned(), count }),
        _ => Err(format!("{count:?} is no number of attackers from 1 to {COUNT_MAX}")),
    }
}

fn named(kind: &str) -> Result<&'static Kind, String> {
    kinds().find(|known| known.name == kind).ok_or_else(|| {
        let names: Vec<&str> = kinds().map(|kind| kind.name).collect();
        format!("{kind:?} is no attack; name one of {}", names.join(", "))
    })
}

/// One entry for each kind, the same kinds added up, in the order of their first mention.
pub fn merged(asked: &[Adversaries]) -> Vec<Adversaries> {
    let mut merged: Vec<Adversaries> = Vec::new();
    for more in asked {
        match merged.iter_mut().find(|known| known.kind == more.kind) {
            Some(known) => known.count += more.count,
            None => merged.push(more.clone()),
        }
    }
    merged
}

/// The names of the attackers' nodes with their roles; `first` is the uid of the first.
pub fn nodes(adversaries: &[Adversaries], first: u16) -> Vec<(String, Role)> {
    let mut uid = first;
    let mut nodes = Vec::new();
    for Adversaries { kind, count } in adversaries {
        // A directory of another version may name an attack that is gone.
        let Some(known) = attacks::find(kind) else { continue };
        let head = Uid(uid);
        for place in 0..*count {
            nodes.push((format!("{kind}-{place}"), Role { kind: known.name, place, head }));
            uid = uid.saturating_add(1);
        }
    }
    nodes
}

/// Who attacks, and how; none without attackers.
pub fn introduction(nodes: &[NodeSpec]) -> Option<String> {
    let roles = nodes.iter().filter_map(|node| Some((node.uid, attacks::find(node.adversary.as_ref()?.kind)?)));
    let told: Vec<String> = roles.map(|(uid, kind)| format!("uid {uid} {}: {}", kind.name, kind.about)).collect();
    (!told.is_empty()).then(|| format!("attackers: {}", told.join("; ")))
}

impl Role {
    /// The conduct of the miner with `uid` in a run with `hparams`.
    pub fn conduct(&self, uid: Uid, hparams: &Hparams) -> Box<dyn Conduct> {
        let draw = Draw::new(u64::from(uid.0)).of("attack");
        let setup = Setup { draw, uid, place: self.place, head: self.head, hparams: hparams.clone() };
        match attacks::find(self.kind) {
            Some(kind) => kind.conduct(&setup),
            None => Box::new(templar_node::conduct::Honest),
        }
    }

    /// The value of the hidden flag by which a miner's process is given its role.
    pub fn flag(&self) -> String {
        format!("{},{},{}", self.kind, self.place, self.head)
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let (kind, place, head) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let number = |part: Option<&str>| part.map_or(Ok(0), str::parse::<u16>).map_err(|error| error.to_string());
        Ok(Self { kind: named(kind)?.name, place: usize::from(number(place)?), head: Uid(number(head)?) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn kinds_are_named_counted_and_added_up() {
        let parsed: Vec<_> = ["late", "sybil=3", "late=2"].map(|text| parse(text).expect("a kind")).to_vec();
        let merged = merged(&parsed);
        assert_eq!(merged, [Adversaries { kind: "late".into(), count: 3 }, Adversaries { kind: "sybil".into(), count: 3 }]);
        let nodes = nodes(&merged, 4);
        let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["late-0", "late-1", "late-2", "sybil-0", "sybil-1", "sybil-2"]);
        assert_eq!(nodes[5].1, Role { kind: "sybil", place: 2, head: Uid(7) });
        assert_eq!(nodes[5].1.flag().parse::<Role>(), Ok(nodes[5].1.clone()));
    }

    #[test]
    fn who_names_no_attack_is_given_the_list() {
        for wrong in ["nonsense", "weight-copier", "equivocate"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("sign-flip") && error.contains("free-zero") && !error.contains("leader-lies"), "{error}");
        }
        for wrong in ["late=0", "late=x", "late=101"] {
            assert!(parse(wrong).unwrap_err().contains("number of attackers"), "{wrong}");
        }
        assert!(help().contains("sign-flip") && help().contains("sends the opposite"));
    }

    #[test]
    fn every_kind_makes_its_conduct() {
        let hparams = templar_protocol::hparams::Hparams::preset("local").expect("a preset");
        for kind in kinds() {
            let role: Role = format!("{},0,3", kind.name).parse().expect("a kind");
            role.conduct(Uid(3), &hparams);
        }
    }
}
