//! Which shard of the data set a global step trains on, and what its files are called (spec wire-protocol §8.1 and §8.6).
//!
//! The shard is a function of the global step alone, so a node that joins late needs no history to know it.

use crate::GlobalStep;
use serde::{Deserialize, Serialize};

/// The rules of rotation of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRules {
    /// Outer steps for which a shard is used; 0 or less never rotates.
    pub outer_steps_per_shard: i64,
    /// The global step from which a second pass begins at shard 0 again; negative or missing: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_reset_outer_step: Option<i64>,
    /// Number of shards, at least 1; shard numbers wrap around at it.
    pub n_shards: u32,
    /// Shards that are served from the files of another: `(shard, files)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remap: Vec<(u32, u32)>,
    /// The one shard used throughout (anneal mode): no rotation, no prefetch, no deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u32>,
}

impl RotationRules {
    /// The rules of the reference's production run: 14 shards of 455 outer steps, a second pass from step 4040, and shard 7
    /// served from shard 13's files.
    pub fn reference() -> Self {
        Self { outer_steps_per_shard: 455, shard_reset_outer_step: Some(4040), n_shards: 14, remap: vec![(7, 13)], pinned: None }
    }

    /// The rules of the reference's anneal mode: shard 5, pinned.
    pub fn reference_anneal() -> Self {
        Self { pinned: Some(5), ..Self::reference() }
    }

    /// One pass after the other over `n_shards` shards of a data set of our own.
    pub fn cycle(n_shards: u32, outer_steps_per_shard: i64) -> Self {
        Self { outer_steps_per_shard, shard_reset_outer_step: None, n_shards, remap: Vec::new(), pinned: None }
    }

    /// The index of the files that serve shard number `shard`.
    pub fn remapped(&self, shard: u32) -> u32 {
        self.remap.iter().find(|(from, _)| *from == shard).map_or(shard, |(_, files)| *files)
    }
}

/// Pass and shard number of a global step, before wrapping and remapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardState {
    /// 0, or 1 from the reset on.
    pub epoch: u64,
    /// Shards begun since the start of the pass.
    pub shard: u64,
}

/// Pass and shard number of `step` (§8.6, first rule).
pub fn shard_state(step: GlobalStep, rules: &RotationRules) -> ShardState {
    let Ok(per_shard @ 1..) = u64::try_from(rules.outer_steps_per_shard) else { return ShardState { epoch: 0, shard: 0 } };
    match rules.shard_reset_outer_step.and_then(|reset| u64::try_from(reset).ok()) {
        Some(reset) if step.0 >= reset => ShardState { epoch: 1, shard: (step.0 - reset) / per_shard },
        _ => ShardState { epoch: 0, shard: step.0 / per_shard },
    }
}

/// The index of the files that `step` trains on: pinned, or rotated, wrapped around and remapped.
pub fn shard_of(step: GlobalStep, rules: &RotationRules) -> u32 {
    let n_shards = rules.n_shards.max(1);
    let shard = rules.pinned.unwrap_or_else(|| (shard_state(step, rules).shard % u64::from(n_shards)) as u32);
    rules.remapped(shard)
}

/// The files that follow those of `step`, which are worth fetching ahead; `None` when they are the same or never come.
pub fn next_shard(step: GlobalStep, rules: &RotationRules) -> Option<u32> {
    let per_shard = u64::try_from(rules.outer_steps_per_shard).ok().filter(|&steps| steps > 0)?;
    if rules.pinned.is_some() {
        return None;
    }
    let state = shard_state(step, rules);
    let reset = rules.shard_reset_outer_step.and_then(|reset| u64::try_from(reset).ok());
    let base = if state.epoch == 1 { reset.unwrap_or(0) } else { 0 };
    let mut swap = state.shard.checked_add(1)?.checked_mul(per_shard)?.checked_add(base)?;
    if let Some(reset) = reset.filter(|_| state.epoch == 0) {
        swap = swap.min(reset);
    }
    let next = shard_of(GlobalStep(swap), rules);
    (next != shard_of(step, rules)).then_some(next)
}

