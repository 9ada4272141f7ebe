//! How the view looks at any size, from one character up: what matters most takes its rows first.

mod nodes;
mod plan;

use super::scene::{Agreement, Scene};
use super::table::{self, Column, TITLE, fit};
use super::text;
use plan::{Plan, Wanted};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Sparkline, SparklineBar, Widget};
use std::time::Duration;

const HINT: &str = "Ctrl-C stops; run the same command again to resume";
/// From this height on, the loss is a chart with axes.
const CHART_HEIGHT: u16 = 7;
const DIM: Style = Style::new().dim();
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Yellow);
const ALARM: Style = Style::new().bold().fg(Color::White).bg(Color::Red);

/// Draws the network on the whole of `area`.
pub fn draw(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let said = scene.messages();
    let guests = scene.progress.guests().len();
    let wanted = Wanted {
        miners: scene.progress.nodes.iter().filter(|node| !node.validates).count() + guests,
        nodes: scene.progress.nodes.len() + guests,
        messages: said.len(),
        news: said.iter().filter(|message| message.3).count(),
        windows: scene.progress.windows.len(),
        losses: scene.losses().len(),
    };
    let plan = Plan::new(area, &wanted);
    let dir = Span::styled(format!(" · {}", text::clean(&scene.setting.dir)), DIM);
    line(if_it_fits(header(scene), dir, area.width), plan.header, buffer);
    line(if_it_fits(loss(scene), Span::styled("  nats/token", DIM), area.width), plan.loss, buffer);
    line(round(scene), plan.round, buffer);
    line(agreement(scene), plan.theta, buffer);
    line(Line::styled(HINT, DIM), plan.hint, buffer);
    curve(scene, plan.curve, buffer);
    nodes::miners(scene, plan.miners, buffer);
    nodes::nodes(scene, plan.nodes, buffer);
    history(scene, plan.history, buffer);
    messages(&said, plan.messages, buffer);
}

fn line(line: Line<'static>, area: Rect, buffer: &mut Buffer) {
    if !area.is_empty() {
        buffer.set_line(area.x, area.y, &fit(line, usize::from(area.width)), area.width);
    }
}

/// `line` with `more` at its end, unless that would have to be cut.
fn if_it_fits(mut line: Line<'static>, more: Span<'static>, width: u16) -> Line<'static> {
    if line.width() + more.width() <= usize::from(width) {
        line.push_span(more);
    }
    line
}

fn header(scene: &Scene) -> Line<'static> {
    let mut spans = vec![Span::styled(" templar localnet ", Style::new().bold().reversed()), Span::raw(" ")];
    match (scene.newest(), scene.since()) {
        (Some((number, _)), Some(since)) => {
            spans.push(Span::styled(format!("window {number}"), Style::new().bold()));
            let ended = format!(" ended {} s ago", since.as_secs());
            let style = if scene.late() { ALARM } else { Style::new() };
            spans.push(Span::styled(ended, style));
            if let Some(window_ms) = scene.setting.window_ms {
                spans.push(Span::styled(format!(" ({} each)", text::seconds(window_ms)), DIM));
            }
        }
        _ => spans.push(Span::raw("starting: no window has ended yet")),
    }
    let done = scene.progress.counted().count();
    spans.push(Span::styled(" · ", DIM));
    spans.push(match scene.setting.windows {
        Some(windows) => Span::raw(format!("{} of {windows} done", windows.min(done as u64))),
        None => Span::raw(format!("{done} done")),
    });
    spans.push(Span::styled(" · ", DIM));
    spans.push(Span::raw(format!("up {}", text::clock(scene.elapsed))));
    Line::from(spans)
}

fn loss(scene: &Scene) -> Line<'static> {
    let unigram = scene.progress.unigram_entropy;
    let losses = scene.losses();
    let mut spans = vec![Span::styled("held-out loss ", TITLE)];
    match losses.last() {
        Some((_, last)) => {
            spans.push(Span::styled(format!("{last:.3}"), if *last < unigram { GOOD.bold() } else { BAD.bold() }));
            if let [(_, first), .., (_, before), _] | [(_, first @ before), _] = losses[..] {
                spans.push(Span::raw(format!("  {:+.3} in a window, {:+.3} in all", last - before, last - first)));
            }
        }
        None => spans.push(Span::styled("not measured yet", DIM)),
    }
    spans.push(Span::styled(format!("  unigram {unigram:.3}"), Style::new().fg(Color::Magenta)));
    Line::from(spans)
}

