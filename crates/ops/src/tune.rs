//! Which settings suit a machine: pure choice among what was measured.
//!
//! What always holds: only what was measured is proposed; a proposal leaves the safety margin that was asked for, or says that none does; protocol
//! constants are told apart and never proposed.

use serde::Serialize;
use templar_model::Recompute;

/// Hyper-parameters that all nodes of a run must agree on, in words: whoever differs is refused, or no longer follows.
pub const PROTOCOL: [(&str, &str); 8] = [
    ("inner_steps, batch_size, target_batch_size", "which samples are assigned, and the digest of them"),
    ("sequence_length, the tokenizer, the data manifest", "which tokens they are"),
    ("model.*", "the shapes of everything"),
    ("topk_compression, target_chunk, use_dct, quantization_*", "the form of an object; others are refused"),
    ("outer_learning_rate", "θ after the window"),
    ("blocks_per_window, timetable.*", "the deadlines"),
    ("gather_peer_count, minimum_peers, checkpoint_frequency, retention.*", "what validators publish"),
    ("evaluation.*", "how miners are scored"),
];

/// What a miner may choose for itself, in words, with the flag or key.
pub const FREE: [(&str, &str); 6] = [
    ("--micro-batch, --recompute, --offload-moments", "memory against speed; the object is the same but for rounding"),
    ("--threads, --devices, --gpu-memory", "speed alone"),
    (
        "optimizer.*: rates, betas, decay, schedule, clipping",
        "the object is judged by what it does to the loss; try on a network of your own first",
    ),
    ("momentum_decay", "how long the residual remembers"),
    ("fewer inner steps than assigned", "an object counts with fewer, and is worth less: the mark of own data is weaker"),
    ("--max-up, --bucket-endpoints", "when the object is up"),
];

/// A setting that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Sequences in one pass.
    pub micro_batch: usize,
    /// What is computed again.
    #[serde(serialize_with = "as_text")]
    pub recompute: Recompute,
    /// Worker threads.
    pub threads: usize,
    /// Median time of an inner step, ms.
    pub step_ms: f64,
    /// Most memory in use on a device, bytes, where the engine says so.
    pub peak_bytes: Option<u64>,
}

fn as_text<S: serde::Serializer>(recompute: &Recompute, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(recompute)
}

/// A candidate that could not be measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failed {
    /// Which, in words.
    pub setting: String,
    /// Why.
    pub why: String,
}

/// How much time a window has for inner steps, and how many the run assigns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Room {
    /// Time that is left for inner steps before the margin at a window's end, s; 0 or less for none.
    pub available_s: f64,
    /// Inner steps that the run assigns.
    pub inner_steps: usize,
    /// The share of that time that must stay free, in [0, 1).
    pub safety: f64,
}

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// The fastest setting; of those within [`EQUAL`] of it, the one that needs least memory and fewest threads.
    pub setting: Measured,
    /// Inner steps that fit with the safety margin.
    pub steps_that_fit: usize,
    /// Inner steps that the run assigns.
    pub inner_steps: usize,
    /// The share of the time that stays free when all assigned steps are taken; negative when they do not fit.
    pub spare: f64,
}

/// Steps of so nearly the same time count as equally fast.
pub const EQUAL: f64 = 0.03;

impl Proposal {
    /// The best of what was measured; none when nothing was.
    pub fn of(measured: &[Measured], room: Room) -> Option<Self> {
        let usable = measured.iter().filter(|setting| setting.step_ms.is_finite() && setting.step_ms > 0.0);
        let fastest = usable.clone().map(|setting| setting.step_ms).min_by(f64::total_cmp)?;
        let frugal = |setting: &&Measured| (setting.peak_bytes.unwrap_or(setting.micro_batch as u64), setting.threads);
        let setting = usable.filter(|setting| setting.step_ms <= fastest * (1.0 + EQUAL)).min_by_key(frugal)?.clone();
        let available_ms = 1e3 * room.available_s.max(0.0);
        let steps_that_fit = (available_ms * (1.0 - room.safety) / setting.step_ms).floor() as usize;
        let taken = room.inner_steps as f64 * setting.step_ms;
        let spare = if available_ms > 0.0 { 1.0 - taken / available_ms } else { -1.0 };
        Some(Self { setting, steps_that_fit, inner_steps: room.inner_steps, spare })
    }

