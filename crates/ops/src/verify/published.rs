//! What must follow from the published state and observation, bit for bit: the choice, the verdict, the weights, the next state.

use super::{Case, Check};
use std::time::Duration;
use templar_gauntlet::sheet::{Difference, STATE_BYTES_MAX, differences};
use templar_gauntlet::{ScoreSheet, Scorer};
use templar_protocol::names;
use templar_store::Deadline;

/// Longest answer to a request for a state.
const REQUEST: Duration = Duration::from_secs(120);
/// Characters around the place at which two texts part.
const CONTEXT_CHARS: usize = 60;

/// The checks `state`, `choice` and `scores`.
pub(super) async fn check(case: &Case<'_>) -> Vec<Check> {
    let name = names::score_state(case.window());
    let read = case.inputs.bucket.get_if_exists(&name, STATE_BYTES_MAX, Deadline::within(REQUEST)).await;
    let before = match read {
        Ok(Some(bytes)) => Scorer::read(&bytes),
        Ok(None) => return not_possible(&format!("the state before the window, {name}, has passed its retention")),
        Err(error) => return not_possible(&format!("{name} cannot be read: {error}")),
    };
    let before = match before {
        Ok(before) => before,
        Err(error) => return vec![Check::of("state", name, vec![format!("it is no state: {error}")])],
    };
    let mut checks = vec![succession(case, &before).await];
    checks.extend(follows(&before, &case.sheet));
    checks
}

fn not_possible(why: &str) -> Vec<Check> {
    ["state", "choice", "scores"].map(|name| Check::not_possible(name, why)).to_vec()
}

/// Whether the state before is the one after the window scored before, so that nothing was slipped in between.
async fn succession(case: &Case<'_>, before: &Scorer) -> Check {
    const NAME: &str = "state";
    let Some(last) = before.last_window() else {
        // A validator that begins, and one that has lost its state, begin with nothing: that favours nobody.
        return Check::agrees(NAME, "the validator began with this window");
    };
    let read = case.read::<ScoreSheet>(&case.inputs.bucket, &names::score_sheet(last)).await;
    match read {
        Ok(Some(sheet)) if sheet.signer == case.signer && sheet.message.run == case.run_id => {
            let (said, found) = (sheet.message.state_after, case.sheet.state_before);
            let differences = if said == found {
                vec![]
            } else {
                vec![format!("window {last} ended with {}, window {} begins with {}", said.short(), case.window(), found.short())]
            };
            Check::of(NAME, format!("it is the one that window {last} ended with"), differences)
        }
        Ok(Some(_)) => Check::not_possible(NAME, format!("the sheet of window {last} is of another key or run")),
        Ok(None) => Check::not_possible(NAME, format!("the sheet of window {last}, which was scored before, has passed its retention")),
        Err(why) => Check::not_possible(NAME, why),
    }
}

/// The checks `choice` and `scores`: what follows from `before` and the sheet's observation.
pub fn follows(before: &Scorer, sheet: &ScoreSheet) -> Vec<Check> {
    let found = match differences(before, sheet) {
        Ok(found) => found,
        Err(error) => {
            let said = "computed again from the published state and losses";
            return vec![Check::of("scores", said, vec![error.to_string()])];
        }
    };
    let (choice, scores): (Vec<_>, Vec<_>) = found.iter().partition(|difference| difference.part == "chosen");
    let told = |differences: Vec<&Difference>| differences.into_iter().map(tell).collect();
    let (chosen, weighed) = (sheet.chosen.len(), sheet.weights.peers.len());
    vec![
        Check::of("choice", format!("{chosen} miners chosen by the seed from the state before, in the same order"), told(choice)),
        Check::of("scores", format!("judgements and weights of {weighed} miners from the published losses, bit for bit"), told(scores)),
    ]
}

fn tell(difference: &Difference) -> String {
    let who = difference.uid.map_or_else(String::new, |uid| format!(" of uid {uid}"));
    let (published, recomputed) = apart(&difference.published, &difference.recomputed);
    format!("{}{who}: published {published}, recomputed {recomputed}", difference.part)
}

/// Two texts around the place at which they part.
fn apart(a: &str, b: &str) -> (String, String) {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let start = same.saturating_sub(CONTEXT_CHARS / 2);
    let part = |text: &str| {
        let shown: String = text.chars().skip(start).take(CONTEXT_CHARS).collect();
        if start > 0 { format!("…{shown}") } else { shown }
    };
    (part(a), part(b))
}
