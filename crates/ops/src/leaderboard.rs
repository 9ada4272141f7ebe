//! All miners of a network as a validator ranks them, and what separates one of them from the first ten.
//!
//! Weights come from the validator that knows most; whether a target is met is told only where the figure is known.

use crate::watch::{Judged, NodeRecord, measures};
use serde::Serialize;
use templar_protocol::Uid;

/// How many are the top.
pub const TOP: usize = 10;

/// A target of a top miner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Stable id.
    pub id: &'static str,
    /// What is asked, with its unit.
    pub title: &'static str,
    /// The least value.
    pub least: f64,
}

/// The targets of a top miner.
pub const TARGETS: [Target; 7] = [
    Target { id: "gather", title: "mean share of gathered objects", least: measures::GATHER_LOW },
    Target { id: "gather-good", title: "mean share of gathered objects, of a good miner", least: measures::GATHER_GOOD },
    Target { id: "in-sync", title: "share of the last windows without a resync or a refusal for another θ", least: 1.0 },
    Target { id: "score", title: "quality over its standard error, as the rules ask for a weight", least: 1.645 },
    Target { id: "tokens", title: "inner steps taken as a share of the plan, which sets the tokens per second", least: 1.0 },
    Target { id: "uptime", title: "share of the known windows whose object was accepted", least: 0.99 },
    Target { id: "standing", title: "the factor that offences have left", least: 0.99 },
];

/// A miner's row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its rank, from 1; equal weights share one.
    pub rank: usize,
    /// Its uid.
    pub uid: Uid,
    /// The share of weight that it would get now; 0 where it is not known.
    pub weight: f64,
    /// Mean score in units of the common level, where it is known.
    pub quality: Option<f64>,
    /// Mean credit of the recent windows.
    pub credit: Option<f64>,
    /// The factor for the mark of own data.
    pub work: Option<f64>,
    /// The factor that offences have left.
    pub standing: f64,
    /// The last gradient score.
    pub score: Option<f64>,
    /// Share of the known windows whose object was accepted, and their number.
    pub uptime: Option<(f64, usize)>,
    /// Tokens per second of the last window, where its journal is at hand.
    pub tokens_s: Option<f64>,
}

/// A target as it is met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Met {
    /// The target.
    #[serde(flatten)]
    pub target: Target,
    /// The value; none where it is not known.
    pub value: Option<f64>,
    /// Whether it is met; none where that is not known.
    pub met: Option<bool>,
}

/// What separates a miner from the last of the top ten.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// The one that it is compared with.
    pub uid: Uid,
    /// That one's weight less the own.
    pub weight: f64,
    /// The factor in which the own is furthest behind: `quality`, `credit`, `work` or `standing`.
    pub factor: Option<&'static str>,
    /// The own value and the other's.
    pub values: Option<[f64; 2]>,
}

/// The own position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Position {
    /// The own row.
    pub row: Row,
    /// What separates it from the top; none for who belongs to it.
    pub gap: Option<Gap>,
    /// The targets.
    pub targets: Vec<Met>,
}

/// The board.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Board {
    /// Whose judgement it is.
    pub validator: String,
    /// All miners, the first first.
    pub rows: Vec<Row>,
    /// The own position, where a uid was asked for and is known.
    pub own: Option<Position>,
}

/// The board by the validator among `all` that knows most miners; none where no validator is known.
pub fn board(all: &[&NodeRecord], own: Option<Uid>) -> Option<Board> {
    let validator = all.iter().filter(|record| !record.judged.is_empty()).max_by_key(|record| record.judged.len())?;
    let mut rows: Vec<Row> = validator.judged.keys().map(|uid| row(validator, *uid, all)).collect();
    rows.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.uid.cmp(&b.uid)));
    let weights: Vec<f64> = rows.iter().map(|row| row.weight).collect();
    rows.iter_mut().for_each(|row| row.rank = 1 + weights.iter().filter(|weight| **weight > row.weight).count());
    let own = own.and_then(|uid| {
        let row = rows.iter().find(|row| row.uid == uid)?.clone();
        let last = rows.get(TOP.min(rows.len()) - 1)?;
        let gap = (row.rank > TOP).then(|| gap(&row, last));
        let targets = targets(validator, uid, all);
        Some(Position { row, gap, targets })
    });
    Some(Board { validator: validator.name.clone(), rows, own })
}

fn row(validator: &NodeRecord, uid: Uid, all: &[&NodeRecord]) -> Row {
    let judged = &validator.judged[&uid];
    let newest = |value: fn(&Judged) -> Option<f64>| judged.iter().rev().find_map(value);
    let weight = newest(|judged| judged.weight).or_else(|| validator.weights.get(&uid).copied());
    let tokens_s = node_of(uid, all).and_then(|node| Some(node.newest()?.training.as_ref()?.tokens_s));
    Row {
        rank: 0,
        uid,
        weight: weight.unwrap_or(0.0),
        quality: newest(|judged| judged.quality),
        credit: newest(|judged| judged.credit),
        work: newest(|judged| judged.work),
        standing: judged.back().map_or(1.0, |judged| judged.standing),
        score: newest(|judged| Some(judged.score?[0])),
        uptime: uptime(validator, uid),
        tokens_s,
    }
}

fn node_of<'a>(uid: Uid, all: &[&'a NodeRecord]) -> Option<&'a NodeRecord> {
    all.iter().copied().find(|record| record.uid == Some(uid) && !record.validates())
}