    /// Whether all assigned steps fit with the safety margin.
    pub fn fits(&self) -> bool {
        self.steps_that_fit >= self.inner_steps
    }

    /// The proposal in a sentence.
    pub fn verdict(&self) -> String {
        let (fit, all) = (self.steps_that_fit, self.inner_steps);
        if self.fits() {
            return format!("all {all} inner steps fit, {:.0} % of the time stays free", 100.0 * self.spare);
        }
        if fit == 0 {
            return "not a single inner step fits: this machine cannot take part in this run".into();
        }
        format!(
            "{fit} of {all} inner steps fit with the safety margin. The number is the run's and cannot be changed; a miner that is out of time sends what it \
             has, which counts, and is worth less"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measured(micro_batch: usize, threads: usize, step_ms: f64, peak_bytes: Option<u64>) -> Measured {
        Measured { micro_batch, recompute: Recompute::None, threads, step_ms, peak_bytes }
    }

    fn room(available_s: f64, inner_steps: usize) -> Room {
        Room { available_s, inner_steps, safety: 0.1 }
    }

    #[test]
    fn the_fastest_wins_and_among_equals_the_frugal_one() {
        let all = [measured(8, 2, 100.0, Some(900)), measured(4, 2, 101.0, Some(500)), measured(1, 1, 180.0, Some(100))];
        let proposal = Proposal::of(&all, room(10.0, 80)).unwrap();
        assert_eq!((proposal.setting.micro_batch, proposal.steps_that_fit), (4, 89));
        assert!(proposal.fits() && proposal.verdict().starts_with("all 80 inner steps fit, 19 %"), "{}", proposal.verdict());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let all = [measured(1, 1, 1000.0, None)];
        let few = Proposal::of(&all, room(10.0, 30)).unwrap();
        assert!(!few.fits() && few.verdict().starts_with("9 of 30 inner steps fit"), "{}", few.verdict());
        let none = Proposal::of(&all, room(-2.0, 30)).unwrap();
        assert!(none.verdict().contains("not a single"), "{}", none.verdict());
        assert_eq!(Proposal::of(&[measured(1, 1, f64::NAN, None)], room(1.0, 1)), None);
    }

    #[test]
    fn every_named_hyper_parameter_exists() {
        let hparams = serde_json::to_value(templar_protocol::hparams::Hparams::preset("local").unwrap()).unwrap();
        for (keys, _) in PROTOCOL {
            for key in keys.split(", ").filter(|key| !key.contains(' ')) {
                let key = key.trim_end_matches(".*");
                let found = match key.strip_suffix('*') {
                    Some(stem) => hparams.as_object().unwrap().keys().any(|name| name.starts_with(stem)),
                    None => hparams.get(key).is_some(),
                };
                assert!(found, "{key} is no hyper-parameter");
            }
        }
    }

    proptest! {
        #[test]
        fn a_proposal_never_takes_more_than_the_safety_margin_leaves(ms in proptest::collection::vec(0.1f64..1e5, 1..9), available in -10f64..1e4, safety in 0f64..0.9) {
            let all: Vec<Measured> = ms.iter().map(|ms| measured(1, 1, *ms, None)).collect();
            let room = Room { available_s: available, inner_steps: 10, safety };
            let proposal = Proposal::of(&all, room).unwrap();
            let taken = proposal.steps_that_fit as f64 * proposal.setting.step_ms / 1e3;
            prop_assert!(taken <= available.max(0.0) * (1.0 - safety) + 1e-6);
        }
    }
}
