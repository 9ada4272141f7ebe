//! Ranges and relations that hyper-parameters must keep. A run descriptor comes from the network, so every size that
//! a peer could abuse has a bound here; all problems are reported at once.

use super::{AdamW, Hparams, Muon, OptimizerType, Scheduler, VERSION};
use std::fmt;

/// One value that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key.
    pub key: &'static str,
    /// What the value is and what it must be.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.why)
    }
}

/// Hyper-parameters that no node may use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hyper-parameters are not usable: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidHparams {
    /// Every problem found, at least one.
    pub problems: Vec<Problem>,
}

/// Largest number of windows, steps or milliseconds in any field: products of two stay below 2^64.
const COUNT_MAX: u64 = 1 << 31;

#[derive(Default)]
struct Check(Vec<Problem>);

impl Check {
    fn that(&mut self, holds: bool, key: &'static str, why: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Problem { key, why: why() });
        }
    }

    fn size(&mut self, key: &'static str, value: usize, least: usize, most: usize) {
        self.that((least..=most).contains(&value), key, || format!("is {value}; it must be from {least} to {most}"));
    }

    fn count(&mut self, key: &'static str, value: u64, least: u64, most: u64) {
        self.that((least..=most).contains(&value), key, || format!("is {value}; it must be from {least} to {most}"));
    }

    /// NaN lies in no range.
    fn number(&mut self, key: &'static str, value: f64, least: f64, most: f64) {
        self.that((least..=most).contains(&value), key, || format!("is {value}; it must be from {least} to {most}"));
    }

    fn text(&mut self, key: &'static str, value: &str, most: usize) {
        let plain = !value.is_empty() && value.len() <= most && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        self.that(plain, key, || format!("must have 1 to {most} characters, only letters, digits, '-', '_' and '.'"));
    }
}