fn round(scene: &Scene) -> Line<'static> {
    let mut spans = vec![Span::styled("gathered ", TITLE)];
    let Some(told) = scene.told() else {
        spans.push(Span::styled("nothing yet", DIM));
        return Line::from(spans);
    };
    if told.gathered.is_empty() {
        spans.push(Span::styled("nobody", BAD));
    } else {
        let uids: Vec<String> = told.gathered.iter().map(ToString::to_string).collect();
        spans.push(Span::styled(uids.join(" "), GOOD));
        spans.push(Span::styled(
            format!(" ({:.0} % of the committed, {})", told.gather_success * 100.0, text::bytes(told.object_bytes)),
            DIM,
        ));
    }
    if !told.refused.is_empty() {
        spans.push(Span::styled("  refused ", TITLE));
        let refused: Vec<String> = told.refused.iter().map(|(uid, why)| format!("{uid} {}", text::clean(why))).collect();
        spans.push(Span::styled(refused.join("; "), BAD));
    }
    Line::from(spans)
}

fn agreement(scene: &Scene) -> Line<'static> {
    let title = Span::styled("θ ", TITLE);
    match scene.agreement() {
        Agreement::Unknown => Line::from(vec![title, Span::styled("not known yet", DIM)]),
        Agreement::Same { window, step, digest, nodes } => {
            let all = scene.progress.nodes.len();
            let mut spans = vec![title, Span::styled(digest.short(), GOOD.bold())];
            let of = if nodes == all { format!("all {all} nodes") } else { format!("{nodes} of {all} nodes") };
            spans.push(Span::raw(format!(" on {of} after window {window}, outer step {step}")));
            spans.push(Span::styled("  trained ", TITLE));
            spans.push(Span::raw(format!("{} tokens/s", text::count(scene.tokens_s()))));
            Line::from(spans)
        }
        Agreement::Differs { window, holders } => {
            // The few are named: they are the ones to look at.
            let mut holders: Vec<_> = holders.into_iter().collect();
            holders.sort_by_key(|(_, names)| names.len());
            let named = |names: &[String]| if names.len() > 2 { format!("{} nodes", names.len()) } else { names.join(" ") };
            let groups: Vec<String> = holders.iter().map(|(digest, names)| format!("{} {}", digest.short(), named(names))).collect();
            Line::styled(format!("θ DIFFERS after window {window}: {}", groups.join(" | ")), ALARM)
        }
    }
}

/// What the nodes said last; what is no news any more is dim.
fn messages(said: &[(Duration, &str, &str, bool)], area: Rect, buffer: &mut Buffer) {
    let column = |cell: &dyn Fn(Duration, &str, &str) -> String| {
        let lines = said.iter().map(|(at, name, words, news)| Line::styled(cell(*at, name, words), if *news { Style::new() } else { DIM }));
        lines.collect::<Vec<_>>()
    };
    let columns = vec![
        Column::right(1, "at", column(&|at, _, _| text::clock(at))),
        Column::left(0, "node", column(&|_, name, _| name.to_owned())),
        Column::left(0, "last message", column(&|_, _, words| text::clean(words))),
    ];
    table::draw(columns, said.len(), area, buffer);
}

/// The loss over the windows: a chart where there is room for axes, else bars.
fn curve(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let losses = scene.losses();
    if area.is_empty() || losses.is_empty() {
        return;
    }
    if area.height >= CHART_HEIGHT && area.width >= 40 && losses.len() > 1 {
        chart(scene.progress.unigram_entropy, &losses, area, buffer);
    } else {
        bars(scene.progress.unigram_entropy, &losses, area, buffer);
    }
}

