//! Standing: a factor on the weight that offences lower, each once, and that recovers slowly.
//!
//! It is kept beside quality and multiplied after it, so nothing that is computed anew can wash an offence away. Half of what is lost has
//! come back after `recovery_half_life_windows`. Offences are only what was certainly the miner's own doing: bytes that it signed or announced,
//! and what those bytes do.

use super::rules::StandingRules;
use super::verdict::Penalty;

/// Standing `windows` windows later, without new offences.
pub(crate) fn recover(rules: &StandingRules, standing: f64, windows: u64) -> f64 {
    let kept = 0.5f64.powf(windows as f64 / rules.recovery_half_life_windows.max(1e-9));
    (1.0 - (1.0 - standing) * kept).max(standing).clamp(rules.floor, 1.0)
}

/// The penalty for an offence of `kind`, or none where the rules name no factor for it.
pub(crate) fn penalty(rules: &StandingRules, kind: &str, before: f64, reason: String) -> Option<Penalty> {
    let factor = *rules.factors.get(kind)?;
    let after = (before * factor).clamp(rules.floor, 1.0);
    Some(Penalty { kind: kind.to_owned(), factor, before, after, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::NativeRules;
    use proptest::prelude::*;

    #[test]
    fn half_of_a_loss_has_come_back_after_the_half_life() {
        let rules = NativeRules::default().standing;
        let lost = penalty(&rules, "harmful", 1.0, String::new()).unwrap();
        assert_eq!((lost.before, lost.after), (1.0, 0.5));
        let later = recover(&rules, lost.after, rules.recovery_half_life_windows as u64);
        assert!((later - 0.75).abs() < 1e-12);
        assert_eq!(penalty(&rules, "late", 1.0, String::new()), None, "being late costs the window, not the standing");
    }

    proptest! {
        #[test]
        fn standing_stays_within_its_bounds(steps in proptest::collection::vec((0u64..50, any::<bool>()), 0..100)) {
            let rules = NativeRules::default().standing;
            let mut standing = 1.0;
            for (windows, offence) in steps {
                let recovered = recover(&rules, standing, windows);
                prop_assert!(recovered >= standing);
                standing = recovered;
                if offence {
                    standing = penalty(&rules, "replay", standing, String::new()).unwrap().after;
                }
                prop_assert!((rules.floor..=1.0).contains(&standing));
            }
        }
    }
}
