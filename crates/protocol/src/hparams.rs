//! The hyper-parameters of a run: everything that its nodes must agree on, in one versioned structure.
//!
//! Presets live in one file, `hparams/presets.json`. A run descriptor carries a whole [`Hparams`] and its
//! [`Hparams::digest`]; a node whose own hyper-parameters have another digest lists [`Hparams::diff`] and does not join.
//! Names are those of the reference's `hparams.json` where it has them (spec miner-and-trainer §19). What always holds:
//! a value that [`Hparams::validate`] accepted is finite, divides where it must, and is small enough that no product of
//! two of its sizes overflows, so a descriptor from the network cannot ask for an absurd allocation.

mod import;
mod preset;
mod validate;

pub use import::{ImportError, Imported, NoEffect};
pub use preset::PresetError;
pub use validate::{InvalidHparams, Problem};

use crate::{Digest, Timetable};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Version of the structure and of the presets file. Another version has other keys or other meanings.
pub const VERSION: u32 = 1;

/// All that the nodes of one run must agree on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hparams {
    /// Version of this structure: [`VERSION`].
    pub version: u32,
    /// Name of the preset, or the operator's own name for the run.
    pub name: String,
    /// The model's sizes and conventions.
    pub model: ModelParams,
    /// Tokens in a sequence; also the length of the rotary table.
    pub sequence_length: usize,
    /// Sequences in one inner step of one miner.
    pub batch_size: usize,
    /// Sequences for each inner step in the pool that a window assigns to a miner (spec miner-and-trainer §4.2).
    pub target_batch_size: usize,
    /// Sequences in one forward pass; divides `batch_size`.
    pub micro_batch_size: usize,
    /// Inner steps in one window, H.
    pub inner_steps: usize,
    /// Rate of the outer SGD step, α.
    pub outer_learning_rate: f64,
    /// Decay of the error-feedback residual from window to window.
    pub momentum_decay: f64,
    /// Values kept of each chunk.
    pub topk_compression: usize,
    /// Largest side of a chunk (spec miner-and-trainer §9.2).
    pub target_chunk: usize,
    /// Whether chunks are transformed by a DCT before top-k.
    pub use_dct: bool,
    /// Levels of the quantiser; a native object stores two bits a value, so this is 4.
    pub quantization_bins: usize,
    /// Range of the quantiser in standard deviations.
    pub quantization_range: f64,
    /// Blocks of the chain in one window.
    pub blocks_per_window: u64,
    /// The miners' inner optimiser.
    pub optimizer: Optimizer,
    /// The closing phase on a shard of its own with a linear decay.
    pub anneal_mode: AnnealMode,
    /// Outer steps for which one shard of the data set is used.
    pub outer_steps_per_shard: u64,
    /// Outer step from which the shards are read a second time, if any.
    pub shard_reset_outer_step: Option<u64>,
    /// Number of shards in the data set; 0 means as many as the data manifest lists.
    pub shards: u64,
    /// When things happen around the end of a window.
    pub timetable: Timetable,
    /// Windows from the start of the run in which miners do not learn (spec miner-and-trainer §14).
    pub null_rounds: u64,
    /// Outer steps between two public checkpoints.
    pub checkpoint_frequency: u64,
    /// How long each kind of object stays in its bucket.
    pub retention: Retention,
    /// How validators measure miners.
    pub evaluation: Evaluation,
    /// Miners whose pseudo-gradients are gathered in a window.
    pub gather_peer_count: usize,
    /// Miners that stand in when gathered peers fail.
    pub reserve_peer_count: usize,
    /// Least number of peers for a window not to be void.
    pub minimum_peers: usize,
}

/// Order of the two halves that a rotary embedding turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotary {
    /// Element j with element j + dh/2: Hugging Face's convention.
    HalfSplit,
    /// Element 2j with element 2j + 1: the reference's convention.
    Interleaved,
}

/// Sizes and conventions of a Llama (spec miner-and-trainer §17).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelParams {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream, d.
    pub dim: usize,
    /// Blocks, L.
    pub layers: usize,
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, K; divides `heads`.
    pub kv_heads: usize,
    /// Width of the feed-forward layer, as it really is (after the reference's rounding).
    pub ffn: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// ε of RMSNorm.
    pub norm_eps: f64,
    /// Rotary convention.
    pub rotary: Rotary,
    /// Whether the output head shares the token embedding.
    pub tied: bool,
}

