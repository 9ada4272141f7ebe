//! From the hyper-parameters of a run to what the crates below want: the model's sizes, the codec's settings, the schedule.
//!
//! The one place that translates, so that two roles cannot read the same number differently.

use templar_codec::CodecConfig;
use templar_model::schedule::{Anneal, Cosine, Flatten};
use templar_model::{InnerHyper, LlamaConfig, ModelError, Rotary, Schedule};
use templar_protocol::GlobalStep;
use templar_protocol::hparams::{self, Hparams};
use templar_protocol::rotation::RotationRules;

/// The shard that the anneal phase reads (spec wire-protocol §8.6).
const ANNEAL_SHARD: u32 = 5;

/// The model of a run. `eos` is the token that ends a document: as a target it does not count (spec miner-and-trainer §6.2).
///
/// # Errors
/// Sizes that no Llama can have.
pub fn llama(hparams: &Hparams, eos: Option<u32>) -> Result<LlamaConfig, ModelError> {
    let model = &hparams.model;
    let config = LlamaConfig {
        vocab: model.vocab,
        dim: model.dim,
        layers: model.layers,
        heads: model.heads,
        kv_heads: model.kv_heads,
        ffn: model.ffn,
        rope_theta: model.rope_theta,
        norm_eps: model.norm_eps,
        rotary: match model.rotary {
            hparams::Rotary::HalfSplit => Rotary::HalfSplit,
            hparams::Rotary::Interleaved => Rotary::Interleaved,
        },
        tied: model.tied,
        seq_len: hparams.sequence_length,
        masked_target: eos,
    };
    config.validate()?;
    Ok(config)
}

/// The model's part of the hyper-parameters for a model of `config`: the inverse of [`llama`], which gets the sequence length
/// and the masked target from elsewhere.
pub fn model_params(config: &LlamaConfig) -> hparams::ModelParams {
    hparams::ModelParams {
        vocab: config.vocab,
        dim: config.dim,
        layers: config.layers,
        heads: config.heads,
        kv_heads: config.kv_heads,
        ffn: config.ffn,
        rope_theta: config.rope_theta,
        norm_eps: config.norm_eps,
        rotary: match config.rotary {
            Rotary::HalfSplit => hparams::Rotary::HalfSplit,
            Rotary::Interleaved => hparams::Rotary::Interleaved,
        },
        tied: config.tied,
    }
}

/// The codec's settings of a run.
pub fn codec(hparams: &Hparams) -> CodecConfig {
    CodecConfig {
        target_chunk: hparams.target_chunk,
        topk: hparams.topk_compression,
        use_dct: hparams.use_dct,
        bins: hparams.quantization_bins,
        range: hparams.quantization_range as f32,
    }
}

/// The course of the inner learning rate (spec miner-and-trainer §7).
pub fn schedule(hparams: &Hparams) -> Schedule {
    let adamw = &hparams.optimizer.adamw;
    let inner_steps = hparams.inner_steps as u64;
    let anneal = &hparams.anneal_mode;
    if anneal.enabled {
        return Schedule::Anneal(Anneal {
            base_lr: adamw.learning_rate,
            start_global_step: anneal.start_global_step,
            warmup_ticks: anneal.warmup_inner_steps,
            decay_ticks: anneal.decay_outer_steps.saturating_mul(inner_steps),
            peak_factor: anneal.peak_lr_factor,
            floor_factor: anneal.eta_min_factor,
        });
    }
    let scheduler = &adamw.scheduler;
    Schedule::Cosine(Cosine {
        base_lr: adamw.learning_rate,
        warmup_ticks: scheduler.warmup_steps,
        t_max_ticks: scheduler.t_max,
        floor_factor: scheduler.eta_min_factor,
        flatten: scheduler.flatten_start_step.map(|start| Flatten {
            start_ticks: start.saturating_mul(inner_steps),
            duration_ticks: scheduler.flatten_duration.saturating_mul(inner_steps),
        }),
    })
}

/// The numbers of inner step `step` after `global_step` outer steps. The rate depends on nothing else, so that a restart keeps it.
pub fn inner_hyper(hparams: &Hparams, schedule: &Schedule, global_step: GlobalStep, step: u32) -> InnerHyper {
    let adamw = &hparams.optimizer.adamw;
    let ticks = schedule.ticks_at(global_step.0, hparams.inner_steps as u64).saturating_add(u64::from(step));
    InnerHyper {
        lr: schedule.lr(ticks),
        betas: (adamw.betas[0], adamw.betas[1]),
        eps: adamw.eps,
        weight_decay: adamw.weight_decay,
        clip_norm: adamw.clip_norm,
    }
}

/// Which shard is read when; a data set of `shards_listed` shards.
pub fn rotation(hparams: &Hparams, shards_listed: u32) -> RotationRules {
    let n_shards = if hparams.shards == 0 { shards_listed } else { u32::try_from(hparams.shards).unwrap_or(u32::MAX) };
    let mut rules = RotationRules::cycle(n_shards, i64::try_from(hparams.outer_steps_per_shard).unwrap_or(i64::MAX));
    rules.shard_reset_outer_step = hparams.shard_reset_outer_step.and_then(|step| i64::try_from(step).ok());
    if hparams.anneal_mode.enabled {
        rules.pinned = Some(ANNEAL_SHARD.min(shards_listed.saturating_sub(1)));
    }
    rules
}
