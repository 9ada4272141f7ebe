//! An explanation as text: sections, one fact a line, columns aligned. Reasons that came from other nodes are cleaned of control characters.

use super::changes::quality_error;
use super::{Change, Effect, Explanation, Rival};
use std::fmt::Write;
use templar_gauntlet::native::Turn;
use templar_gauntlet::{Fate, PeerWeight};

/// Width of the names of facts.
const NAME: usize = 14;

/// Text that grows by sections and facts.
struct Page(String);

impl Page {
    fn section(&mut self, title: &str) {
        let _ = write!(self.0, "\n{title}\n");
    }

    fn fact(&mut self, name: &str, what: impl AsRef<str>) {
        let _ = writeln!(self.0, "  {name:<NAME$} {}", clean(what.as_ref()));
    }

    fn line(&mut self, what: impl AsRef<str>) {
        let _ = writeln!(self.0, "  {}", clean(what.as_ref()));
    }
}

/// Without control characters: sentences may quote what a peer has sent.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

/// Writes the whole.
pub(super) fn text(told: &Explanation) -> String {
    let mut page = Page(format!(
        "uid {} in window {}, as validator {} judged it by the rules {} ({})\n",
        told.uid,
        told.window,
        told.validator,
        clean(&told.rules),
        told.rules_digest.short()
    ));
    submitted(told, &mut page);
    measured(told, &mut page);
    judged(told, &mut page);
    weight(told, &mut page);
    lost(told, &mut page);
    changes(told, &mut page);
    history(told, &mut page);
    page.0
}

fn submitted(told: &Explanation, page: &mut Page) {
    page.section("What was submitted");
    page.fact("hotkey", told.hotkey.to_string());
    page.fact("trained from", format!("θ {} at outer step {}", told.theta_before.short(), told.global_step));
    let submission = &told.submission;
    if let Some(object) = submission.object {
        page.fact("object", object.short());
    }
    if let Some(bytes) = submission.object_bytes {
        page.fact("size", format!("{bytes} bytes"));
    }
    if let Some(after) = submission.after_window_end_ms {
        let side = if after < 0 { "before" } else { "after" };
        page.fact("found", format!("{} ms {side} the window's end", after.abs()));
    }
    page.fact(
        "fate",
        match &told.fate {
            Fate::Accepted { .. } => format!("accepted: the manifest {} lists it", told.manifest.short()),
            Fate::Held { .. } => format!(
                "held back: the manifest {} does not apply it, because its miner's updates have not helped of late; it counts as if applied",
                told.manifest.short()
            ),
            Fate::Omitted { why, .. } => format!("found right, but the manifest {} leaves it out: {why}", told.manifest.short()),
            Fate::Refused { kind, reason } => format!("refused, {kind}: {reason}"),
            Fate::Absent => "absent: it committed nothing".to_owned(),
            Fate::Unreachable { why } => format!("unreachable: {why}"),
        },
    );
    for dispute in &told.disputes {
        page.fact("disputed", format!("{}: {}", dispute.kind, dispute.reason));
    }
}

fn measured(told: &Explanation, page: &mut Page) {
    page.section("What was measured");
    let evaluation = &told.evaluation;
    let (candidates, places) = (evaluation.candidates, evaluation.places);
    page.fact(
        "turn",
        match (evaluation.turn, evaluation.measured) {
            (None, _) if !matches!(told.fate, Fate::Accepted { .. } | Fate::Held { .. }) => {
                "none: only objects that are right are evaluated".to_owned()
            }
            (None, _) => format!("none: {candidates} miners share {places} places by rotation and by lot"),
            (Some(_), false) => "chosen, but the window's time was over before its turn".to_owned(),
            (Some(Turn::Everybody), true) => format!("all {candidates} miners with an object were evaluated"),
            (Some(Turn::Waited), true) => format!("it had waited longest ({candidates} miners, {places} places)"),
            (Some(Turn::Suspect), true) => format!("its object disagrees with all others ({candidates} miners, {places} places)"),
            (Some(Turn::Drawn), true) => format!("it was drawn by lot ({candidates} miners, {places} places)"),
        },
    );
    if evaluation.measured {
        page.fact("engine", &evaluation.engine);
    }
    for (name, data) in [("random data", &told.random), ("own data", &told.own)] {
        if let Some(data) = data {
            page.fact(name, effect(data));
        }
    }
    if let Some([place, of]) = told.place_in_window {
        page.fact("place", format!("{place} of {of} by the effect on random data in this window"));
    }
    if let Some(advantage) = told.advantage {
        page.fact("own first", format!("{:.1} % of the pairs of an own and a random sequence; 50 % without own data", 100.0 * advantage));
    }
    if let Some(loudness) = told.loudness {
        page.fact("loudness", format!("{loudness:.2} times the median norm of the window's updates"));
    }
    for pair in &told.likenesses {
        let other = if pair.uid == told.uid { pair.other } else { pair.uid };
        let what = format!("{:.3} to uid {other}'s object of window {} (plain cosine {:.3})", pair.cosine, pair.other_window, pair.plain);
        page.fact("likeness", what);
    }
}

