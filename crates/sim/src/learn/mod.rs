//! What is learned: a convex model of loss that is fast, or a small Llama that is real.
//!
//! Both stand behind the [`Trainer`](templar_model::Trainer) trait, so everything above (compression, evaluation, aggregation) is what a real node runs.

pub mod convex;
pub mod real;

use crate::scenario::Learning;
use serde_json::{Map, Value, json};

/// Hyper-parameters that the way of learning wants, which a scenario may change again.
pub fn hparams(learning: &Learning) -> Map<String, Value> {
    let wanted = match learning {
        Learning::Fast(_) => json!({
            // A sample is two words: its number is all that the convex model reads.
            "sequence_length": 2,
            "batch_size": 8,
            "target_batch_size": 8,
            "micro_batch_size": 8,
            "inner_steps": 10,
            "topk_compression": 32,
            "optimizer": {"adamw": {"scheduler": {"t_max": 100_000_000}}},
        }),
        Learning::Real => real::hparams(),
    };
    match wanted {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
