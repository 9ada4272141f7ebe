//! From the hyper-parameters of a run to what the crates below want: the model's sizes, the codec's settings, the schedule.
//!
//! The one place that translates, so that two roles cannot read the same number differently.

use templar_codec::CodecConfig;
use templar_model::schedule::{Anneal, Cosine, Flatten};
use templar_model::{InnerHyper, LlamaConfig, ModelError, MuonHyper, MuonScale, Optimizer, Rotary, Schedule};
use templar_protocol::hparams::{self, Hparams};
use templar_protocol::rotation::RotationRules;
use templar_protocol::sampler::{Assignment, SamplerError};
use templar_protocol::{GlobalStep, Uid, Window};

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

/// The samples assigned to `uid` in `window` over a shard of `n_samples`.
///
/// # Errors
/// The shard is too small for the run.
pub fn assignment(hparams: &Hparams, uid: Uid, window: Window, n_samples: u64) -> Result<Assignment, SamplerError> {
    let [steps, target, batch] =
        [hparams.inner_steps, hparams.target_batch_size, hparams.batch_size].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    Assignment::new(uid, window, n_samples, steps, target, batch)
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
    let (base_lr, scheduler) = hparams.optimizer.course();
    let inner_steps = hparams.inner_steps as u64;
    let anneal = &hparams.anneal_mode;
    if anneal.enabled {
        return Schedule::Anneal(Anneal {
            base_lr,
            start_global_step: anneal.start_global_step,
            warmup_ticks: anneal.warmup_inner_steps,
            decay_ticks: anneal.decay_outer_steps.saturating_mul(inner_steps),
            peak_factor: anneal.peak_lr_factor,
            floor_factor: anneal.eta_min_factor,
        });
    }
    Schedule::Cosine(Cosine {
        base_lr,
        warmup_ticks: scheduler.warmup_steps,
        t_max_ticks: scheduler.t_max,
        floor_factor: scheduler.eta_min_factor,
        flatten: scheduler.flatten_start_step.map(|start| Flatten {
            start_ticks: start.saturating_mul(inner_steps),
            duration_ticks: scheduler.flatten_duration.saturating_mul(inner_steps),
        }),
    })
}

/// The inner optimiser of a run.
pub fn optimizer(hparams: &Hparams) -> Optimizer {
    match hparams.optimizer.muon().map(|muon| muon.scale) {
        None => Optimizer::AdamW,
        Some(hparams::MuonScale::Sharded) => Optimizer::Muon(MuonScale::Sharded),
        Some(hparams::MuonScale::SingleDevice) => Optimizer::Muon(MuonScale::SingleDevice),
    }
}

/// The numbers of inner step `step` after `global_step` outer steps. The rate depends on nothing else, so that a restart keeps it.
pub fn inner_hyper(hparams: &Hparams, schedule: &Schedule, global_step: GlobalStep, step: u32) -> InnerHyper {
    let ticks = schedule.ticks_at(global_step.0, hparams.inner_steps as u64).saturating_add(u64::from(step));
    let lr = schedule.lr(ticks);
    let adamw = &hparams.optimizer.adamw;
    match hparams.optimizer.muon() {
        None => InnerHyper {
            lr,
            betas: adamw.betas.into(),
            eps: adamw.eps,
            weight_decay: adamw.weight_decay,
            clip_norm: adamw.clip_norm,
            muon: MuonHyper::default(),
        },
        Some(muon) => InnerHyper {
            lr,
            betas: muon.betas.into(),
            eps: muon.eps,
            weight_decay: muon.adam_weight_decay,
            clip_norm: muon.clip_norm,
            muon: MuonHyper {
                momentum: muon.momentum,
                weight_decay: muon.weight_decay,
                embed_lr_scale: muon.embed_lr_scale,
                head_lr_scale: muon.head_lr_scale,
                scalar_lr_scale: muon.scalar_lr_scale,
            },
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn muon_has_its_own_rate_course_and_decay() {
        let mut hparams = Hparams::preset("local").unwrap();
        assert_eq!(optimizer(&hparams), Optimizer::AdamW);
        let adamw = inner_hyper(&hparams, &schedule(&hparams), GlobalStep(1), 0);
        assert_eq!((adamw.lr, adamw.weight_decay), (2e-3, 0.1), "ten inner steps are the warm-up");
        hparams.optimizer.kind = hparams::OptimizerType::Muon;
        let mut muon = hparams::Muon { learning_rate: 0.01, momentum: 0.9, adam_weight_decay: 0.2, ..hparams::Muon::default() };
        muon.scheduler.warmup_steps = 20;
        hparams.optimizer.muon = Some(muon);
        hparams.validate().unwrap();
        assert_eq!(optimizer(&hparams), Optimizer::Muon(MuonScale::Sharded));
        let hyper = |outer| inner_hyper(&hparams, &schedule(&hparams), GlobalStep(outer), 0);
        assert!((hyper(1).lr - 0.005).abs() < 1e-6, "half of the warm-up: {}", hyper(1).lr);
        assert!((hyper(2).lr - 0.01).abs() < 1e-12, "its end: {}", hyper(2).lr);
        assert_eq!((hyper(2).weight_decay, hyper(2).muon.momentum), (0.2, 0.9));
        assert_eq!(hyper(2).muon.weight_decay, 0.01);
    }

    #[test]
    fn the_models_part_of_the_hyper_parameters_comes_back() {
        for name in Hparams::preset_names() {
            let hparams = Hparams::preset(&name).unwrap();
            assert_eq!(model_params(&llama(&hparams, None).unwrap()), hparams.model, "{name}");
        }
    }
}
