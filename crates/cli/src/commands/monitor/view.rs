//! What the monitor shows, apart from how it looks: the nodes at one instant.

use serde::Serialize;
use std::collections::BTreeMap;
use templar_ops::alerts::level::Level;
use templar_ops::alerts::{Message, Watch};
use templar_ops::diagnose::diagnose;
use templar_ops::leaderboard::board;
use templar_ops::watch::NodeRecord;
use templar_protocol::{Uid, Window};

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// `miner` or `validator`.
    pub role: String,
    /// Its uid.
    pub uid: Option<Uid>,
    /// Whether its process is up, where that is known.
    pub running: Option<bool>,
    /// Its newest window.
    pub window: Option<Window>,
    /// Outer steps in its θ.
    pub step: Option<u64>,
    /// Training loss of a miner, held-out loss of a validator; nats per token.
    pub loss: Option<f64>,
    /// Tokens per second of training.
    pub tokens_s: Option<f64>,
    /// Inner steps taken, and planned.
    pub steps: Option<[u32; 2]>,
    /// Time left at the last upload, ms.
    pub upload_margin_ms: Option<i64>,
    /// Time of each phase of the window, ms.
    pub phases_ms: BTreeMap<String, u64>,
    /// Who was gathered.
    pub gathered: Vec<Uid>,
    /// Who was not, and why.
    pub refused: BTreeMap<String, String>,
    /// Share of the announced objects that were gathered.
    pub gather_success: Option<f64>,
    /// Last gradient score, as a validator measured it.
    pub score: Option<f64>,
    /// The share of weight that a validator gives.
    pub weight: Option<f64>,
    /// Rank by that.
    pub rank: Option<usize>,
    /// Resident memory, bytes.
    pub host_bytes: Option<u64>,
    /// Memory of the fullest device in use, and its limit, bytes.
    pub device_bytes: Option<[u64; 2]>,
    /// Free bytes of the disk.
    pub disk_free_bytes: Option<u64>,
    /// Bytes per second from and to buckets over the last window.
    pub bandwidth_bytes_s: Option<[f64; 2]>,
    /// The verdict of the diagnosis.
    pub verdict: String,
    /// What holds.
    pub alerts: Vec<Message>,
}

/// All nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// The newest window that anybody has ended.
    pub window: Option<Window>,
    /// Nominal length of a window, ms.
    pub window_ms: Option<u64>,
    /// Time since that window's entry was written, ms; none where the nodes' time is virtual.
    pub since_ms: Option<u64>,
    /// The nodes, in the order in which they were named.
    pub nodes: Vec<NodeView>,
}

impl View {
    /// The nodes that are `meant` among `all`.
    pub fn new(meant: &[(&NodeRecord, Option<bool>)], all: &[&NodeRecord], watch: &Watch, now_ms: Option<u64>) -> Self {
        let ranks: BTreeMap<Uid, (usize, f64, Option<f64>)> = board(all, None)
            .map(|board| board.rows.into_iter().map(|row| (row.uid, (row.rank, row.weight, row.score))).collect())
            .unwrap_or_default();
        let nodes = meant.iter().map(|(record, running)| node(record, *running, all, &ranks, watch, now_ms)).collect();
        let newest =
            all.iter().filter_map(|record| record.windows.back()).max_by_key(|lived| (lived.entry.window, std::cmp::Reverse(lived.t_ms)));
        Self {
            window: newest.map(|lived| lived.entry.window),
            window_ms: all.iter().filter_map(|record| record.newest()).map(|entry| entry.plan.window_ms).find(|ms| *ms > 0),
            since_ms: newest.zip(now_ms).map(|(lived, now_ms)| now_ms.saturating_sub(lived.t_ms)),
            nodes,
        }
    }

    /// How many alerts are at `level`.
    pub fn alerts(&self, level: Level) -> usize {
        self.nodes.iter().flat_map(|node| &node.alerts).filter(|alert| alert.level == level).count()
    }
}

fn node(
    record: &NodeRecord,
    running: Option<bool>,
    all: &[&NodeRecord],
    ranks: &BTreeMap<Uid, (usize, f64, Option<f64>)>,
    watch: &Watch,
    now_ms: Option<u64>,
) -> NodeView {
    let newest = record.newest();
    let training = newest.and_then(|entry| entry.training.as_ref());
    let ranked = record.uid.and_then(|uid| ranks.get(&uid));
    NodeView {
        name: record.name.clone(),
        role: record.role.clone(),
        uid: record.uid,
        running,
        window: newest.map(|entry| entry.window),
        step: newest.map(|entry| entry.global_step.0),
        loss: newest.and_then(|entry| entry.held_out_loss).or(training.map(|training| training.last_loss)).filter(|loss| loss.is_finite()),
        tokens_s: training.map(|training| training.tokens_s),
        steps: newest.zip(training).map(|(entry, training)| [training.steps, entry.plan.inner_steps]),
        upload_margin_ms: training.and_then(|training| training.upload_margin_ms),
        phases_ms: newest.map(|entry| entry.phases_ms.clone()).unwrap_or_default(),
        gathered: newest.map(|entry| entry.gathered.clone()).unwrap_or_default(),
        refused: newest.map(|entry| entry.refused.iter().map(|(uid, why)| (uid.to_string(), why.clone())).collect()).unwrap_or_default(),
        gather_success: newest.filter(|entry| entry.manifest.is_some()).map(|entry| entry.gather_success),
        score: ranked.and_then(|(.., score)| *score),
        weight: ranked.map(|(_, weight, _)| *weight),
        rank: ranked.map(|(rank, ..)| *rank),
        host_bytes: newest.map(|entry| entry.host_bytes).filter(|bytes| *bytes > 0),
        device_bytes: newest.and_then(|entry| entry.health.device_bytes),
        disk_free_bytes: newest.and_then(|entry| entry.health.disk_free_bytes),
        bandwidth_bytes_s: bandwidth(record),
        verdict: diagnose(record, all, running).verdict.to_owned(),
        alerts: watch.present(record, all, running, now_ms),
    }
}

/// Bytes per second between the last two windows' entries.
fn bandwidth(record: &NodeRecord) -> Option<[f64; 2]> {
    let mut newest = record.windows.iter().rev();
    let (last, before) = (newest.next()?, newest.next()?);
    let seconds = last.t_ms.checked_sub(before.t_ms).filter(|ms| *ms > 0)? as f64 / 1e3;
    let [last, before] = [last.entry.store_bytes, before.entry.store_bytes];
    // A process that began in between has counted from 0.
    Some([0, 1].map(|way| last[way].checked_sub(before[way]).unwrap_or(last[way]) as f64 / seconds))
}