impl ModelParams {
    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads.max(1)
    }

    /// Number of parameters; a tied head counts once. Exact for validated sizes, saturating otherwise.
    pub fn parameter_count(&self) -> u64 {
        let [vocab, dim, layers, kv, ffn] = [self.vocab, self.dim, self.layers, self.kv_heads, self.ffn].map(|n| n as u64);
        let kv_width = kv.saturating_mul(self.head_dim() as u64);
        let attention = dim.saturating_mul(dim).saturating_mul(2).saturating_add(dim.saturating_mul(kv_width).saturating_mul(2));
        let block = attention.saturating_add(dim.saturating_mul(ffn).saturating_mul(3)).saturating_add(dim.saturating_mul(2));
        let embedding = vocab.saturating_mul(dim);
        let heads = if self.tied { embedding } else { embedding.saturating_mul(2) };
        layers.saturating_mul(block).saturating_add(heads).saturating_add(dim)
    }
}

/// The inner optimiser. A text that names no type means AdamW, and a structure with AdamW is written without one, so that runs
/// from before there was a choice keep their digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Which one it is.
    #[serde(rename = "type", default, skip_serializing_if = "OptimizerType::is_adamw")]
    pub kind: OptimizerType,
    /// AdamW over all parameters.
    pub adamw: AdamW,
    /// Muon; there exactly when `kind` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon: Option<Muon>,
}

impl Optimizer {
    /// Muon's hyper-parameters, when Muon is the optimiser.
    pub fn muon(&self) -> Option<&Muon> {
        self.muon.as_ref().filter(|_| self.kind == OptimizerType::Muon)
    }

    /// Base rate and course of the learning rate of the optimiser in use.
    pub fn course(&self) -> (f64, &Scheduler) {
        self.muon().map_or((self.adamw.learning_rate, &self.adamw.scheduler), |muon| (muon.learning_rate, &muon.scheduler))
    }
}

/// Names of the inner optimisers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerType {
    /// AdamW.
    #[default]
    AdamW,
    /// Muon.
    Muon,
}

impl OptimizerType {
    fn is_adamw(&self) -> bool {
        *self == Self::AdamW
    }
}

/// Muon: matrices inside the model by orthogonalised momentum, the rest by Adam (spec miner-and-trainer §6.6). Keys that a text
/// leaves out have the reference's shipped values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Muon {
    /// Base learning rate of the matrices.
    pub learning_rate: f64,
    /// Decay of the momentum, μ.
    pub momentum: f64,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f64,
    /// How large an orthogonalised change is; the two go with different learning rates.
    pub scale: MuonScale,
    /// Learning rate of the token embedding, as a factor of `learning_rate`.
    pub embed_lr_scale: f64,
    /// The same for a head called `lm_head`; a Llama's head is not, so it is without effect here as in the reference.
    pub head_lr_scale: f64,
    /// The same for gains.
    pub scalar_lr_scale: f64,
    /// Decoupled weight decay of what Adam trains: the reference's top-level `weight_decay`.
    pub adam_weight_decay: f64,
    /// Decay rates of Adam's moments.
    pub betas: [f64; 2],
    /// ε of Adam.
    pub eps: f64,
    /// Largest L2 norm of the gradient over all parameters.
    pub clip_norm: f64,
    /// Course of the learning rate.
    pub scheduler: Scheduler,
}

/// Size of an orthogonalised change of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuonScale {
    /// 0.2·√max(rows, columns): the reference's sharded path.
    #[default]
    Sharded,
    /// √max(1, rows/columns): the reference's path on a single device.
    SingleDevice,
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            learning_rate: 2e-3,
            momentum: 0.95,
            weight_decay: 0.01,
            scale: MuonScale::Sharded,
            embed_lr_scale: 0.2,
            head_lr_scale: 0.2,
            scalar_lr_scale: 0.2,
            adam_weight_decay: 0.1,
            betas: [0.9, 0.95],
            eps: 1e-8,
            clip_norm: 1.0,
            scheduler: Scheduler {
                warmup_steps: 1500,
                warmup_inner_steps: 30,
                initial_warmup_inner_steps: 200,
                t_max: 140_000,
                eta_min_factor: 0.1,
                flatten_start_step: None,
                flatten_duration: 0,
            },
        }
    }
}

/// AdamW with decoupled weight decay (spec miner-and-trainer §6.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Base learning rate, B.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rates of the first and the second moment.
    pub betas: [f64; 2],
    /// ε added to the root of the second moment.
    pub eps: f64,
    /// Largest L2 norm of the gradient over all parameters.
    pub clip_norm: f64,
    /// Course of the learning rate.
    pub scheduler: Scheduler,
}

