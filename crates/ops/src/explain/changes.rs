//! What would have changed a weight, and to what.
//!
//! Each entry changes one thing and leaves everything else, also all other miners, as it was. The new weight follows from the published
//! parts of all weights; where it depends on more than those (the spread of other miners' scores), it is left open.

use super::Past;
use super::rivals::{parts, value};
use serde::Serialize;
use templar_gauntlet::{Fate, Judgement, NativeRules, PeerWeight, ScoreSheet};

/// One thing that would have changed the weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// A stable name: the check, fate or part of the weight that it is about.
    pub what: String,
    /// The number observed, where there is one.
    pub observed: Option<f64>,
    /// The number that was needed.
    pub required: Option<f64>,
    /// The weight with this change alone; none where it cannot be said.
    pub weight: Option<f64>,
    /// The sentence for people.
    pub sentence: String,
}

/// A weight's parts, to be changed.
struct Altered<'a> {
    sheet: &'a ScoreSheet,
    own: &'a PeerWeight,
}

impl Altered<'_> {
    /// The share that the miner would have with other parts.
    fn weight(&self, alter: impl FnOnce(&mut PeerWeight)) -> f64 {
        let mut other = self.own.clone();
        alter(&mut other);
        let rules = &self.sheet.parameters;
        let (before, after) = (value(rules, self.own), value(rules, &other));
        let all: f64 = self.sheet.weights.peers.iter().map(|peer| value(rules, peer)).sum();
        let total = all - before + after;
        if total > 0.0 { (after / total).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// What would have changed the weight of the judged miner, the window's own affairs first.
pub(super) fn changes(sheet: &ScoreSheet, judgement: &Judgement, fate: &Fate, history: &[Past]) -> Vec<Change> {
    let Some(own) = sheet.weights.of(judgement.uid) else { return Vec::new() };
    let altered = Altered { sheet, own };
    let full = full_credit(&altered, judgement, history);
    let mut changes = Vec::new();
    if !matches!(fate, Fate::Accepted { .. } | Fate::Held { .. } | Fate::Omitted { .. }) {
        changes.push(Change {
            what: fate.name().to_owned(),
            observed: None,
            required: None,
            weight: full.map(|credit| altered.weight(|own| (own.credit, own.standing) = (credit, standing_before(judgement)))),
            sentence: advice(fate),
        });
    }
    for check in judgement.checks.iter().filter(|check| !check.passed && check.name != "steady") {
        let weight = full.map(|credit| altered.weight(|own| (own.credit, own.standing) = (credit, standing_before(judgement))));
        let sentence = format!("had it passed the check {}, the window would have counted fully: {}", check.name, check.reason);
        changes.push(Change { what: check.name.clone(), observed: Some(check.observed), required: Some(check.required), weight, sentence });
    }
    changes.extend(quality(&altered));
    changes.extend(factors(&altered, &sheet.parameters));
    changes.extend(overtake(&altered));
    changes
}

/// Standing if the window had brought no penalty.
fn standing_before(judgement: &Judgement) -> f64 {
    judgement.penalties.first().map_or(judgement.standing, |penalty| penalty.before)
}

/// Its credit if this window had counted fully; none where the history does not tell how many windows count, or where this one is left out.
fn full_credit(altered: &Altered, judgement: &Judgement, history: &[Past]) -> Option<f64> {
    let now = judgement.credit?;
    // Credit is a mean over the windows that count. Their number is known when the sheets go back as far as the rules do, or when the
    // credits at hand already have the published mean.
    let counted: Vec<f64> = history.iter().filter_map(|past| past.credit).collect();
    let mean = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    let known = history.len() >= altered.sheet.parameters.credit_windows || (mean - altered.own.credit).abs() < 1e-9;
    (known && !counted.is_empty()).then(|| (altered.own.credit + (1.0 - now) / counted.len() as f64).min(1.0))
}

/// What quality was needed to earn anything.
fn quality(altered: &Altered) -> Option<Change> {
    let (own, rules) = (altered.own, &altered.sheet.parameters);
    if own.evaluations == 0 {
        let sentence = "it has not been evaluated in the last windows; its turn comes by rotation once its objects are accepted".to_owned();
        return Some(Change { what: "evaluation".into(), observed: None, required: None, weight: None, sentence });
    }
    if own.shrunk > 0.0 {
        return None;
    }
    let error = quality_error(own)?;
    let required = rules.useful_sigmas * error;
    let sentence = format!(
        "its quality {:.3} must lie above {required:.3}, which is {} standard errors ({error:.3}) above zero; more evaluations make the error smaller",
        own.quality, rules.useful_sigmas
    );
    Some(Change { what: "quality".into(), observed: Some(own.quality), required: Some(required), weight: None, sentence })
}

/// The standard error of quality; none for a miner without a quality, and in sheets that do not tell it.
pub(super) fn quality_error(own: &PeerWeight) -> Option<f64> {
    (own.quality_error > 0.0).then_some(own.quality_error)
}

/// What the factors below 1 have cost.
fn factors(altered: &Altered, rules: &NativeRules) -> Vec<Change> {
    let own = altered.own;
    let mut changes = Vec::new();
    let mut add = |what: &str, observed: f64, required: f64, weight: f64, sentence: String| {
        changes.push(Change { what: what.into(), observed: Some(observed), required: Some(required), weight: Some(weight), sentence });
    };
    if own.credit < 1.0 && own.shrunk > 0.0 {
        let weight = altered.weight(|own| own.credit = 1.0);
        let sentence = format!("with every one of the last {} windows counting fully, its credit would be 1", rules.credit_windows);
        add("credit", own.credit, 1.0, weight, sentence);
    }
    if let (Some(advantage), Some(required)) = (own.advantage, own.advantage_required)
        && own.work < 1.0
    {
        let weight = altered.weight(|own| own.work = 1.0);
        let sentence =
            "its updates must help its own data as much more than random data as other contributors' do: train on all of the assignment";
        add("work", advantage, required, weight, sentence.to_owned());
    }
    if own.standing < 1.0 && own.shrunk > 0.0 {
        let weight = altered.weight(|own| own.standing = 1.0);
        let half_life = rules.standing.recovery_half_life_windows;
        let sentence =
            format!("without former penalties its standing would be 1; half of what is missing comes back in {half_life} windows");
        add("standing", own.standing, 1.0, weight, sentence);
    }
    changes
}

/// What quality would have been needed to be as heavy as the next heavier miner.
fn overtake(altered: &Altered) -> Option<Change> {
    let (own, rules) = (altered.own, &altered.sheet.parameters);
    let heavier = altered.sheet.weights.peers.iter().filter(|peer| peer.weight > own.weight);
    let next = heavier.min_by(|a, b| a.weight.total_cmp(&b.weight).then(a.uid.cmp(&b.uid)))?;
    let rest: f64 = parts(rules, own).iter().filter(|part| part.0 != "quality").map(|part| part.1).product();
    let required = (value(rules, next) / rest).powf(1.0 / rules.exponent);
    // A quality that nobody has is no advice; the other factors are listed anyway.
    let most = altered.sheet.weights.peers.iter().map(|peer| peer.shrunk).fold(0.0, f64::max);
    if !required.is_finite() || required > 2.0 * most {
        return None;
    }
    let weight = altered.weight(|own| own.shrunk = required);
    let sentence = format!("with a quality of {required:.3} (as shrunk) it would weigh as much as uid {}, the next above it", next.uid);
    Some(Change { what: "overtake".into(), observed: Some(own.shrunk), required: Some(required), weight: Some(weight), sentence })
}

/// What a miner does about an object that did not count.
fn advice(fate: &Fate) -> String {
    let kind = match fate {
        Fate::Accepted { .. } | Fate::Held { .. } | Fate::Omitted { .. } => return String::new(),
        Fate::Absent => return "commit before the window ends and put the object after it".into(),
        Fate::Unreachable { .. } => return "its bucket must answer anonymous reads within the time-outs".into(),
        Fate::Refused { kind, .. } => kind.as_str(),
    };
    match kind {
        "late" => "the object must be in the bucket before the upload window ends: fewer inner steps, or a faster link",
        "not-committed" => "the commit must be in the bucket before the window's end, and the object follows it",
        "bad-commit" => "the commit must be of this run, uid and window, signed by the registered hotkey",
        "no-bucket" => "a bucket that anybody may read must be committed on the chain",
        "desynchronised" => "it must start from the network's θ: `templar miner --resync` loads the newest checkpoint",
        "wrong-samples" => "it must train on the samples that the protocol assigns to its uid and window",
        "oversized" | "truncated" | "not-as-committed" => "the object must have exactly the size and the digest that the commit announced",
        _ => "the object must be a container of this run, window and uid, sealed by the registered hotkey",
    }
    .to_owned()
}
