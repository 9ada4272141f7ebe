//! The tables of miners and of nodes.

use super::super::super::earnings::Earnings;
use super::super::super::progress::NodeProgress;
use super::super::scene::{Scene, shares};
use super::super::table::{self, Column};
use super::super::text;
use super::{BAD, DIM, GOOD, optional};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use templar_node::journal::{PeerEvaluation, TrainingEntry, WindowEntry};
use templar_protocol::Uid;

/// From this width on, the phases are drawn as a bar, too.
const BAR_FROM: u16 = 110;
const BAR_WIDTH: f64 = 30.0;
/// The name of a node that is not one of this network's own.
const GUEST: &str = "(joined)";

/// What is shown of a miner.
struct Row<'a> {
    uid: Uid,
    name: Line<'static>,
    training: Option<&'a TrainingEntry>,
    evaluation: Option<&'a PeerEvaluation>,
    weight: Option<f64>,
    fate: Option<(String, bool)>,
    penalty: Option<String>,
}

impl<'a> Row<'a> {
    /// A miner of this network, or one that joined from elsewhere, whose journal is not here.
    fn new(scene: &Scene<'a>, uid: Uid, node: Option<&'a NodeProgress>) -> Self {
        let training = node.and_then(|node| node.last.as_ref()?.training.as_ref());
        let evaluation = scene.progress.evaluations.get(&uid);
        let weight = scene.progress.weights.get(&uid).copied();
        let name = match node {
            Some(node) => Line::styled(node.name.clone(), if node.attacks { BAD } else { Style::new() }),
            None => Line::styled(GUEST, DIM),
        };
        Self { uid, name, training, evaluation, weight, fate: scene.fate(uid), penalty: scene.penalty(uid) }
    }
}

/// Draws the miners: their losses, how a validator rates them, and what became of their last object.
pub fn miners(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let own = scene.progress.nodes.iter().filter(|node| !node.validates).map(|node| (node.uid, Some(node)));
    let all: Vec<_> = own.chain(scene.progress.guests().into_iter().map(|uid| (uid, None))).collect();
    let shown = all.iter().take(usize::from(area.height));
    let rows: Vec<Row> = shown.map(|(uid, node)| Row::new(scene, *uid, *node)).collect();
    table::draw(miner_columns(&rows), all.len(), area, buffer);
}

fn miner_columns(rows: &[Row]) -> Vec<Column> {
    let column = |cell: &dyn Fn(&Row) -> String| rows.iter().map(|row| Line::from(cell(row))).collect::<Vec<_>>();
    let trained = |write: &dyn Fn(&TrainingEntry) -> String| column(&|row| optional(row.training, write));
    let rated = |write: &dyn Fn(&PeerEvaluation) -> String| column(&|row| optional(row.evaluation, write));
    let pair = |pair: [f64; 2]| format!("{:.3}→{:.3}", pair[0], pair[1]);
    let scores = rows.iter().map(|row| score(row.evaluation)).collect();
    let fates = rows.iter().map(|row| fate(row.fate.as_ref())).collect();
    let names = rows.iter().map(|row| row.name.clone()).collect();
    let penalties = rows.iter().map(|row| row.penalty.clone().map_or_else(|| Line::from("-"), |what| Line::styled(what, BAD))).collect();
    let mut columns = vec![
        Column::right(0, "uid", column(&|row| row.uid.to_string())),
        Column::left(0, "miner", names),
        Column::left(4, "loss", trained(&|t| pair([t.entry_loss, t.last_loss]))),
        Column::right(7, "tok/s", trained(&|t| text::count(t.tokens_s))),
        Column::right(9, "steps", trained(&|t| t.steps.to_string())),
        Column::right(14, "lr", trained(&|t| format!("{:.2e}", t.learning_rate))),
        Column::right(13, "grad norm", trained(&|t| format!("{:.3}", t.gradient_norm))),
        Column::right(12, "residual", trained(&|t| format!("{:.3}", t.residual_norm))),
        Column::right(10, "size", trained(&|t| text::short_bytes(t.object_bytes))),
        Column::right(11, "in time by", trained(&|t| optional(t.upload_margin_ms, |ms| format!("{ms} ms")))),
        Column::left(15, "own data", rated(&|e| pair(e.own_loss))),
        Column::left(16, "random data", rated(&|e| pair(e.random_loss))),
        Column::right(2, "score ± error", scores),
        Column::right(5, "standing", rated(&|e| format!("{:.2}", e.standing))),
        Column::right(6, "advantage", rated(&|e| format!("{:.0} %", 100.0 * e.advantage))),
        Column::right(1, "weight", column(&|row| optional(row.weight.or(row.evaluation.map(|e| e.weight)), |w| format!("{w:.3}")))),
        Column::left(3, "object", fates),
    ];
    if rows.iter().any(|row| row.penalty.is_some()) {
        columns.insert(columns.len() - 1, Column::left(4, "penalty", penalties));
    }
    columns
}