/// Course of the inner learning rate (spec miner-and-trainer §7). A tick is one inner step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// Ticks of linear warm-up, W.
    pub warmup_steps: u64,
    /// Inner steps of warm-up after a restart.
    pub warmup_inner_steps: u64,
    /// Inner steps of warm-up after starting from a bootstrap checkpoint.
    pub initial_warmup_inner_steps: u64,
    /// Ticks from the end of warm-up to the floor of the cosine, T.
    pub t_max: u64,
    /// The floor, as a factor of the base rate.
    pub eta_min_factor: f64,
    /// Window of the run at which the rate stands still, if it ever does.
    pub flatten_start_step: Option<u64>,
    /// Windows for which it stands still.
    pub flatten_duration: u64,
}

/// The closing phase of a run (spec miner-and-trainer §7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnealMode {
    /// Whether the run is in this phase.
    pub enabled: bool,
    /// Global step at which its ticks start to count.
    pub start_global_step: u64,
    /// Ticks of linear warm-up.
    pub warmup_inner_steps: u64,
    /// Outer steps of linear decay.
    pub decay_outer_steps: u64,
    /// Highest rate, as a factor of the base rate.
    pub peak_lr_factor: f64,
    /// Last rate, as a factor of the base rate.
    pub eta_min_factor: f64,
    /// Prefix of the names of the shards that this phase reads.
    pub file_prefix: String,
}

/// How long each kind of object stays in its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Windows that a miner keeps its commits and objects.
    pub objects_windows: u64,
    /// Windows that the leader keeps its copies of accepted objects: at least two checkpoints.
    pub accepted_windows: u64,
    /// Checkpoints kept.
    pub checkpoints: u64,
    /// Windows that manifests are kept.
    pub manifests_windows: u64,
}

/// How validators measure miners (spec validator §2, §3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Factor of `outer_learning_rate` for the step that an evaluation takes.
    pub eval_lr_factor: f64,
    /// Sequences of the miner's own assignment in an evaluation.
    pub own_sequences: usize,
    /// Random sequences in an evaluation, the same for all miners of a window.
    pub random_sequences: usize,
    /// Sequences of the held-out set whose loss the leader reports.
    pub held_out_sequences: usize,
    /// Weight of the newest indicator in the binary moving average.
    pub binary_score_ma_alpha: f64,
    /// β of the rating.
    pub openskill_beta: f64,
    /// τ of the rating.
    pub openskill_tau: f64,
    /// Windows over which a miner's gradient scores are averaged.
    pub score_windows: usize,
    /// Windows between two settings of weights.
    pub windows_per_weights: u64,
}

/// A key in which two sets of hyper-parameters differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Dotted key, for example `optimizer.adamw.learning_rate`.
    pub key: String,
    /// The left value as compact JSON.
    pub left: String,
    /// The right value as compact JSON.
    pub right: String,
}

impl Hparams {
    /// Reads hyper-parameters from JSON and validates them. Texts over 1 MiB are refused unread.
    ///
    /// # Errors
    /// The text is not the JSON of this version's structure, or a value is out of its range.
    pub fn from_json(text: &str) -> Result<Self, PresetError> {
        if text.len() > 1 << 20 {
            return Err(PresetError::TooLong { bytes: text.len() });
        }
        let hparams: Self = serde_json::from_str(text).map_err(PresetError::Json)?;
        hparams.validate()?;
        Ok(hparams)
    }

    /// The structure as indented JSON, the form in which operators keep it.
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    /// blake3 over the compact JSON of the structure, keys in the order of declaration.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("numbers, texts and plain structures always serialise"))
    }

    /// All keys in which `self` and `other` differ, in the order of the keys. Equal exactly when the digests are.
    pub fn diff(&self, other: &Self) -> Vec<Difference> {
        let (left, right) = (flatten(&self.to_value()), flatten(&other.to_value()));
        let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        let text = |side: &BTreeMap<String, Value>, key: &String| side.get(key).map_or_else(|| "absent".to_owned(), Value::to_string);
        keys.into_iter()
            .filter(|key| left.get(*key) != right.get(*key))
            .map(|key| Difference { key: key.clone(), left: text(&left, key), right: text(&right, key) })
            .collect()
    }

    /// Milliseconds in one window.
    pub fn window_ms(&self) -> u64 {
        self.timetable.window_ms(self.blocks_per_window)
    }

    /// Every value by its dotted key.
    pub fn flat(&self) -> BTreeMap<String, Value> {
        flatten(&self.to_value())
    }

    fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("numbers, texts and plain structures always serialise")
    }
}

/// Leaves of `value` by dotted key; arrays are leaves.
fn flatten(value: &Value) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                walk(&key, value, into);
            }),
            leaf => {
                into.insert(prefix.to_owned(), leaf.clone());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

#[cfg(test)]
mod tests;
