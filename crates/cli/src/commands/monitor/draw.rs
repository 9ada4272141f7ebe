//! How the monitor looks at any size: nodes first, then alerts, then peers.

use super::super::localnet::live::table::{self, Column, TITLE, fit};
use super::super::localnet::live::text;
use super::view::{NodeView, View};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use templar_ops::alerts::level::Level;
use templar_ops::diagnose::HEALTHY;

const DIM: Style = Style::new().dim();
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Yellow);
const ALARM: Style = Style::new().bold().fg(Color::White).bg(Color::Red);
const HINT: &str = "Ctrl-C ends the monitor; the nodes go on";

/// Draws the nodes on the whole of `area`.
pub fn draw(view: &View, area: Rect, buffer: &mut Buffer) {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let mut y = area.y;
    let mut part = |wanted: u16, keep: u16| {
        let free = area.bottom().saturating_sub(y).saturating_sub(keep);
        let taken = Rect { x: area.x, y, width: area.width, height: wanted.min(free) };
        y += taken.height;
        taken
    };
    let alerts: Vec<_> = view.nodes.iter().flat_map(|node| &node.alerts).collect();
    let peers = peers(view);
    put(header(view), part(1, 0), buffer);
    put(round(view), part(1, 0), buffer);
    // The hint and some rows of alerts are kept free, where there are any.
    let alert_rows = if alerts.is_empty() { 0 } else { rows(alerts.len() + 2).min(6) };
    nodes(view, part(rows(view.nodes.len() + 1), alert_rows + 1), buffer);
    part(1, alert_rows + 1);
    let shown = if alerts.is_empty() { 0 } else { rows(alerts.len() + 1) };
    let keep = if area.height > 30 { rows(peers.len() + 2).min(area.height / 3) + 1 } else { 1 };
    alert_table(&alerts, part(shown, keep), buffer);
    part(u16::from(shown > 0), 1);
    peer_table(&peers, part(if peers.is_empty() { 0 } else { rows(peers.len() + 1) }, 1), buffer);
    let hint = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
    put(Line::styled(HINT, DIM), hint, buffer);
}

fn put(line: Line<'static>, area: Rect, buffer: &mut Buffer) {
    if !area.is_empty() {
        buffer.set_line(area.x, area.y, &fit(line, usize::from(area.width)), area.width);
    }
}

fn header(view: &View) -> Line<'static> {
    let mut spans = vec![Span::styled(" templar monitor ", Style::new().bold().reversed()), Span::raw(" ")];
    match view.window {
        Some(window) => spans.push(Span::styled(format!("window {window} ended"), Style::new().bold())),
        None => spans.push(Span::raw("no window has ended yet")),
    }
    if let (Some(since_ms), Some(window_ms)) = (view.since_ms, view.window_ms) {
        // Three windows without an entry are worth a look.
        let style = if since_ms > 3 * window_ms { ALARM } else { Style::new() };
        spans.push(Span::styled(format!(" {} s ago", since_ms / 1000), style));
        let left_ms = window_ms.saturating_sub(since_ms);
        let deadline = if left_ms > 0 { format!("the next in {} s", left_ms.div_ceil(1000)) } else { "the next is due".to_owned() };
        spans.push(Span::styled(format!(", {deadline} ({} each)", text::seconds(window_ms)), DIM));
    }
    let up = view.nodes.iter().filter(|node| node.running == Some(true)).count();
    spans.push(Span::styled(" · ", DIM));
    spans.push(Span::raw(format!("{} nodes, {up} running", view.nodes.len())));
    spans.push(Span::styled(" · ", DIM));
    let [critical, warnings] = [Level::Critical, Level::Warning].map(|level| view.alerts(level));
    spans.push(match (critical, warnings) {
        (0, 0) => Span::styled("no alert", GOOD),
        (0, warnings) => Span::styled(format!("{warnings} warnings"), BAD),
        (critical, warnings) => Span::styled(format!("{critical} critical, {warnings} warnings"), ALARM),
    });
    Line::from(spans)
}

/// The node that tells the newest round for all: a validator, if one is shown.
fn teller(view: &View) -> Option<&NodeView> {
    view.nodes.iter().filter(|node| node.window.is_some()).max_by_key(|node| (node.window, node.role == "validator"))
}

fn round(view: &View) -> Line<'static> {
    let Some(node) = teller(view) else { return Line::styled("nothing was gathered yet", DIM) };
    let mut spans = vec![Span::styled("loss ", TITLE), Span::raw(optional(node.loss, |loss| format!("{loss:.3}")))];
    let tokens: f64 = view.nodes.iter().filter_map(|node| node.tokens_s).filter(|rate| rate.is_finite()).sum();
    spans.extend([Span::styled("  tokens/s ", TITLE), Span::raw(text::count(tokens))]);
    let uids: Vec<String> = node.gathered.iter().map(ToString::to_string).collect();
    spans.extend([Span::styled("  gathered ", TITLE), Span::styled(uids.join(" "), GOOD)]);
    if !node.refused.is_empty() {
        let refused: Vec<String> = node.refused.iter().map(|(uid, why)| format!("{uid} {}", text::clean(why))).collect();
        spans.extend([Span::styled("  refused ", TITLE), Span::styled(refused.join("; "), BAD)]);
    }
    Line::from(spans)
}

fn optional<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".into(), write)
}