fn score(evaluation: Option<&PeerEvaluation>) -> Line<'static> {
    let Some(evaluation) = evaluation else { return Line::from("-") };
    let (score, error) = (evaluation.gradient_score, evaluation.standard_error);
    // Two standard errors above zero, a gain is hardly chance; below, a harm.
    let style = if score > 2.0 * error {
        GOOD
    } else if score < -2.0 * error {
        BAD
    } else {
        Style::new()
    };
    Line::from(vec![Span::styled(format!("{score:+.4}"), style), Span::styled(format!(" ±{error:.4}"), DIM)])
}

fn fate(fate: Option<&(String, bool)>) -> Line<'static> {
    match fate {
        Some((word, good)) => Line::styled(word.clone(), if *good { GOOD } else { BAD }),
        None => Line::from("-"),
    }
}

/// Draws the nodes: where they are, what they have and earn, what they use and what their last window's time went into.
pub fn nodes(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let own = scene.progress.nodes.iter().map(|node| (node.uid, Line::from(node.name.clone()), node.last.as_ref()));
    let guests = scene.progress.guests().into_iter().map(|uid| (uid, Line::styled(format!("{GUEST} {uid}"), DIM), None));
    let mut nodes: Vec<(Uid, Line<'static>, Option<&WindowEntry>)> = own.chain(guests).collect();
    let count = nodes.len();
    nodes.truncate(usize::from(area.height));
    let newest = scene.newest().map(|(number, _)| number);
    let column = |cell: &dyn Fn(&WindowEntry) -> Line<'static>| -> Vec<Line<'static>> {
        nodes.iter().map(|(_, _, last)| last.map_or_else(|| Line::from("-"), cell)).collect()
    };
    let earned = |write: &dyn Fn(&Earnings) -> String| -> Vec<Line<'static>> {
        nodes.iter().map(|(uid, ..)| Line::from(optional(scene.progress.earnings.get(uid), write))).collect()
    };
    let window = |entry: &WindowEntry| {
        // A node that has not ended the window before the newest is behind the others.
        let behind = newest.is_some_and(|newest| entry.window.0.saturating_add(1) < newest);
        Line::styled(entry.window.to_string(), if behind { BAD } else { Style::new() })
    };
    let phases = |entry: &WindowEntry| phases(entry, area.width >= BAR_FROM);
    let columns = vec![
        Column::left(0, "node", nodes.iter().map(|(_, name, _)| name.clone()).collect()),
        Column::right(1, "window", column(&window)),
        Column::right(8, "step", column(&|entry| Line::from(entry.global_step.to_string()))),
        Column::left(9, "θ", column(&|entry| Line::from(entry.state_digest.short()))),
        Column::right(4, "stake", earned(&|e| text::count(e.stake()))),
        Column::right(3, "incentive", earned(&|e| format!("{:.3}", e.incentive))),
        Column::right(2, "emission", earned(&|e| format!("{:.3}", e.emission()))),
        Column::right(5, "memory", column(&|entry| Line::from(text::short_bytes(entry.host_bytes)))),
        Column::right(6, "down", column(&|entry| Line::from(text::short_bytes(entry.store_bytes[0])))),
        Column::right(7, "up", column(&|entry| Line::from(text::short_bytes(entry.store_bytes[1])))),
        Column::left(0, "last window's time by phase", column(&phases)),
    ];
    table::draw(columns, count, area, buffer);
}

fn phases(entry: &WindowEntry, bar: bool) -> Line<'static> {
    let shares = shares(&entry.phases_ms);
    let mut spans = Vec::new();
    if bar && !shares.is_empty() {
        let (mut sum, mut drawn) = (0.0, 0);
        for (name, _, share) in &shares {
            sum += share;
            let end = (sum * BAR_WIDTH).round() as usize;
            spans.push(Span::styled("█".repeat(end.saturating_sub(drawn)), colour(name)));
            drawn = end.max(drawn);
        }
        spans.push(Span::raw("  "));
    }
    // What is no percent is no news.
    for (name, ms, share) in shares.into_iter().filter(|(_, _, share)| *share >= 0.005) {
        spans.push(Span::styled(text::clean(name).replace('_', " "), colour(name)));
        let time = if bar { format!(" {:.1} s", ms as f64 / 1e3) } else { String::new() };
        spans.push(Span::raw(format!("{time} {:.0}% ", share * 100.0)));
    }
    Line::from(spans)
}

/// Work is bright, waiting is grey.
fn colour(phase: &str) -> Style {
    let colour = match phase {
        "train" | "evaluate" => Color::Green,
        "compress" | "apply" => Color::Yellow,
        "persist" | "checkpoint" => Color::Blue,
        "commit" | "publish" | "weights" => Color::Magenta,
        "upload" | "gather" | "collect" => Color::Cyan,
        "resync" => Color::Red,
        _ => Color::DarkGray,
    };
    Style::new().fg(colour)
}
