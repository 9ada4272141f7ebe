//! The detection table: every attack at several shares over many seeds, beside the same networks without it.
//!
//! For each attack and share: how many windows until its members earn less than a tenth of an honest miner, what they took of the miners'
//! emission, at which profit, and what it did to the loss. Intervals are 95 % intervals of the mean over seeds.

use crate::attacks::{KINDS, Kind};
use crate::report::{Report, costs};
use crate::scenario::{Attackers, Nodes, Scenario};
use crate::sweep::{Interval, Job, run_all};
use crate::world::WorldError;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Shares of attackers.
pub const SHARES: [f64; 3] = [0.05, 0.2, 0.4];
/// The share at which the bars hold.
const BAR_SHARE: f64 = 0.2;
/// Most reward beyond the share of honest compute.
const REWARD_BAR: f64 = 0.02;
/// Most harm to the final loss.
const HARM_BAR: f64 = 0.03;

/// How large the table is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Miners of each network.
    pub miners: usize,
    /// Windows of each run.
    pub windows: u64,
    /// Seeds, from 1.
    pub seeds: u64,
    /// Attacks; empty: all.
    pub kinds: Vec<String>,
    /// Shares of attackers.
    pub shares: Vec<f64>,
}

impl Default for Size {
    fn default() -> Self {
        Self { miners: 20, windows: 50, seeds: 20, kinds: vec![], shares: SHARES.to_vec() }
    }
}

/// A row: one attack at one share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The attack.
    pub kind: String,
    /// What it does.
    pub about: String,
    /// Share of attackers among the miners (the validators).
    pub share: f64,
    /// Attackers.
    pub attackers: usize,
    /// Training of all attackers as a share of all training.
    pub compute_share: Interval,
    /// Their share of the emission.
    pub reward_share: Interval,
    /// Windows until they earn less than a tenth of an honest miner; the whole run where never.
    pub windows_until: Interval,
    /// Profit of one attacker, in rewards of an honest miner.
    pub profit: Interval,
    /// Final loss relative to the same network in which the attackers are not there.
    pub harm: Interval,
    /// Whether the bars hold, at the share for which they are set; none elsewhere.
    pub holds: Option<bool>,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Its size.
    pub size: Size,
    /// Honest networks: figures over the seeds.
    pub honest: BTreeMap<String, Interval>,
    /// Seeds of the honest network in which equal miners' mean rewards lie within 10 % of each other.
    pub equal_seeds: usize,
    /// The rows.
    pub rows: Vec<Row>,
}

fn network(name: &str, miners: usize, windows: u64, validators: &[u64]) -> Scenario {
    Scenario {
        name: name.into(),
        about: String::new(),
        seed: 1,
        windows,
        nodes: Nodes { miners, validators: validators.len(), stakes: validators.to_vec(), step_ms: [200, 400] },
        run: serde_json::Map::new(),
        learning: crate::scenario::Learning::default(),
        network: crate::scenario::Network::default(),
        churn: crate::scenario::Churn::default(),
        attackers: vec![],
        faults: vec![],
        checks: vec![],
    }
}

/// Validators where miners attack, and five equal ones where validators do.
fn stakes(kind: &Kind) -> Vec<u64> {
    if kind.is_validators() { vec![100; 5] } else { vec![100, 80, 64] }
}

/// One kind of network of the table.
struct Plan {
    kind: Option<&'static Kind>,
    share: f64,
    scenario: Scenario,
}

fn plans(size: &Size) -> Vec<Plan> {
    let chosen: Vec<&'static Kind> =
        KINDS.iter().filter(|kind| size.kinds.is_empty() || size.kinds.iter().any(|name| name == kind.name)).collect();
    let mut plans = vec![Plan { kind: None, share: 0.0, scenario: network("honest", size.miners, size.windows, &[100, 80, 64]) }];
    // The networks without attackers, to which the losses are compared.
    for &share in &size.shares {
        let miners = size.miners - count(share, size.miners);
        plans.push(Plan { kind: None, share, scenario: network("without", miners, size.windows, &[100, 80, 64]) });
    }
    for kind in chosen {
        for &share in size.shares.iter().take(if kind.leads() { 1 } else { usize::MAX }) {
            let mut scenario = network(kind.name, size.miners, size.windows, &stakes(kind));
            scenario.attackers = vec![Attackers { kind: kind.name.into(), share: Some(share), count: None, from_window: 0 }];
            plans.push(Plan { kind: Some(kind), share, scenario });
        }
    }
    plans
}

fn count(share: f64, all: usize) -> usize {
    ((share * all as f64).round() as usize).max(1)
}