fn uptime(validator: &NodeRecord, uid: Uid) -> Option<(f64, usize)> {
    let decided: Vec<bool> =
        validator.windows.iter().filter(|lived| lived.entry.manifest.is_some()).map(|lived| lived.entry.gathered.contains(&uid)).collect();
    let accepted = decided.iter().filter(|accepted| **accepted).count();
    (!decided.is_empty()).then(|| (accepted as f64 / decided.len() as f64, decided.len()))
}

fn gap(own: &Row, other: &Row) -> Gap {
    let pairs = [
        ("quality", own.quality, other.quality),
        ("credit", own.credit, other.credit),
        ("work", own.work, other.work),
        ("standing", Some(own.standing), Some(other.standing)),
    ];
    let behind = pairs.into_iter().filter_map(|(name, own, other)| Some((name, own?, other?))).filter(|(_, own, other)| own < other);
    let ratio = |own: f64, other: f64| own.max(0.0) / other.max(1e-12);
    let most = behind.min_by(|a, b| ratio(a.1, a.2).total_cmp(&ratio(b.1, b.2)));
    Gap {
        uid: other.uid,
        weight: other.weight - own.weight,
        factor: most.map(|(name, ..)| name),
        values: most.map(|(_, own, other)| [own, other]),
    }
}

fn targets(validator: &NodeRecord, uid: Uid, all: &[&NodeRecord]) -> Vec<Met> {
    let node = node_of(uid, all);
    let judged = validator.judged.get(&uid);
    let value = |id: &str| -> Option<f64> {
        match id {
            "gather" | "gather-good" => Some(measures::gather_success(node?.last(10))?.0),
            "in-sync" => {
                let of_window = |lived: &crate::watch::Lived| {
                    let why = lived.entry.refused.get(&uid);
                    !why.is_some_and(|why| why.starts_with("desynchronised"))
                };
                let synced = validator.windows.iter().filter(|lived| of_window(lived)).count();
                let resyncs = node.map_or(0, |node| node.resyncs.len());
                (!validator.windows.is_empty()).then(|| synced.saturating_sub(resyncs) as f64 / validator.windows.len() as f64)
            }
            "score" => {
                // Not the mean of what is kept: the gains of a run's first windows would outweigh all that came after them.
                let (quality, error) = judged?.iter().rev().find_map(|judged| judged.quality.zip(judged.quality_error))?;
                Some(quality / error)
            }
            "tokens" => {
                let plan = f64::from(node?.newest()?.plan.inner_steps);
                let (mean, ..) = measures::inner_steps(node?.last(10))?;
                (plan > 0.0).then(|| mean / plan)
            }
            "uptime" => Some(uptime(validator, uid)?.0),
            "standing" => Some(judged?.back()?.standing),
            _ => None,
        }
    };
    TARGETS
        .into_iter()
        .map(|target| (target, value(target.id)))
        .map(|(target, value)| Met { target, value, met: value.map(|v| v >= target.least) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::{Deed, sheets};
    use crate::sheets::Sheets;
    use crate::watch::record_of_sheets;

    fn record() -> NodeRecord {
        // Twelve that help more and more, and one whose objects come late.
        let deeds = |_| (1..=12).map(|place| Deed::Helps(0.004 + 0.002 * f64::from(place))).chain([Deed::Late]).collect();
        record_of_sheets(&Sheets { sheets: sheets(8, deeds), signer: None, place: "here".into() })
    }

    #[test]
    fn miners_are_ranked_and_the_gap_names_the_factor() {
        let record = record();
        let board = board(&[&record], Some(Uid(13))).unwrap();
        assert_eq!(board.rows.len(), 13);
        assert!(board.rows.windows(2).all(|pair| pair[0].weight >= pair[1].weight && pair[0].rank <= pair[1].rank));
        let own = board.own.unwrap();
        assert!(own.row.rank > TOP && own.row.weight == 0.0);
        let gap = own.gap.unwrap();
        assert!(gap.weight > 0.0 && gap.uid == board.rows[TOP - 1].uid);
        assert!(["quality", "credit"].contains(&gap.factor.unwrap()), "{gap:?}");
    }

    #[test]
    fn targets_are_met_missed_or_not_known() {
        let record = record();
        let met = |uid| {
            let own = board(&[&record], Some(Uid(uid))).unwrap().own.unwrap();
            own.targets.into_iter().map(|met| (met.target.id, met.met)).collect::<std::collections::BTreeMap<_, _>>()
        };
        let (good, late) = (met(12), met(13));
        assert_eq!((good["uptime"], late["uptime"]), (Some(true), Some(false)));
        assert_eq!((good["score"], late["score"]), (Some(true), None));
        assert_eq!(good["tokens"], None, "its journal is not at hand");
    }

    #[test]
    fn a_great_first_window_does_not_make_up_for_harm_ever_since() {
        let deeds = |place| vec![Deed::Helps(if place == 0 { 0.2 } else { -0.01 }), Deed::Helps(0.01), Deed::Helps(0.01)];
        let record = record_of_sheets(&Sheets { sheets: sheets(8, deeds), signer: None, place: "here".into() });
        let scores: Vec<f64> = record.judged[&Uid(1)].iter().filter_map(|judged| Some(judged.score?[0])).collect();
        assert!(scores.iter().sum::<f64>() > 0.0, "the mean of all would be met: {scores:?}");
        let own = board(&[&record], Some(Uid(1))).unwrap().own.unwrap();
        let met = own.targets.iter().find(|met| met.target.id == "score").unwrap();
        assert!(met.met == Some(false) && met.value.is_some_and(|value| value < 0.0), "{met:?}");
    }

    #[test]
    fn nobody_ranks_without_a_validator() {
        assert_eq!(board(&[&NodeRecord::new("n")], None), None);
    }
}
