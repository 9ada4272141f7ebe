//! From the facts of a run to figures: loss, rewards, wrong exclusions, and what each attack has gained.

use crate::attacks;
use crate::record::Record;
use crate::scenario::Check;
use crate::store::NodeIndex;
use crate::world::{FIRST_WINDOW, NodeInfo, Role, World};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

/// Windows that "at the end" means, at most.
const LAST_WINDOWS: usize = 10;
/// An attacker is detected when it earns less than this share of what an honest miner earns.
const DETECTED: f64 = 0.1;

/// What an honest miner's costs consist of, as shares of its reward at break-even.
pub mod costs {
    /// Training.
    pub const TRAINING: f64 = 0.85;
    /// Bandwidth.
    pub const BANDWIDTH: f64 = 0.10;
    /// Registration, written off over the run.
    pub const REGISTRATION: f64 = 0.05;
}

/// A property of the scenario, observed against expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The property.
    pub check: Check,
    /// What was observed; none when there is no such figure.
    pub observed: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
}

/// A miner's run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MinerLine {
    /// Its name.
    pub name: String,
    /// Its attack.
    pub attack: Option<&'static str>,
    /// Windows in which it took inner steps.
    pub trained: u64,
    /// Windows in which its object was aggregated.
    pub aggregated: u64,
    /// Its share of all that miners were paid.
    pub reward_share: f64,
    /// Its share of what miners were paid at the end.
    pub last_share: f64,
    /// Kinds of refusals, with their numbers.
    pub refusals: BTreeMap<String, u64>,
}

/// The report of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Windows.
    pub windows: u64,
    /// All figures by name.
    pub figures: BTreeMap<String, f64>,
    /// The miners.
    pub miners: Vec<MinerLine>,
    /// Held-out loss after each window, nats.
    pub losses: Vec<f64>,
    /// The scenario's checks.
    pub checks: Vec<Checked>,
}

struct Facts<'a> {
    record: &'a Record,
    nodes: Vec<Rc<NodeInfo>>,
    windows: u64,
}

impl Report {
    /// The report of a world whose time is over.
    pub fn of(world: &World, seed: u64) -> Self {
        let record = world.record.borrow();
        let facts = Facts { record: &record, nodes: world.nodes.borrow().clone(), windows: world.scenario.windows };
        let losses = facts.losses();
        let mut figures = facts.honesty();
        figures.extend(facts.attacks());
        figures.extend(facts.gauge());
        let last = &losses[losses.len().saturating_sub(LAST_WINDOWS.min(losses.len().div_ceil(5)))..];
        figures.insert("final_loss".into(), mean(last));
        figures.insert("mean_loss".into(), mean(&losses));
        figures.insert("first_loss".into(), losses.first().copied().unwrap_or(0.0));
        figures.insert("void_windows".into(), record.void.len() as f64);
        figures.insert("resyncs".into(), record.resyncs.values().sum::<u64>() as f64);
        let checks = world.scenario.checks.iter().map(|check| checked(check, &figures)).collect();
        Self {
            scenario: world.scenario.name.clone(),
            seed,
            windows: world.scenario.windows,
            miners: facts.miners(),
            figures,
            losses,
            checks,
        }
    }

    /// Whether all checks hold.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|checked| checked.passed)
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{} · seed {} · {} windows", self.scenario, self.seed, self.windows);
        let _ = writeln!(
            out,
            "\n{:<8} {:<18} {:>8} {:>10} {:>8} {:>8}  refused",
            "miner", "attack", "trained", "aggregated", "reward", "at end"
        );
        for line in &self.miners {
            let refusals: Vec<String> = line.refusals.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            let _ = writeln!(
                out,
                "{:<8} {:<18} {:>8} {:>10} {:>7.2}% {:>7.2}%  {}",
                line.name,
                line.attack.unwrap_or("—"),
                line.trained,
                line.aggregated,
                100.0 * line.reward_share,
                100.0 * line.last_share,
                refusals.join(", ")
            );
        }
        out.push('\n');
        for (name, value) in &self.figures {
            let _ = writeln!(out, "{name:<40} {value:.6}");
        }
        for checked in &self.checks {
            let bound = match (checked.check.at_least, checked.check.at_most) {
                (Some(least), Some(most)) => format!("from {least} to {most}"),
                (Some(least), None) => format!("at least {least}"),
                (None, Some(most)) => format!("at most {most}"),
                (None, None) => "without a bound".into(),
            };
            let observed = checked.observed.map_or("no such figure".into(), |value| format!("{value:.6}"));
            let _ = writeln!(
                out,
                "{} {}: {observed}, expected {bound}",
                if checked.passed { "passed" } else { "FAILED" },
                checked.check.figure
            );
        }
        out
    }
}