/// Makes the table with `threads` threads; `told` hears how many runs are done, of how many.
///
/// # Errors
/// A network cannot be played: a defect.
pub fn make(size: &Size, threads: usize, told: impl Fn(usize, usize) + Sync) -> Result<Table, WorldError> {
    let plans = plans(size);
    let jobs: Vec<Job> = plans.iter().flat_map(|plan| (1..=size.seeds).map(|seed| Job { scenario: plan.scenario.clone(), seed })).collect();
    let total = jobs.len();
    let reports = run_all(&jobs, threads, |done| told(done, total))?;
    let by_plan: Vec<&[Report]> = reports.chunks(size.seeds.max(1) as usize).collect();
    let honest = by_plan.first().copied().unwrap_or_default();
    let figure = |report: &Report, name: &str| report.figures.get(name).copied();
    let equal_seeds = honest.iter().filter(|report| figure(report, "honest.spread").is_some_and(|spread| spread <= 0.1)).count();
    let without = |share: f64| {
        let place = plans.iter().position(|plan| plan.kind.is_none() && plan.share == share);
        place.map_or(honest, |place| by_plan[place])
    };
    let rows = plans.iter().zip(&by_plan).filter_map(|(plan, reports)| {
        let kind = plan.kind?;
        let baseline = if kind.is_validators() { honest } else { without(plan.share) };
        Some(row(kind, plan.share, size, reports, baseline))
    });
    Ok(Table { honest: crate::sweep::figures(honest), equal_seeds, rows: rows.collect(), size: size.clone() })
}

fn row(kind: &Kind, share: f64, size: &Size, reports: &[Report], baseline: &[Report]) -> Row {
    let of = |name: &str| {
        let name = format!("{name}.{}", kind.name);
        Interval::of(&reports.iter().filter_map(|report| report.figures.get(&name).copied()).collect::<Vec<f64>>())
    };
    let loss = |report: &Report| report.figures.get("final_loss").copied().unwrap_or(0.0);
    // Paired by seed: the same problem, the same honest miners.
    let harms: Vec<f64> = reports.iter().zip(baseline).map(|(with, without)| loss(with) / loss(without) - 1.0).collect();
    let (reward_share, compute_share, profit, harm) = (of("reward_share"), of("compute_share"), of("profit"), Interval::of(&harms));
    let all = if kind.is_validators() { stakes(kind).len() } else { size.miners };
    let paid =
        reward_share.upper() <= compute_share.mean + REWARD_BAR && (profit.upper() <= 0.0 || kind.compute >= 1.0 && !kind.one_trainer);
    let holds = (share == BAR_SHARE && !kind.is_validators()).then(|| paid && harm.upper() <= HARM_BAR);
    Row {
        kind: kind.name.into(),
        about: kind.about.into(),
        share,
        attackers: if kind.leads() { 1 } else { count(share, all) },
        compute_share,
        reward_share,
        windows_until: of("windows_until"),
        profit,
        harm,
        holds,
    }
}

impl Table {
    /// Whether every bar holds.
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds.unwrap_or(true))
    }

    /// The table as a page of documentation.
    pub fn markdown(&self) -> String {
        let mut out = String::from(
            "| attack | attackers | compute | reward | windows until | profit | harm to the loss | bar |\n|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let percent = |interval: &Interval| format!("{:.1} ± {:.1} %", 100.0 * interval.mean, 100.0 * interval.half);
            let has_miners = row.profit.runs > 0;
            let until = if row.windows_until.least >= self.size.windows as f64 {
                "never".to_owned()
            } else {
                format!("{:.0} ± {:.0}", row.windows_until.mean, row.windows_until.half)
            };
            let of_miners = |text: String| if has_miners { text } else { "—".to_owned() };
            let cells = [
                row.kind.to_string(),
                format!("{:.0} %", 100.0 * row.share),
                of_miners(format!("{:.1} %", 100.0 * row.compute_share.mean)),
                percent(&row.reward_share),
                of_miners(until),
                of_miners(format!("{:+.2} ± {:.2}", row.profit.mean, row.profit.half)),
                format!("{:+.1} ± {:.1} %", 100.0 * row.harm.mean, 100.0 * row.harm.half),
                match row.holds {
                    Some(true) => "holds",
                    Some(false) => "**fails**",
                    None => "",
                }
                .to_owned(),
            ];
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        out
    }

    /// What an honest miner's costs are taken to be.
    pub fn costs() -> String {
        format!(
            "training {:.0} %, bandwidth {:.0} %, registration {:.0} % of an honest miner's reward",
            100.0 * costs::TRAINING,
            100.0 * costs::BANDWIDTH,
            100.0 * costs::REGISTRATION
        )
    }
}
