//! Who is held back from the aggregate: miners whose updates have not helped of late.
//!
//! Weight decides who is paid, but an update that is not paid would still move θ. So the publisher of a manifest leaves out whoever is *known* to help
//! less than half of what a typical contributor does, beyond noise, whose objects are mostly others', or whose standing an offence has brought down. Its object is still fetched, kept,
//! compared, measured and credited: a miner that has mended comes back by its scores, and a mistaken publisher costs nobody its pay. Who was never or
//! hardly evaluated is not held: newcomers contribute from their first window.

use super::memory;
use super::quality::{self, Estimate};
use super::scorer::Scorer;
use std::collections::BTreeMap;
use templar_protocol::AccountId;

/// Contributors that are needed to say what is typical.
const CROWD_MIN: usize = 3;

impl Scorer {
    /// The miners that a manifest of this validator holds back, each with the sentence that explains it.
    pub fn held(&self) -> BTreeMap<AccountId, String> {
        let rules = self.rules();
        let counted = memory::recall(rules, &self.histories()).counted;
        let estimates = quality::estimates(rules, &counted);
        let useful: Vec<Estimate> = estimates.iter().flatten().filter(|estimate| quality::is_useful(rules, estimate)).copied().collect();
        let typical = (useful.len() >= CROWD_MIN).then(|| quality::pool(rules, &useful).mean);
        let mut held = BTreeMap::new();
        for (((hotkey, state), estimate), counted) in self.peers.iter().zip(&estimates).zip(&counted) {
            let useless = estimate.filter(|_| counted.len() >= rules.hold.evaluations).and_then(|e| {
                let (most, least) = (e.quality + rules.useful_sigmas * e.variance.sqrt(), rules.hold.share * typical?);
                (most < least).then(|| {
                    format!(
                        "its last {} evaluations gave {:.3} of the common level, at most {most:.3} beyond noise; below {least:.3}, {:.0} % of a typical \
                         contributor, an update is measured but not applied",
                        counted.len(),
                        e.quality,
                        100.0 * rules.hold.share
                    )
                })
            });
            let offended = (state.standing < rules.hold.standing).then(|| {
                format!(
                    "offences have left it a standing of {:.3}; below {} an update is measured but not applied",
                    state.standing, rules.hold.standing
                )
            });
            let objects: Vec<f64> = state.credits.iter().filter(|entry| entry.judged).filter_map(|entry| entry.credit).collect();
            let mean = objects.iter().sum::<f64>() / objects.len().max(1) as f64;
            let idle = (objects.len() >= rules.hold.evaluations && mean < rules.hold.credit).then(|| {
                format!(
                    "its last {} objects count {mean:.3} on average, because they are alike to others' or too large; below {} an update is measured \
                     but not applied",
                    objects.len(),
                    rules.hold.credit
                )
            });
            if let Some(reason) = useless.or(offended).or(idle) {
                held.insert(*hotkey, reason);
            }
        }
        held
    }
}
