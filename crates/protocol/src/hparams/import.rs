//! Reading the reference's `hparams.json`: every key of it takes effect here, or is named with the reason why not.

use super::{Hparams, InvalidHparams, Muon, flatten};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Why a reference's file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not a JSON object.
    #[error("the file is not a JSON object with the reference's keys: {why}")]
    Json {
        /// What the reader said.
        why: String,
    },
    /// The text is too long to be hyper-parameters.
    #[error("the file has {bytes} bytes; more than 1 MiB is refused")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// A model size that is neither built in nor described by the file.
    #[error(
        "model_size {name:?} is not one of 70B, 8B, 1B and 150M, and the file lacks {missing}; merge the keys of the reference's \
         {name}.json into the file"
    )]
    Model {
        /// The size as given.
        name: String,
        /// The first key that a size of its own needs.
        missing: &'static str,
    },
    /// A value has another type or meaning than the reference gives it.
    #[error("{key} is {value}, which cannot be taken over: {why}")]
    Value {
        /// Key in the reference's file.
        key: String,
        /// Its value as compact JSON.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// The values have the wrong types for this structure.
    #[error("the values cannot be taken over: {0}")]
    Structure(#[source] serde_json::Error),
    /// The result is out of range.
    #[error(transparent)]
    Invalid(#[from] InvalidHparams),
}

/// A key of the reference without effect here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoEffect {
    /// Dotted key in the reference's file.
    pub key: String,
    /// Why it has no effect.
    pub why: String,
}

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Imported {
    /// The hyper-parameters, validated.
    pub hparams: Hparams,
    /// Keys of the file without effect, sorted.
    pub no_effect: Vec<NoEffect>,
    /// Our keys that the file does not state; they have the preset's value. Sorted.
    pub defaulted: Vec<String>,
}

/// Keys of the reference that have the same name and meaning here.
const SAME: &[&str] = &[
    "sequence_length",
    "micro_batch_size",
    "batch_size",
    "target_batch_size",
    "inner_steps",
    "outer_learning_rate",
    "momentum_decay",
    "topk_compression",
    "target_chunk",
    "use_dct",
    "quantization_bins",
    "quantization_range",
    "blocks_per_window",
    "outer_steps_per_shard",
    "shard_reset_outer_step",
    "checkpoint_frequency",
    "gather_peer_count",
    "reserve_peer_count",
    "minimum_peers",
    "optimizer.adamw.learning_rate",
    "optimizer.adamw.weight_decay",
    "optimizer.adamw.betas",
    "optimizer.adamw.eps",
    "optimizer.adamw.scheduler.warmup_steps",
    "optimizer.adamw.scheduler.warmup_inner_steps",
    "optimizer.adamw.scheduler.initial_warmup_inner_steps",
    "optimizer.adamw.scheduler.t_max",
    "optimizer.adamw.scheduler.eta_min_factor",
    "optimizer.adamw.scheduler.flatten_start_step",
    "optimizer.adamw.scheduler.flatten_duration",
    "anneal_mode.enabled",
    "anneal_mode.start_global_step",
    "anneal_mode.warmup_inner_steps",
    "anneal_mode.decay_outer_steps",
    "anneal_mode.peak_lr_factor",
    "anneal_mode.eta_min_factor",
    "anneal_mode.file_prefix",
];

/// Keys below `optimizer.muon` that have the same name and meaning here.
const MUON: &[&str] = &[
    "learning_rate",
    "momentum",
    "weight_decay",
    "embed_lr_scale",
    "head_lr_scale",
    "scalar_lr_scale",
    "scheduler.warmup_steps",
    "scheduler.warmup_inner_steps",
    "scheduler.initial_warmup_inner_steps",
    "scheduler.t_max",
    "scheduler.eta_min_factor",
    "scheduler.flatten_start_step",
    "scheduler.flatten_duration",
];

const REPLAY: &str = "the rate is a function of the global step, so nothing is replayed";

/// Keys of the reference that live elsewhere here.
const RENAMED: &[(&str, &str)] = &[
    ("eval_lr_factor", "evaluation.eval_lr_factor"),
    ("openskill_beta", "evaluation.openskill_beta"),
    ("openskill_tau", "evaluation.openskill_tau"),
    ("binary_score_ma_alpha", "evaluation.binary_score_ma_alpha"),
    ("windows_per_weights", "evaluation.windows_per_weights"),
    ("torchtitan.tie_embeddings", "model.tied"),
    ("vocab_size", "model.vocab"),
];

/// Keys of a size that is not built in (the reference's `{model_size}.json`).
const SIZES: &[(&str, &str)] = &[
    ("hidden_size", "model.dim"),
    ("num_hidden_layers", "model.layers"),
    ("num_attention_heads", "model.heads"),
    ("num_key_value_heads", "model.kv_heads"),
];

/// Vocabularies of the tokenizers that the reference has used.
const VOCABULARIES: &[(&str, usize)] =
    &[("google/gemma-3-270m", 262_144), ("togethercomputer/LLaMA-2-7B-32K", 32_000), ("huggyllama/llama-7b", 32_000)];

/// Known keys without effect; a key ending in '.' stands for all below it.
const NO_EFFECT: &[(&str, &str)] = &[
    ("spec_version", "the reference itself does not read it; objects carry the version of the container"),
    ("project", "a label for dashboards, set by the operator"),
    ("optimizer.adamw.scheduler.replay_rewind_inner_steps", REPLAY),
    ("optimizer.muon.", "the run's optimiser is AdamW"),
    ("weight_decay", "it belongs to Muon's second group; AdamW has its own"),
    ("offload_optimizer_states", "memory placement is the operator's choice, not the protocol's"),
    ("learning_rate", "the reference uses it as a scale in one log line only"),
    ("peer_replacement_frequency", "the manifest decides who is gathered, window by window"),
    ("active_check_interval", "a miner is active when its commit was read"),
    ("recent_windows", "a miner is active when its commit was read"),
    ("checkpoint_init_version", "the run descriptor names the initial checkpoint by digest"),
    ("checkpoint_init_window", "the run descriptor names the initial checkpoint by digest"),
    ("power_normalisation", "the reference itself does not read it"),
    ("power_normalization", "the reference itself does not read it"),
    ("torchtitan.", "how a node spreads its work over devices is its own affair"),
    ("activation_function", "a Llama has SwiGLU"),
    ("max_position_embeddings", "the rotary table has sequence_length positions"),
    ("pages_per_window", "the reference itself does not read it"),
    ("scores_alpha", "the reference itself does not read it"),
    ("bucket_name", "the reference itself does not read it"),
    ("warmup_steps", "the reference reads optimizer.adamw.scheduler.warmup_steps"),
    ("alpha_f", "the reference itself does not read it"),
    ("t_max", "the reference reads optimizer.adamw.scheduler.t_max"),
];

/// Keys of scoring rules that weights do not depend on here.
const SCORING: &[&str] = &[
    "gather_share",
    "gather_top_ratio",
    "reserve_decay_ratio",
    "burn_rate",
    "bma_threshold",
    "bma_warmup_windows",
    "missing_gradient_penalty_score",
    "gather_peers_slash_threshold",
    "uids_per_window",
    "num_evaluation_bins",
    "reset_inactivity_windows",
    "sync_max_steps_behind",
    "idx_overlap_threshold",
    "consecutive_negative_threshold",
    "exclude_negative_peers",
];

impl Hparams {
    /// Reads the reference's `hparams.json`, with the keys of a `{model_size}.json` merged in where the size is not built in.
    ///
    /// # Errors
    /// The text is not a JSON object, the model's size is unknown, a value has another type than the reference's, or the
    /// result is out of range.
    pub fn import_reference(text: &str) -> Result<Imported, ImportError> {
        if text.len() > 1 << 20 {
            return Err(ImportError::TooLong { bytes: text.len() });
        }
        let value: Value = serde_json::from_str(text).map_err(|error| ImportError::Json { why: error.to_string() })?;
        if !value.is_object() {
            return Err(ImportError::Json { why: "the outermost value is not an object".into() });
        }
        let mut import = Import::new(flatten(&value))?;
        import.take_model()?;
        import.take_converted()?;
        for key in SAME {
            import.take_as(key, key);
        }
        for (theirs, ours) in RENAMED {
            import.take_as(theirs, ours);
        }
        import.finish()
    }
}

struct Import {
    /// Keys of the file that have not been looked at yet.
    theirs: BTreeMap<String, Value>,
    /// The preset, being overwritten.
    ours: Value,
    set: BTreeSet<String>,
    no_effect: Vec<NoEffect>,
    base: Hparams,
    custom: Option<String>,
}

impl Import {
    fn new(mut theirs: BTreeMap<String, Value>) -> Result<Self, ImportError> {
        let name = match theirs.remove("model_size") {
            None => "70B".to_owned(),
            Some(Value::String(name)) => name,
            Some(value) => return Err(refuse("model_size", &value, "it must be a text")),
        };
        let built_in = ["70B", "8B", "1B", "150M"].contains(&name.as_str());
        let preset = if built_in { &name } else { "1B" };
        let base = Hparams::preset(preset)
            .map_err(|_| ImportError::Model { name: name.chars().take(80).collect(), missing: "a known model_size" })?;
        // 1B and 150M are files in the reference, so their keys may be restated; the others' are fixed in its code.
        let custom = (!matches!(name.as_str(), "70B" | "8B")).then(|| name.clone());
        let mut set = BTreeSet::from(["version".to_owned(), "name".to_owned()]);
        if built_in {
            set.extend(base.flat().into_keys().filter(|key| key.starts_with("model.") && key != "model.vocab" && key != "model.tied"));
        }
        let mut import = Self { theirs, ours: base.to_value(), set, no_effect: Vec::new(), base, custom };
        if !built_in {
            import.ours["name"] = Value::String(name);
        }
        Ok(import)
    }

    fn put(&mut self, key: &str, value: Value) {
        let pointer = format!("/{}", key.replace('.', "/"));
        if let Some(slot) = self.ours.pointer_mut(&pointer) {
            *slot = value;
            self.set.insert(key.to_owned());
        }
    }

    fn take_as(&mut self, theirs: &str, ours: &str) {
        if let Some(value) = self.theirs.remove(theirs) {
            self.put(ours, value);
        }
    }

    fn drop_key(&mut self, key: &str, why: &str) {
        if self.theirs.remove(key).is_some() {
            self.no_effect.push(NoEffect { key: key.to_owned(), why: why.to_owned() });
        }
    }

    fn take_u64(&mut self, key: &str) -> Result<Option<u64>, ImportError> {
        let Some(value) = self.theirs.remove(key) else { return Ok(None) };
        value.as_u64().filter(|n| *n < 1 << 31).map(Some).ok_or_else(|| refuse(key, &value, "it must be a whole number below 2^31"))
    }

    fn take_model(&mut self) -> Result<(), ImportError> {
        if let Some(value) = self.theirs.remove("tokenizer_name") {
            match VOCABULARIES.iter().find(|(name, _)| value == *name) {
                Some((_, size)) => self.put("model.vocab", json!(size)),
                None => self.no_effect.push(NoEffect {
                    key: "tokenizer_name".into(),
                    why: "its vocabulary is not known here; the data set carries the tokenizer, and model.vocab has to match it".into(),
                }),
            }
        }
        let Some(name) = self.custom.clone() else {
            for key in SIZES.iter().map(|(key, _)| *key).chain(["intermediate_size"]) {
                self.drop_key(key, "the reference fixes the sizes of this model in its code");
            }
            return Ok(());
        };
        let stated = ["1B", "150M"].contains(&name.as_str());
        for (theirs, ours) in SIZES {
            match self.take_u64(theirs)? {
                Some(size) => self.put(ours, json!(size)),
                None if stated => {}
                None => return Err(ImportError::Model { name: name.chars().take(80).collect(), missing: theirs }),
            }
        }
        match self.take_u64("intermediate_size")? {
            Some(declared) => {
                let dim = self.ours["model"]["dim"].as_u64().unwrap_or(0);
                self.put("model.ffn", json!(reference_ffn(dim, declared)));
            }
            None if stated => {}
            None => return Err(ImportError::Model { name: name.chars().take(80).collect(), missing: "intermediate_size" }),
        }
        for key in ["model.rope_theta", "model.norm_eps", "model.rotary"] {
            self.set.insert(key.to_owned());
        }
        Ok(())
    }

    /// Muon's section and its type, when the file has that type. With AdamW the section stays without effect.
    fn take_optimizer(&mut self) -> Result<(), ImportError> {
        let Some(value) = self.theirs.remove("optimizer.type").filter(|value| value != "adamw") else { return Ok(()) };
        if value != "muon" {
            return Err(refuse("optimizer.type", &value, "\"adamw\" and \"muon\" are supported; such a run would train differently"));
        }
        let muon = serde_json::to_value(Muon::default()).map_err(ImportError::Structure)?;
        self.ours["optimizer"]["type"] = value;
        self.ours["optimizer"]["muon"] = muon;
        self.set.insert("optimizer.type".into());
        for key in MUON {
            let key = format!("optimizer.muon.{key}");
            self.take_as(&key, &key);
        }
        self.take_as("weight_decay", "optimizer.muon.adam_weight_decay");
        self.drop_key("optimizer.muon.scheduler.replay_rewind_inner_steps", REPLAY);
        match self.theirs.iter().find(|(key, _)| key.starts_with("optimizer.muon.")) {
            Some((key, value)) => Err(refuse(key, value, "it is not one of Muon's keys; such a run would train differently")),
            None => Ok(()),
        }
    }

    /// Keys whose unit, place or meaning differs.
    fn take_converted(&mut self) -> Result<(), ImportError> {
        self.take_optimizer()?;
        if let Some(seconds) = self.take_u64("time_window_delta_seconds")? {
            self.put("timetable.upload_window_ms", json!(seconds * 1000));
        }
        let (offset, lead) = (self.take_u64("validator_offset")?, self.take_u64("peer_list_window_margin")?);
        if offset.is_some() || lead.is_some() {
            // Null rounds last until the first peer list can take effect (spec miner-and-trainer §14).
            self.put("null_rounds", json!(offset.unwrap_or(1) + lead.unwrap_or(1)));
        }
        if let Some(batches) = self.take_u64("validator_sample_micro_bs")? {
            let micro = self.theirs.get("micro_batch_size").and_then(Value::as_u64).unwrap_or(self.base.micro_batch_size as u64);
            let sequences = json!(batches.saturating_mul(micro.min(1 << 16)));
            self.put("evaluation.own_sequences", sequences.clone());
            self.put("evaluation.random_sequences", sequences);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Imported, ImportError> {
        for key in std::mem::take(&mut self.theirs).into_keys() {
            let why = no_effect_reason(&key);
            self.no_effect.push(NoEffect { key, why });
        }
        self.no_effect.sort_by(|a, b| a.key.cmp(&b.key));
        let hparams: Hparams = serde_json::from_value(self.ours).map_err(ImportError::Structure)?;
        hparams.validate()?;
        let defaulted = hparams.flat().into_keys().filter(|key| !self.set.contains(key)).collect();
        Ok(Imported { hparams, no_effect: self.no_effect, defaulted })
    }
}

fn refuse(key: &str, value: &Value, why: &'static str) -> ImportError {
    ImportError::Value { key: key.to_owned(), value: value.to_string().chars().take(80).collect(), why }
}

fn no_effect_reason(key: &str) -> String {
    let known = NO_EFFECT.iter().find(|(name, _)| if name.ends_with('.') { key.starts_with(name) } else { key == *name });
    match known {
        Some((_, why)) => (*why).to_owned(),
        None if SCORING.contains(&key) => {
            "weights follow from the mean of the gradient score; this rule of the reference is not used".into()
        }
        None => "the key is not one of the reference's".into(),
    }
}

/// Width of the feed-forward layer that the reference really builds for a declared one (spec miner-and-trainer §17.2).
fn reference_ffn(dim: u64, declared: u64) -> u64 {
    let base = dim.saturating_mul(8) / 3;
    if base == 0 {
        return declared;
    }
    let scaled = (declared as f64 / base as f64 * base as f64) as u64;
    scaled.div_ceil(256) * 256
}