impl Hparams {
    /// Checks every range and relation.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn validate(&self) -> Result<(), InvalidHparams> {
        let mut check = Check::default();
        check.count("version", self.version.into(), VERSION.into(), VERSION.into());
        check.text("name", &self.name, 64);
        self.check_model(&mut check);
        self.check_batches(&mut check);
        self.check_codec(&mut check);
        check_adamw(&mut check, &self.optimizer.adamw);
        let (kind, muon) = (self.optimizer.kind, &self.optimizer.muon);
        check.that(muon.is_some() == (kind == OptimizerType::Muon), "optimizer.muon", || match kind {
            OptimizerType::Muon => "is missing, and optimizer.type is \"muon\"; {} stands for the shipped values".into(),
            OptimizerType::AdamW => "has no effect; set optimizer.type to \"muon\" or leave it out".into(),
        });
        if let Some(muon) = muon {
            check_muon(&mut check, muon);
        }
        self.check_schedule(&mut check);
        self.check_timetable(&mut check);
        self.check_retention(&mut check);
        self.check_evaluation(&mut check);
        if check.0.is_empty() { Ok(()) } else { Err(InvalidHparams { problems: check.0 }) }
    }

    fn check_model(&self, check: &mut Check) {
        let model = &self.model;
        check.size("model.vocab", model.vocab, 2, 1 << 20);
        check.size("model.dim", model.dim, 2, 1 << 17);
        check.size("model.layers", model.layers, 1, 1024);
        check.size("model.heads", model.heads, 1, 4096);
        check.size("model.kv_heads", model.kv_heads, 1, 4096);
        check.size("model.ffn", model.ffn, 1, 1 << 20);
        check.number("model.rope_theta", model.rope_theta, 1.0, 1e12);
        check.number("model.norm_eps", model.norm_eps, 1e-12, 1e-2);
        let (heads, kv_heads) = (model.heads.max(1), model.kv_heads.max(1));
        check.that(model.dim.is_multiple_of(heads.saturating_mul(2)), "model.heads", || {
            format!("is {heads}; dim {} must split into {heads} heads of an even width", model.dim)
        });
        check.that(heads.is_multiple_of(kv_heads), "model.kv_heads", || format!("is {kv_heads}; it must divide heads {heads}"));
        // A trillion parameters: beyond that no field of the container could count a model's bits.
        let count = model.parameter_count();
        check.that(count <= 1 << 40, "model", || format!("has {count} parameters; at most 2^40 are supported"));
    }

    fn check_batches(&self, check: &mut Check) {
        check.size("sequence_length", self.sequence_length, 2, 1 << 20);
        check.size("batch_size", self.batch_size, 1, 1 << 20);
        check.size("target_batch_size", self.target_batch_size, 1, 1 << 20);
        check.size("micro_batch_size", self.micro_batch_size, 1, 1 << 16);
        check.size("inner_steps", self.inner_steps, 1, 1 << 16);
        let micro = self.micro_batch_size.max(1);
        check.that(self.batch_size.is_multiple_of(micro), "micro_batch_size", || {
            format!("is {micro}; it must divide batch_size {}", self.batch_size)
        });
        check.that(self.batch_size <= self.target_batch_size, "target_batch_size", || {
            format!("is {}; a window's pool must cover batch_size {}", self.target_batch_size, self.batch_size)
        });
        let pool = (self.target_batch_size as u64).saturating_mul(self.inner_steps as u64);
        check.that(pool <= 1 << 28, "target_batch_size", || {
            format!("makes a pool of {pool} sequences with inner_steps {}; at most 2^28", self.inner_steps)
        });
    }

    fn check_codec(&self, check: &mut Check) {
        check.number("outer_learning_rate", self.outer_learning_rate, 1e-9, 100.0);
        check.number("momentum_decay", self.momentum_decay, 0.0, 1.0);
        check.size("topk_compression", self.topk_compression, 2, 4096);
        check.that(self.topk_compression.is_multiple_of(2), "topk_compression", || "must be even".into());
        // Indices within a chunk have 12 bits in the reference's objects.
        check.size("target_chunk", self.target_chunk, 1, 64);
        check.size("quantization_bins", self.quantization_bins, 4, 4);
        check.number("quantization_range", self.quantization_range, 0.1, 100.0);
    }

    fn check_schedule(&self, check: &mut Check) {
        let anneal = &self.anneal_mode;
        check.count("anneal_mode.start_global_step", anneal.start_global_step, 0, COUNT_MAX);
        check.count("anneal_mode.warmup_inner_steps", anneal.warmup_inner_steps, 0, COUNT_MAX);
        check.count("anneal_mode.decay_outer_steps", anneal.decay_outer_steps, 1, COUNT_MAX);
        check.number("anneal_mode.peak_lr_factor", anneal.peak_lr_factor, 0.0, 10.0);
        check.number("anneal_mode.eta_min_factor", anneal.eta_min_factor, 0.0, 10.0);
        check.text("anneal_mode.file_prefix", &anneal.file_prefix, 64);
        check.count("outer_steps_per_shard", self.outer_steps_per_shard, 1, COUNT_MAX);
        check.count("shard_reset_outer_step", self.shard_reset_outer_step.unwrap_or(1), 1, COUNT_MAX);
        check.count("shards", self.shards, 0, 1 << 20);
    }

    fn check_timetable(&self, check: &mut Check) {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        let table = &self.timetable;
        check.count("blocks_per_window", self.blocks_per_window, 2, 1 << 20);
        check.count("timetable.block_ms", table.block_ms, 1, DAY_MS);
        check.count("timetable.margin_ms", table.margin_ms, 0, DAY_MS);
        check.count("timetable.upload_window_ms", table.upload_window_ms, 1, DAY_MS);
        check.count("timetable.gather_ms", table.gather_ms, 1, DAY_MS);
        check.count("timetable.slot_ms", table.slot_ms, 1, DAY_MS);
        check.count("timetable.slots", table.slots.into(), 1, 256);
        // Objects are put from one block after T(w+1) on, so δ has to be longer than a block.
        check.that(table.upload_window_ms > table.block_ms, "timetable.upload_window_ms", || {
            format!("is {}; it must be longer than a block of {} ms", table.upload_window_ms, table.block_ms)
        });
        let succession = table.slot_ms.saturating_mul(u64::from(table.slots.saturating_sub(1)));
        let total = table.margin_ms.saturating_add(table.upload_window_ms).saturating_add(table.gather_ms).saturating_add(succession);
        check.that(total < self.window_ms(), "timetable", || {
            format!("takes {total} ms in all; a window has {} ms, and inner steps must fit in between", self.window_ms())
        });
    }

    fn check_retention(&self, check: &mut Check) {
        check.count("null_rounds", self.null_rounds, 0, 1 << 16);
        check.count("checkpoint_frequency", self.checkpoint_frequency, 1, 1 << 20);
        check.count("retention.objects_windows", self.retention.objects_windows, 2, COUNT_MAX);
        check.count("retention.checkpoints", self.retention.checkpoints, 2, 1 << 16);
        check.count("retention.manifests_windows", self.retention.manifests_windows, 2, COUNT_MAX);
        let catch_up = self.checkpoint_frequency.saturating_mul(2);
        // Whoever starts from the last checkpoint but one follows manifests and accepted objects from there.
        check.count("retention.accepted_windows", self.retention.accepted_windows, catch_up, COUNT_MAX);
        check.that(self.retention.manifests_windows >= self.retention.accepted_windows, "retention.manifests_windows", || {
            format!("is {}; it must be at least accepted_windows {}", self.retention.manifests_windows, self.retention.accepted_windows)
        });
    }

    fn check_evaluation(&self, check: &mut Check) {
        let evaluation = &self.evaluation;
        check.number("evaluation.eval_lr_factor", evaluation.eval_lr_factor, 1e-9, 100.0);
        check.size("evaluation.own_sequences", evaluation.own_sequences, 1, 1 << 16);
        check.size("evaluation.random_sequences", evaluation.random_sequences, 2, 1 << 16);
        check.size("evaluation.held_out_sequences", evaluation.held_out_sequences, 1, 1 << 20);
        check.number("evaluation.binary_score_ma_alpha", evaluation.binary_score_ma_alpha, 1e-9, 1.0);
        check.number("evaluation.openskill_beta", evaluation.openskill_beta, 1e-6, 1e6);
        check.number("evaluation.openskill_tau", evaluation.openskill_tau, 0.0, 1e6);
        check.size("evaluation.score_windows", evaluation.score_windows, 1, 1 << 12);
        check.count("evaluation.windows_per_weights", evaluation.windows_per_weights, 1, 1 << 20);
        check.size("gather_peer_count", self.gather_peer_count, 1, 1 << 16);
        check.size("reserve_peer_count", self.reserve_peer_count, 0, 1 << 16);
        check.size("minimum_peers", self.minimum_peers, 1, self.gather_peer_count.max(1));
    }
}