fn bars(unigram: f64, losses: &[(u64, f64)], area: Rect, buffer: &mut Buffer) {
    const STEPS: f64 = 1000.0;
    let newest = &losses[losses.len().saturating_sub(usize::from(area.width))..];
    let (low, high) = bounds(newest.iter().map(|(_, loss)| *loss));
    // A few windows get wide bars, so that the line is not lost in a corner.
    let wide = (usize::from(area.width) / newest.len()).clamp(1, 4);
    let bar = |loss: f64| {
        let share = if high > low { (loss - low) / (high - low) } else { 1.0 };
        // The least still shows: the bars do not begin at 0.
        let value = (STEPS * (0.1 + 0.9 * share)) as u64;
        SparklineBar::from(value).style(Some(if loss < unigram { GOOD } else { BAD }))
    };
    let data = newest.iter().flat_map(|(_, loss)| std::iter::repeat_n(*loss, wide)).map(bar);
    Sparkline::default().data(data).max(STEPS as u64).render(area, buffer);
}

fn chart(unigram: f64, losses: &[(u64, f64)], area: Rect, buffer: &mut Buffer) {
    let shown: Vec<(f64, f64)> = losses.iter().map(|(window, loss)| (*window as f64, *loss)).collect();
    let (first, last) = (losses[0].0, losses[losses.len() - 1].0);
    let x = [first as f64, last as f64];
    let reference = [(x[0], unigram), (x[1], unigram)];
    let (low, high) = bounds(losses.iter().map(|(_, loss)| *loss));
    // A reference that is far off would flatten the curve; the line above tells it anyway.
    let near = (low - (high - low)..=high + (high - low)).contains(&unigram);
    let (low, high) = if near { (low.min(unigram), high.max(unigram)) } else { (low, high) };
    let pad = ((high - low) * 0.05).max(1e-3);
    let y = [low - pad, high + pad];
    let loss = Dataset::default().name("held-out loss").marker(Marker::Braille).graph_type(GraphType::Line).style(GOOD).data(&shown);
    let entropy = Dataset::default().name("unigram").marker(Marker::Braille).graph_type(GraphType::Line);
    let entropy = entropy.style(Style::new().fg(Color::Magenta)).data(&reference);
    let labels = |values: [f64; 2]| values.map(|value| format!("{value:.2}"));
    let x_axis = Axis::default().style(DIM).bounds(x).labels([format!("window {first}"), format!("window {last}")]);
    let lines = if near { vec![entropy, loss] } else { vec![loss] };
    Chart::new(lines).x_axis(x_axis).y_axis(Axis::default().style(DIM).bounds(y).labels(labels(y))).render(area, buffer);
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The last windows, the newest first.
fn history(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let windows = scene.progress.windows.iter().rev();
    let told = windows.filter_map(|(number, window)| Some((number, window, window.told()?)));
    // One more than is shown: a window's length needs the one before.
    let rows: Vec<_> = told.take(usize::from(area.height) + 1).collect();
    let column = |cell: &dyn Fn(usize) -> String| (0..rows.len()).map(|row| Line::from(cell(row))).collect::<Vec<_>>();
    let uids = |row: usize| rows[row].2.gathered.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let took = |row: usize| {
        let (ended, before) = (rows[row].1.ended, rows.get(row + 1).and_then(|before| before.1.ended));
        ended.zip(before).map_or_else(|| "-".into(), |(ended, before)| format!("{:.1} s", ended.saturating_sub(before).as_secs_f64()))
    };
    let refused = |row: usize| {
        let refused = rows[row].2.refused.iter().map(|(uid, why)| format!("{uid} {}", text::clean(why)));
        refused.collect::<Vec<_>>().join("; ")
    };
    let columns = vec![
        Column::right(0, "window", column(&|row| rows[row].0.to_string())),
        Column::right(2, "step", column(&|row| rows[row].2.global_step.to_string())),
        Column::right(1, "loss", column(&|row| optional(rows[row].2.held_out_loss, |loss| format!("{loss:.3}")))),
        Column::right(4, "took", column(&took)),
        Column::right(5, "objects", column(&|row| text::bytes(rows[row].2.object_bytes))),
        Column::left(6, "θ", column(&|row| rows[row].2.state_digest.short())),
        Column::left(3, "gathered", column(&uids)),
        Column::left(7, "refused", column(&refused)),
    ];
    table::draw(columns, scene.progress.windows.len(), area, buffer);
}

fn optional<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".into(), write)
}