/// The name of the file with the tokens of shard `index` (§8.1); `prefix` is `train`, or `anneal` in anneal mode.
pub fn tokens_name(prefix: &str, index: u32) -> String {
    format!("{prefix}_{index:06}.npy")
}

/// The name of the file with the sample ids of shard `index` (§8.1): only the prefix `anneal` shows in it.
pub fn ids_name(prefix: &str, index: u32) -> String {
    if prefix == "anneal" { format!("sample_ids_anneal_{index:06}.npy") } else { format!("sample_ids_{index:06}.npy") }
}

/// `folder` and `name` with exactly one slash between them.
pub fn locate(folder: &str, name: &str) -> String {
    match folder.trim_end_matches('/') {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/shards.json");
        serde_json::from_slice(&std::fs::read(path).expect("vector file")).expect("valid JSON")
    }

    #[test]
    fn shard_states_match_the_vectors() {
        for case in vectors()["compute_shard_state"].as_array().expect("list") {
            let rules = RotationRules {
                outer_steps_per_shard: case["outer_steps_per_shard"].as_i64().expect("number"),
                shard_reset_outer_step: case["reset"].as_i64(),
                ..RotationRules::reference()
            };
            let state = shard_state(GlobalStep(case["global_step"].as_u64().expect("number")), &rules);
            assert_eq!(serde_json::json!([state.epoch, state.shard]), case["epoch_shard"], "{case}");
        }
    }

    #[test]
    fn remapping_and_names_match_the_vectors() {
        let vectors = vectors();
        for (shard, files) in vectors["remap"].as_object().expect("object") {
            assert_eq!(u64::from(RotationRules::reference().remapped(shard.parse().expect("number"))), *files);
        }
        for case in vectors["locate"].as_array().expect("list") {
            let (index, prefix) = (case["shard_index"].as_u64().expect("number") as u32, case["file_prefix"].as_str().expect("text"));
            let folder = case["DATASET_BINS_PATH"].as_str().expect("text");
            assert_eq!(locate(folder, &tokens_name(prefix, index)), case["tokens"]);
            assert_eq!(locate(folder, &ids_name(prefix, index)), case["sample_ids"]);
        }
        assert_eq!(locate("", "a.npy"), "a.npy");
    }

    #[test]
    fn files_rotate_wrap_and_stay_pinned() {
        let rules = RotationRules { shard_reset_outer_step: None, ..RotationRules::reference() };
        assert_eq!(shard_of(GlobalStep(7 * 455), &rules), 13);
        assert_eq!(shard_of(GlobalStep(6370), &rules), 0);
        for step in [0, 4039, 4040, 100_000] {
            assert_eq!(shard_of(GlobalStep(step), &RotationRules::reference_anneal()), 5);
            assert_eq!(next_shard(GlobalStep(step), &RotationRules::reference_anneal()), None);
        }
    }

    #[test]
    fn the_next_files_are_those_after_the_coming_swap() {
        let rules = RotationRules::reference();
        assert_eq!(next_shard(GlobalStep(0), &rules), Some(1));
        assert_eq!(next_shard(GlobalStep(6 * 455), &rules), Some(13));
        // The reset comes before shard 8 is through.
        assert_eq!(shard_of(GlobalStep(4039), &rules), 8);
        assert_eq!(next_shard(GlobalStep(4039), &rules), Some(0));
        assert_eq!(next_shard(GlobalStep(4040), &rules), Some(1));
        assert_eq!(next_shard(GlobalStep(3), &RotationRules::cycle(1, 10)), None);
        assert_eq!(next_shard(GlobalStep(19), &RotationRules::cycle(2, 10)), Some(0));
        assert_eq!(next_shard(GlobalStep(u64::MAX), &RotationRules::cycle(2, 1)), None);
        assert_eq!(next_shard(GlobalStep(5), &RotationRules::cycle(2, 0)), None);
    }
}