fn nodes(view: &View, area: Rect, buffer: &mut Buffer) {
    let cells = |cell: &dyn Fn(&NodeView) -> String| view.nodes.iter().map(|node| Line::from(cell(node))).collect::<Vec<_>>();
    let verdicts = view.nodes.iter().map(|node| {
        let style = if node.verdict == HEALTHY { GOOD } else { BAD };
        let down = if node.running == Some(false) { " (down)" } else { "" };
        Line::styled(format!("{}{down}", node.verdict), style)
    });
    let phases = |node: &NodeView| {
        let mut phases: Vec<_> = node.phases_ms.iter().filter(|(_, ms)| **ms > 0).collect();
        phases.sort_by_key(|(_, ms)| std::cmp::Reverse(**ms));
        phases.iter().take(4).map(|(name, ms)| format!("{name} {:.1}", **ms as f64 / 1e3)).collect::<Vec<_>>().join(" ")
    };
    let gpu = |[used, limit]: [u64; 2]| format!("{}/{}", text::short_bytes(used), text::short_bytes(limit));
    let columns = vec![
        Column::left(0, "node", cells(&|node| text::clean(&node.name))),
        Column::right(4, "uid", cells(&|node| optional(node.uid, |uid| uid.to_string()))),
        Column::right(1, "window", cells(&|node| optional(node.window, |window| window.to_string()))),
        Column::right(1, "loss", cells(&|node| optional(node.loss, |loss| format!("{loss:.3}")))),
        Column::right(2, "tokens/s", cells(&|node| optional(node.tokens_s, text::count))),
        Column::right(8, "steps", cells(&|node| optional(node.steps, |[taken, plan]| format!("{taken}/{plan}")))),
        Column::right(5, "margin", cells(&|node| optional(node.upload_margin_ms, |ms| format!("{:.1} s", ms as f64 / 1e3)))),
        Column::right(3, "gather", cells(&|node| optional(node.gather_success, |share| format!("{:.0} %", 100.0 * share)))),
        Column::right(6, "score", cells(&|node| optional(node.score, |score| format!("{:+.2} %", 100.0 * score)))),
        Column::right(3, "weight", cells(&|node| optional(node.weight, |weight| format!("{weight:.3}")))),
        Column::right(4, "rank", cells(&|node| optional(node.rank, |rank| rank.to_string()))),
        Column::right(9, "memory", cells(&|node| optional(node.host_bytes, text::short_bytes))),
        Column::right(7, "gpu", cells(&|node| optional(node.device_bytes, gpu))),
        Column::right(10, "disk", cells(&|node| optional(node.disk_free_bytes, text::short_bytes))),
        Column::right(11, "down/s", cells(&|node| optional(node.bandwidth_bytes_s, |[down, _]| text::short_bytes(down as u64)))),
        Column::right(11, "up/s", cells(&|node| optional(node.bandwidth_bytes_s, |[_, up]| text::short_bytes(up as u64)))),
        Column::left(12, "phases, s", cells(&phases)),
        Column::left(0, "verdict", verdicts.collect()),
    ];
    table::draw(columns, view.nodes.len(), area, buffer);
}

fn alert_table(alerts: &[&templar_ops::alerts::Message], area: Rect, buffer: &mut Buffer) {
    let mut sorted = alerts.to_vec();
    sorted.sort_by_key(|alert| std::cmp::Reverse(alert.level));
    let style = |level| if level == Level::Critical { ALARM } else { BAD };
    let cells = |cell: &dyn Fn(&templar_ops::alerts::Message) -> String| {
        sorted.iter().map(|alert| Line::from(text::clean(&cell(alert)))).collect::<Vec<_>>()
    };
    let columns = vec![
        Column::left(0, "alert", sorted.iter().map(|alert| Line::styled(alert.alert.clone(), style(alert.level))).collect()),
        Column::left(0, "node", cells(&|alert| alert.node.clone())),
        Column::right(1, "value", cells(&|alert| optional(alert.value, |value| format!("{value:.2}")))),
        Column::left(2, "means", cells(&|alert| alert.meaning.clone())),
        Column::left(3, "diagnosis", cells(&|alert| format!("{}: {}", alert.cause.id, alert.cause.sentence))),
    ];
    table::draw(columns, sorted.len(), area, buffer);
}

/// The fates of the newest round: uid, whether it was gathered, and why not.
fn peers(view: &View) -> Vec<(String, bool, String)> {
    let Some(node) = teller(view) else { return vec![] };
    let gathered = node.gathered.iter().map(|uid| (uid.to_string(), true, String::new()));
    let refused = node.refused.iter().map(|(uid, why)| (uid.clone(), false, text::clean(why)));
    gathered.chain(refused).collect()
}

fn peer_table(peers: &[(String, bool, String)], area: Rect, buffer: &mut Buffer) {
    let fates = peers.iter().map(|(_, good, _)| if *good { Line::styled("gathered", GOOD) } else { Line::styled("refused", BAD) });
    let columns = vec![
        Column::right(0, "peer", peers.iter().map(|(uid, ..)| Line::from(uid.clone())).collect()),
        Column::left(0, "fate", fates.collect()),
        Column::left(0, "why", peers.iter().map(|(.., why)| Line::from(why.clone())).collect()),
    ];
    table::draw(columns, peers.len(), area, buffer);
}
