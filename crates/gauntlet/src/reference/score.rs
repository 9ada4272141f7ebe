//! The match and the final score (spec validator §3.4, §4.1).

use super::{
    gauntlet::Gauntlet,
    reason::{Reason, ReasonKind},
    rules::IndicatorRules,
};
use crate::{Rating, RatingError};

/// The factor that the binary moving average is: not below 0, and 0 below the gate once the warm-up is over. The gate is compared with
/// the float32 average widened to float64, so an average of float32 0.1 passes a gate of 0.1.
pub fn gated(rules: &IndicatorRules, average: f32, windows_since_start: u64) -> f64 {
    let average = f64::from(average).max(0.0);
    if windows_since_start >= rules.warm_up_windows && average < rules.gate { 0.0 } else { average }
}

/// Ordinal × gated average × sync score, in float32; negative for a negative ordinal. `sync` is 0 for who was never evaluated.
pub fn final_score(ordinal: f64, gated: f64, sync: f32) -> f32 {
    (ordinal * gated * f64::from(sync)).clamp(f32::MIN.into(), f32::MAX.into()) as f32
}

impl Gauntlet {
    /// Rates the match when it has more than one entry, and computes the final scores of its members anew; slashes of final scores
    /// from earlier in the window are thereby undone. Returns whether it was rated. A single entry waits for the next window.
    pub(crate) fn rate(&mut self, reasons: &mut Vec<Reason>) -> Result<bool, RatingError> {
        if self.state.entries.len() < 2 {
            return Ok(false);
        }
        // Cleared before anything can fail: a match that cannot be rated must not stay in the way of the next.
        let entries = std::mem::take(&mut self.state.entries);
        // The reference ends when a rating was reset since a carried-over entry was made; here the peer starts anew.
        let before: Vec<Rating> = entries.iter().map(|(uid, _)| self.state.peer(*uid).rating.unwrap_or_default()).collect();
        let scores: Vec<f64> = entries.iter().map(|entry| entry.1).collect();
        let after = self.rules.rating.rate(&before, &scores)?;
        let (window, since) = (self.state.open.window, self.windows_since_start());
        for (place, ((uid, score), rating)) in entries.iter().zip(&after).enumerate() {
            let rules = self.rules.indicator.clone();
            let peer = self.state.peer(*uid);
            let (scores_before, ordinal) = (peer.scores(), rating.ordinal());
            let average = gated(&rules, peer.average.value(), since);
            let sync = if peer.evaluated { peer.sync } else { 0.0 };
            peer.rating = Some(*rating);
            peer.final_score = final_score(ordinal, average, sync);
            let better = scores.iter().filter(|other| *other > score).count();
            let gate =
                if average == 0.0 && peer.average.value() > 0.0 { format!(", below the gate {}", rules.gate) } else { String::new() };
            let sentence = format!(
                "uid {uid} entered the match as number {} with the score {score:.6}; {better} of {} scored better, which gives it the ordinal \
                 {ordinal:.4}; times the average {:.4}{gate} and the sync score {sync:.4} its final score is {:.6}",
                place + 1,
                entries.len(),
                peer.average.value(),
                peer.final_score,
            );
            let reason = Reason::new(window, *uid, ReasonKind::Final, sentence).compared(ordinal, 0.0);
            reasons.push(reason.changed(scores_before, peer.scores()));
        }
        Ok(true)
    }
}
