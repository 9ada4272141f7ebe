//! The catalogue of alerts: what each measures, from where on it is raised, and with which room it is cleared.

use crate::diagnose::case::{Case, RECENT};
use crate::watch::measures;
use serde::{Deserialize, Serialize};

/// On which side of its thresholds a value is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Below them.
    Below,
    /// Above them.
    Above,
}

/// From where on an alert is raised. Values on the threshold itself are good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// From here on it warns.
    pub warn: f64,
    /// From here on it is critical.
    pub critical: f64,
    /// How far back beyond a threshold the value must come before the alert is cleared.
    pub room: f64,
}

/// An alert.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Stable id, also the key in `templar.toml`.
    pub id: &'static str,
    /// What is measured, with its unit.
    pub measures: &'static str,
    /// What it means when it is raised.
    pub meaning: &'static str,
    /// The bad side.
    pub side: Side,
    /// The thresholds, unless the settings have others.
    pub thresholds: Thresholds,
    /// The value; none where it is not known.
    pub value: fn(&Case<'_>, Option<u64>) -> Option<f64>,
}

const GIB: f64 = (1u64 << 30) as f64;

const fn rule(
    id: &'static str,
    measures: &'static str,
    meaning: &'static str,
    side: Side,
    [warn, critical, room]: [f64; 3],
    value: fn(&Case<'_>, Option<u64>) -> Option<f64>,
) -> Rule {
    Rule { id, measures, meaning, side, thresholds: Thresholds { warn, critical, room }, value }
}

/// All alerts.
pub const RULES: [Rule; 19] = [
    rule(
        "gather-success",
        "mean share of the announced objects that were gathered in the last 6 windows",
        "the network, or this node's way to it, is in trouble; at a validator, little is left to judge by",
        Side::Below,
        [0.8, 0.4, 0.05],
        |case, _| Some(measures::gather_success(case.node.last(RECENT))?.0),
    ),
    rule(
        "inner-steps",
        "inner steps of the last window as a share of the plan",
        "training is lost that others have",
        Side::Below,
        [1.0, 2.0 / 3.0, 0.0],
        |case, _| {
            let newest = case.node.newest()?;
            let (training, plan) = (newest.training.as_ref()?, newest.plan.inner_steps);
            (plan > 0).then(|| f64::from(training.steps) / f64::from(plan))
        },
    ),
    rule(
        "training-rate",
        "tokens per second of the last window as a share of the median of those before",
        "the machine has become slower: heat, another process, a slow disk",
        Side::Below,
        [0.9, 0.7, 0.03],
        training_rate,
    ),
    rule(
        "window-time",
        "work of the last window as a share of the window's length",
        "a window that is overrun is lost",
        Side::Above,
        [0.94, 1.0, 0.04],
        |case, _| {
            let newest = case.node.newest().filter(|entry| entry.plan.window_ms > 0)?;
            Some(measures::work_ms(newest) as f64 / newest.plan.window_ms as f64)
        },
    ),
    rule(
        "upload-margin",
        "time that was left at the last upload as a share of the upload window",
        "the next object may be late, which counts as none",
        Side::Below,
        [0.2, 0.0, 0.1],
        |case, _| {
            let newest = case.node.newest()?;
            let room_ms = newest.plan.upload_ms.checked_sub(newest.plan.block_ms).filter(|ms| *ms > 0)?;
            Some(newest.training.as_ref()?.upload_margin_ms? as f64 / room_ms as f64)
        },
    ),
    rule(
        "missed-windows",
        "windows among the last 6 whose manifest does not list this miner",
        "what is not listed is not paid",
        Side::Above,
        [0.0, 1.0, 0.0],
        |case, _| case.mines().then(|| case.fates().iter().filter(|(_, kind, _)| kind != "accepted").count() as f64),
    ),
    rule(
        "outer-steps-missed",
        "windows among the last 10 without an outer step",
        "θ stands still here, or the network has no leader",
        Side::Above,
        [0.0, 1.0, 0.0],
        |case, _| case.node.newest().map(|_| measures::missed_steps(case.node.last(10)) as f64),
    ),
    rule(
        "desynchronised",
        "times that θ was loaded anew, or an object was refused for another θ, in the last 6 windows",
        "this node's θ is not the network's",
        Side::Above,
        [0.0, 1.0, 0.0],
        |case, _| {
            let since_ms = case.node.since_ms(RECENT);
            let resyncs = case.node.resyncs.iter().filter(|resync| resync.t_ms > since_ms).count();
            case.node.newest().map(|_| (resyncs + case.refused(&["desynchronised"]).len()) as f64)
        },
    ),
    rule(
        "negative-scores",
        "evaluations among the last 8 in which the update raised the loss beyond two standard errors",
        "such updates pay nothing and cost standing",
        Side::Above,
        [2.0, 4.0, 1.0],
        |case, _| {
            let (_, judged) = case.judged().into_iter().next()?;
            let scores = judged.iter().rev().filter_map(|judged| judged.score).take(8);
            Some(scores.filter(|[score, error]| score + 2.0 * error < 0.0).count() as f64)
        },
    ),
    rule(
        "own-data",
        "the factor of the weight for the mark of own data",
        "the assigned data seem not to be trained on",
        Side::Below,
        [0.9, 0.5, 0.05],
        |case, _| case.judged().into_iter().next()?.1.back()?.work,
    ),
    rule(
        "standing",
        "the factor of the weight that offences have left",
        "validators have penalised this miner",
        Side::Below,
        [0.99, 0.6, 0.005],
        |case, _| Some(case.judged().into_iter().next()?.1.back()?.standing),
    ),
    rule(
        "rank-falling",
        "ranks lost since the best of the last 8 judgements",
        "others have become better, or this miner worse",
        Side::Above,
        [3.0, 10.0, 1.0],
        rank_lost,
    ),
    rule(
        "device-memory",
        "free memory of the device that has least, GiB",
        "the next allocation may fail, and the window with it",
        Side::Below,
        [3.0, 1.0, 0.5],
        |case, _| {
            let [used, limit] = case.node.newest()?.health.device_bytes?;
            Some(limit.saturating_sub(used) as f64 / GIB)
        },
    ),
    rule(
        "disk-free",
        "free bytes where the node's directory is, GiB",
        "state that cannot be made durable is not sent",
        Side::Below,
        [10.0, 1.0, 1.0],
        |case, _| Some(case.node.newest()?.health.disk_free_bytes? as f64 / GIB),
    ),
    rule(
        "clock",
        "what the clock is wrong by in the last windows, ms",
        "deadlines are missed by that much",
        Side::Above,
        [2000.0, 5000.0, 500.0],
        |case, _| {
            let known = case.node.last(3).filter_map(measures::clock_error_ms).count() > 0;
            known.then(|| case.clock_error_ms().unwrap_or(0).unsigned_abs() as f64)
        },
    ),
    rule(
        "chain-age",
        "the greatest age of the newest block in the last window, in blocks",
        "the chain, or the endpoint that is asked, stands still",
        Side::Above,
        [3.0, 10.0, 1.0],
        |case, _| {
            let newest = case.node.newest().filter(|entry| entry.plan.block_ms > 0)?;
            Some(newest.health.chain_age_ms?[1] as f64 / newest.plan.block_ms as f64)
        },
    ),
    rule(
        "throttled",
        "share of the last window's requests by which a store asked for fewer",
        "requests that are repeated cost the time of uploads and gathering",
        Side::Above,
        [0.05, 0.2, 0.02],
        |case, _| {
            let mut windows = case.node.last(2).collect::<Vec<_>>();
            let newest = windows.pop()?;
            let [all, _, throttled] = measures::requests_between(windows.pop(), newest);
            (all > 0).then(|| throttled as f64 / all as f64)
        },
    ),
    rule(
        "loss",
        "the last training loss above the mean of the 20 before, in standard deviations",
        "θ, the residual or a device is broken",
        Side::Above,
        [3.0, 6.0, 0.5],
        |case, _| {
            let trend = measures::loss_trend(case.node.last(21))?;
            let sigmas = (trend.last - trend.mean) / trend.deviation;
            if !trend.finite { Some(f64::INFINITY) } else { (trend.before >= 3).then_some(sigmas) }
        },
    ),
    rule(
        "changed",
        "hyper-parameters of the run that differ between the last windows, and a version that is not this binary's",
        "an update is due, or the run is another",
        Side::Above,
        [0.0, 1.0, 0.0],
        |case, _| {
            let mut plans: Vec<_> =
                case.node.last(RECENT).filter(|entry| entry.plan.window_ms > 0).map(|entry| entry.plan.hparams).collect();
            plans.dedup();
            let version = !case.node.version.is_empty() && case.node.version != env!("CARGO_PKG_VERSION");
            Some(plans.len().saturating_sub(1) as f64 + f64::from(u8::from(version)))
        },
    ),
];

/// The alert whose value is told by nobody's window: a node that writes nothing.
pub const SILENT: Rule = rule(
    "silent",
    "time since the journal's last line, in windows",
    "the node hangs, or has ended",
    Side::Above,
    [2.0, 3.0, 0.5],
    |case, now_ms| {
        let (now_ms, window_ms) = (now_ms?, case.window_ms()?);
        Some(now_ms.saturating_sub(case.node.last_ms) as f64 / window_ms as f64)
    },
);

/// All alerts, the silent node's too.
pub fn all() -> impl Iterator<Item = Rule> {
    RULES.into_iter().chain([SILENT])
}

fn training_rate(case: &Case<'_>, _now_ms: Option<u64>) -> Option<f64> {
    let mut rates: Vec<f64> =
        case.node.last(11).filter_map(|entry| entry.training.as_ref()).filter(|t| t.steps > 0).map(|t| t.tokens_s).collect();
    let last = rates.pop()?;
    rates.sort_by(f64::total_cmp);
    let median = *rates.get(rates.len() / 2).filter(|median| **median > 0.0)?;
    (rates.len() >= 3).then(|| last / median)
}

fn rank_lost(case: &Case<'_>, _now_ms: Option<u64>) -> Option<f64> {
    let uid = case.uid()?;
    let (validator, own) = case.judged().into_iter().next()?;
    let rank = |back: usize| {
        let weight_of =
            |judged: &std::collections::VecDeque<crate::watch::Judged>| judged.iter().rev().skip(back).find_map(|judged| judged.weight);
        let own = weight_of(own)?;
        let ahead =
            validator.judged.iter().filter(|(other, _)| **other != uid).filter(|(_, judged)| weight_of(judged).is_some_and(|w| w > own));
        Some(1 + ahead.count())
    };
    let best = (1..8).filter_map(rank).min()?;
    Some(rank(0)?.saturating_sub(best) as f64)
}