fn checked(check: &Check, figures: &BTreeMap<String, f64>) -> Checked {
    let observed = figures.get(&check.figure).copied();
    let holds = |value: f64| check.at_most.is_none_or(|most| value <= most) && check.at_least.is_none_or(|least| value >= least);
    Checked { check: check.clone(), observed, passed: observed.is_some_and(holds) }
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Facts<'_> {
    fn miners_where(&self, choose: impl Fn(&NodeInfo) -> bool) -> Vec<NodeIndex> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].role == Role::Miner && choose(&self.nodes[index])).collect()
    }

    /// Losses as the first honest validator has measured them.
    fn losses(&self) -> Vec<f64> {
        let honest = (0..self.nodes.len()).find(|&index| self.nodes[index].role == Role::Validator && self.nodes[index].attack.is_none());
        let measured = honest.or(Some(0)).and_then(|index| self.record.losses.get(&index));
        measured.map(|losses| losses.values().copied().collect()).unwrap_or_default()
    }

    /// Emission of each miner in the epochs from window `from` on.
    fn rewards(&self, from: u64) -> BTreeMap<NodeIndex, f64> {
        let mut sums: BTreeMap<NodeIndex, f64> = BTreeMap::new();
        for epoch in self.record.epochs.iter().filter(|epoch| epoch.window >= from) {
            for (&node, &amount) in epoch.emission.iter().filter(|(node, _)| self.nodes[**node].role == Role::Miner) {
                *sums.entry(node).or_default() += amount as f64;
            }
        }
        sums
    }

    fn last(&self) -> u64 {
        (FIRST_WINDOW.0 + self.windows).saturating_sub(LAST_WINDOWS as u64)
    }

    fn miners(&self) -> Vec<MinerLine> {
        let (all, last) = (self.rewards(0), self.rewards(self.last()));
        let (total, last_total) = (all.values().sum::<f64>().max(1.0), last.values().sum::<f64>().max(1.0));
        let of = |index: NodeIndex| {
            let efforts = self.record.efforts.values().filter_map(|miners| miners.get(&index));
            MinerLine {
                name: self.nodes[index].name.clone(),
                attack: self.nodes[index].attack,
                trained: efforts.filter(|effort| effort.steps > 0).count() as u64,
                aggregated: self.record.accepted.values().filter(|accepted| accepted.contains(&index)).count() as u64,
                reward_share: all.get(&index).copied().unwrap_or(0.0) / total,
                last_share: last.get(&index).copied().unwrap_or(0.0) / last_total,
                refusals: self.record.refusals.get(&index).cloned().unwrap_or_default(),
            }
        };
        self.miners_where(|_| true).into_iter().map(of).collect()
    }

    /// Whether honest work was paid, and paid alike.
    fn honesty(&self) -> BTreeMap<String, f64> {
        let honest = self.miners_where(|node| node.attack.is_none());
        let (mut miner_windows, mut excluded, mut slashed) = (0.0, 0.0, 0.0);
        for (window, efforts) in &self.record.efforts {
            // A window whose decision was not recorded is not over.
            let Some(accepted) = self.record.accepted.get(window) else { continue };
            for (miner, effort) in efforts.iter().filter(|(miner, _)| honest.contains(miner)) {
                let down = self.record.down.get(miner).is_some_and(|down| down.contains(window));
                if effort.steps == 0 || !effort.committed || !effort.delivered || down {
                    continue;
                }
                miner_windows += 1.0;
                excluded += f64::from(u8::from(!accepted.contains(miner)));
                let penalised = self.record.penalties.iter().any(|((_, of), windows)| of == miner && windows.contains(window));
                slashed += f64::from(u8::from(penalised));
            }
        }
        let last = self.rewards(self.last());
        let shares: Vec<f64> =
            honest.iter().filter(|miner| !self.record.since.contains_key(miner)).filter_map(|miner| last.get(miner).copied()).collect();
        let (least, most) = (shares.iter().copied().fold(f64::INFINITY, f64::min), shares.iter().copied().fold(0.0, f64::max));
        let spread = if shares.is_empty() || least <= 0.0 { f64::from(u8::from(!shares.is_empty())) * 1e9 } else { most / least - 1.0 };
        BTreeMap::from([
            ("honest.miner_windows".into(), miner_windows),
            ("honest.excluded".into(), excluded / f64::max(miner_windows, 1.0)),
            ("honest.slashed".into(), slashed / f64::max(miner_windows, 1.0)),
            ("honest.wronged".into(), (excluded + slashed) / f64::max(miner_windows, 1.0)),
            ("honest.spread".into(), spread),
        ])
    }

    /// For each kind of attack: how long until it was detected, what it took, and at which profit.
    fn attacks(&self) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::new();
        let honest = self.miners_where(|node| node.attack.is_none());
        let all = self.miners_where(|_| true).len() as f64;
        let mut kinds: Vec<&'static str> = self.nodes.iter().filter_map(|node| node.attack).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for name in kinds {
            let Some(kind) = attacks::find(name) else { continue };
            let members = self.miners_where(|node| node.attack == Some(name));
            if members.is_empty() {
                figures.extend(self.validators_gain(name));
                continue;
            }
            let rewards = self.rewards(0);
            let total: f64 = rewards.values().sum::<f64>().max(1.0);
            let taken: f64 = members.iter().filter_map(|member| rewards.get(member)).sum::<f64>() / total;
            let count = members.len() as f64;
            let compute = kind.gang_compute(members.len());
            // A sleeper trains until it wakes.
            let compute = if name == "sleeper" { self.worked(&members) } else { compute };
            let others = (all - count).max(0.0);
            let fair = 1.0 / all;
            let cost = fair * (costs::TRAINING * compute + (costs::BANDWIDTH + costs::REGISTRATION) * count);
            figures.insert(format!("reward_share.{name}"), taken);
            figures.insert(format!("compute_share.{name}"), compute / (compute + others).max(1e-9));
            figures.insert(format!("profit.{name}"), (taken - cost) / (fair * count));
            figures.insert(format!("windows_until.{name}"), self.detected(&members, &honest));
        }
        figures
    }

    /// Training that these miners have really done, in honest miners.
    fn worked(&self, members: &[NodeIndex]) -> f64 {
        let steps = |member: &NodeIndex| {
            self.record.efforts.values().filter_map(|miners| miners.get(member)).filter(|effort| effort.steps > 0).count() as f64
        };
        members.iter().map(steps).sum::<f64>() / self.windows.max(1) as f64
    }

    /// Windows from the attack's begin until its members earn less than a tenth of honest miners for good; the whole run if never.
    fn detected(&self, members: &[NodeIndex], honest: &[NodeIndex]) -> f64 {
        let mean_of = |epoch: &crate::record::Epoch, nodes: &[NodeIndex]| {
            mean(&nodes.iter().map(|node| epoch.emission.get(node).copied().unwrap_or(0) as f64).collect::<Vec<f64>>())
        };
        let begins = members.iter().map(|member| self.nodes[*member].attack_from.0).min().unwrap_or(0).max(FIRST_WINDOW.0);
        let paid = self.record.epochs.iter().filter(|epoch| mean_of(epoch, honest) > 0.0);
        let last_paid = paid.filter(|epoch| mean_of(epoch, members) >= DETECTED * mean_of(epoch, honest)).map(|epoch| epoch.window).max();
        last_paid.map_or(0.0, |window| (window + 1).saturating_sub(begins) as f64)
    }

    /// What attacking validators are paid, relative to honest ones of the same stake.
    fn validators_gain(&self, name: &str) -> BTreeMap<String, f64> {
        let paid = |choose: &dyn Fn(&NodeInfo) -> bool| -> f64 {
            let of = |epoch: &crate::record::Epoch| {
                epoch.emission.iter().filter(|(node, _)| choose(&self.nodes[**node])).map(|(_, amount)| *amount as f64).sum::<f64>()
            };
            self.record.epochs.iter().map(of).sum()
        };
        let all = paid(&|node| node.role == Role::Validator).max(1.0);
        BTreeMap::from([(format!("reward_share.{name}"), paid(&|node| node.attack == Some(name)) / all)])
    }

    fn gauge(&self) -> BTreeMap<String, f64> {
        let gauge = &self.record.gauge;
        let count = gauge.count.max(1.0);
        BTreeMap::from([
            ("gain.random".into(), gauge.random / count),
            ("gain.own".into(), gauge.own / count),
            ("gain.spread".into(), gauge.spread / count),
            ("gain.advantage".into(), gauge.advantage / count),
            ("cosine.within".into(), gauge.within.1 / gauge.within.0.max(1.0)),
            ("cosine.across".into(), gauge.across.1 / gauge.across.0.max(1.0)),
            ("cosine.same_miner".into(), gauge.same.1 / gauge.same.0.max(1.0)),
        ])
    }
}