fn check_adamw(check: &mut Check, adamw: &AdamW) {
    check.number("optimizer.adamw.learning_rate", adamw.learning_rate, 0.0, 10.0);
    check.number("optimizer.adamw.weight_decay", adamw.weight_decay, 0.0, 10.0);
    check.number("optimizer.adamw.betas", adamw.betas[0], 0.0, 0.999_999_9);
    check.number("optimizer.adamw.betas", adamw.betas[1], 0.0, 0.999_999_9);
    check.number("optimizer.adamw.eps", adamw.eps, 1e-20, 1.0);
    check.number("optimizer.adamw.clip_norm", adamw.clip_norm, 1e-9, 1e9);
    let keys = [
        "optimizer.adamw.scheduler.warmup_steps",
        "optimizer.adamw.scheduler.warmup_inner_steps",
        "optimizer.adamw.scheduler.initial_warmup_inner_steps",
        "optimizer.adamw.scheduler.t_max",
        "optimizer.adamw.scheduler.eta_min_factor",
        "optimizer.adamw.scheduler.flatten_start_step",
        "optimizer.adamw.scheduler.flatten_duration",
    ];
    check_scheduler(check, keys, &adamw.scheduler);
}

fn check_muon(check: &mut Check, muon: &Muon) {
    check.number("optimizer.muon.learning_rate", muon.learning_rate, 0.0, 10.0);
    check.number("optimizer.muon.momentum", muon.momentum, 0.0, 0.999_999_9);
    check.number("optimizer.muon.weight_decay", muon.weight_decay, 0.0, 10.0);
    check.number("optimizer.muon.embed_lr_scale", muon.embed_lr_scale, 0.0, 1e3);
    check.number("optimizer.muon.head_lr_scale", muon.head_lr_scale, 0.0, 1e3);
    check.number("optimizer.muon.scalar_lr_scale", muon.scalar_lr_scale, 0.0, 1e3);
    check.number("optimizer.muon.adam_weight_decay", muon.adam_weight_decay, 0.0, 10.0);
    check.number("optimizer.muon.betas", muon.betas[0], 0.0, 0.999_999_9);
    check.number("optimizer.muon.betas", muon.betas[1], 0.0, 0.999_999_9);
    check.number("optimizer.muon.eps", muon.eps, 1e-20, 1.0);
    check.number("optimizer.muon.clip_norm", muon.clip_norm, 1e-9, 1e9);
    let keys = [
        "optimizer.muon.scheduler.warmup_steps",
        "optimizer.muon.scheduler.warmup_inner_steps",
        "optimizer.muon.scheduler.initial_warmup_inner_steps",
        "optimizer.muon.scheduler.t_max",
        "optimizer.muon.scheduler.eta_min_factor",
        "optimizer.muon.scheduler.flatten_start_step",
        "optimizer.muon.scheduler.flatten_duration",
    ];
    check_scheduler(check, keys, &muon.scheduler);
}

/// Checks a course of the learning rate; `keys` names its values in the order of their declaration.
fn check_scheduler(check: &mut Check, keys: [&'static str; 7], scheduler: &Scheduler) {
    let [warmup, restart, initial, t_max, floor, flatten_start, flatten_duration] = keys;
    check.count(warmup, scheduler.warmup_steps, 0, COUNT_MAX);
    check.count(restart, scheduler.warmup_inner_steps, 0, COUNT_MAX);
    check.count(initial, scheduler.initial_warmup_inner_steps, 0, COUNT_MAX);
    check.count(t_max, scheduler.t_max, 1, COUNT_MAX);
    check.number(floor, scheduler.eta_min_factor, 0.0, 1.0);
    check.count(flatten_start, scheduler.flatten_start_step.unwrap_or(0), 0, COUNT_MAX);
    check.count(flatten_duration, scheduler.flatten_duration, 0, COUNT_MAX);
}