fn effect(effect: &Effect) -> String {
    let interval =
        effect.interval.map_or_else(String::new, |[low, high]| format!(", 95 % between {:+.4} % and {:+.4} %", 100.0 * low, 100.0 * high));
    format!(
        "{:.4} → {:.4} nats per token over {} sequences: {:+.4} % removed{interval}",
        effect.before,
        effect.after,
        effect.sequences,
        100.0 * effect.score
    )
}

fn judged(told: &Explanation, page: &mut Page) {
    page.section("What the window has shown");
    if let Some(void) = &told.void {
        page.fact("void", void);
    }
    for check in &told.checks {
        let passed = if check.passed { "passed" } else { "failed" };
        page.fact(&check.name, format!("{passed}: observed {:.4}, required {:.4}: {}", check.observed, check.required, check.reason));
    }
    for penalty in &told.penalties {
        page.fact(
            "penalty",
            format!("{}: standing {:.4} × {} = {:.4}: {}", penalty.kind, penalty.before, penalty.factor, penalty.after, penalty.reason),
        );
    }
    page.fact(
        "counts",
        told.credit.map_or_else(|| "not at all: the window is left out for it".to_owned(), |credit| format!("{credit:.3}")),
    );
    page.fact("in short", &told.judgement);
}

fn weight(told: &Explanation, page: &mut Page) {
    page.section("The weight");
    let Some(own) = &told.weight else {
        page.line("none: the validator keeps no scores of it");
        return;
    };
    page.fact("quality", quality(own));
    page.fact("credit", format!("{:.4}: the share of the recent windows that count for it", own.credit));
    let mark = own.advantage.zip(own.advantage_required).map_or_else(String::new, |(advantage, required)| {
        format!(": own first in {:.1} % on average, {:.1} % required", 100.0 * advantage, 100.0 * required)
    });
    page.fact("work", format!("{:.4}{mark}", own.work));
    page.fact("standing", format!("{:.4}", own.standing));
    let place = match told.place {
        Some(place) => format!("place {place} of {} with a weight", told.earning),
        None => format!("{} others have a weight", told.earning),
    };
    page.fact("weight", format!("{:.6}, {place}", own.weight));
    page.fact("in short", &own.reason);
}

fn quality(own: &PeerWeight) -> String {
    let error = quality_error(own).map_or_else(String::new, |error| format!(" ± {error:.4}"));
    let evaluations = if own.evaluations == 1 { "1 evaluation".to_owned() } else { format!("{} evaluations", own.evaluations) };
    format!("{:.4}{error} of the common level over {evaluations}; {:.4} as shrunk", own.quality, own.shrunk)
}

fn lost(told: &Explanation, page: &mut Page) {
    page.section("Against whom it lost");
    if told.rivals.is_empty() {
        page.line("nobody has more weight");
    }
    for rival in &told.rivals {
        page.fact(&format!("uid {}", rival.uid), difference(rival));
    }
}

fn difference(rival: &Rival) -> String {
    let Rival { decided_by, theirs, ours, .. } = rival;
    let times = match rival.times {
        Some(times) => format!("{times:.3} times the {decided_by} ({theirs:.4} to {ours:.4})"),
        None => format!("it has {decided_by} {theirs:.4}, this miner {ours:.4}"),
    };
    format!("weight {:.6}: {times}", rival.weight)
}

fn changes(told: &Explanation, page: &mut Page) {
    page.section("What would have changed it");
    if told.changes.is_empty() {
        page.line("nothing of its own: every check was passed and every factor is 1");
    }
    for Change { what, observed, required, weight, sentence } in &told.changes {
        let numbers = observed.zip(*required).map_or_else(String::new, |(has, needs)| format!("{has:.4}, needed {needs:.4}; "));
        let weight = weight.map_or_else(String::new, |weight| format!(" → weight {weight:.6}"));
        page.fact(what, format!("{numbers}{sentence}{weight}"));
    }
}

fn history(told: &Explanation, page: &mut Page) {
    page.section("The last windows");
    page.line(format!("{:>10}  {:<18} {:>6}  {:>10}  {:>8}  {:>8}", "window", "fate", "counts", "score", "standing", "weight"));
    for past in &told.history {
        let credit = past.credit.map_or_else(|| "-".to_owned(), |credit| format!("{credit:.3}"));
        let score = past.score.map_or_else(|| "-".to_owned(), |score| format!("{:+.4} %", 100.0 * score));
        page.line(format!(
            "{:>10}  {:<18} {credit:>6}  {score:>10}  {:>8.4}  {:>8.6}",
            past.window.to_string(),
            past.fate,
            past.standing,
            past.weight
        ));
    }
}
