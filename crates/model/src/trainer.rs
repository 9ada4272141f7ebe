//! The contract between a node and whatever learns: load θ, take inner steps, measure losses, try a peer's update and
//! take it back, read θ'.
//!
//! What always holds: θ's bits change only through [`Trainer::load`], [`Trainer::inner_step`] and
//! [`Trainer::apply_sparse`]; after [`Trainer::undo_sparse`] every bit is as before the matching `apply_sparse`. An
//! error of a batch, a shape or the order of calls leaves the trainer as it was.

use crate::{Batch, ModelError, Result, SparseUpdate};
use serde::{Deserialize, Serialize};

use templar_protocol::ParamSpec;
use templar_tensor::Array;

/// The numbers of one inner step; they are inputs of the compiled program, so changing them costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InnerHyper {
    /// Learning rate of this step; under Muon that of the matrices that it orthogonalises.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, multiplied by the learning rate; under Muon that of the parameters that Adam trains.
    pub weight_decay: f64,
    /// The gradient's L2 norm over all parameters is scaled down to this.
    pub clip_norm: f64,
    /// What Muon needs besides; without effect under AdamW.
    pub muon: MuonHyper,
}

/// Numbers of an inner step that only Muon reads (§6.6).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MuonHyper {
    /// Decay of the momentum, μ.
    pub momentum: f64,
    /// Decoupled weight decay of the matrices that are orthogonalised.
    pub weight_decay: f64,
    /// Learning rate of the token embedding, as a factor of [`InnerHyper::lr`].
    pub embed_lr_scale: f64,
    /// The same for a head that is called `lm_head`.
    pub head_lr_scale: f64,
    /// The same for everything that is no matrix.
    pub scalar_lr_scale: f64,
}

impl Default for MuonHyper {
    /// The shipped values (§6.6).
    fn default() -> Self {
        Self { momentum: 0.95, weight_decay: 0.01, embed_lr_scale: 0.2, head_lr_scale: 0.2, scalar_lr_scale: 0.2 }
    }
}

impl Default for InnerHyper {
    /// The shipped AdamW values (§6.5) with the reference's base learning rate.
    fn default() -> Self {
        Self { lr: 1.17e-4, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1, clip_norm: 1.0, muon: MuonHyper::default() }
    }
}

impl InnerHyper {
    /// Checks that a step with these numbers is defined.
    ///
    /// # Errors
    /// [`ModelError::Schedule`] names the first number that is not usable.
    pub fn validate(&self) -> Result<()> {
        let (beta1, beta2) = self.betas;
        let checks = [
            ("the learning rate", self.lr, self.lr >= 0.0),
            ("the first beta", beta1, (0.0..1.0).contains(&beta1)),
            ("the second beta", beta2, (0.0..1.0).contains(&beta2)),
            ("epsilon", self.eps, self.eps > 0.0),
            ("the weight decay", self.weight_decay, self.weight_decay >= 0.0),
            ("the clipping norm", self.clip_norm, self.clip_norm > 0.0),
            ("the momentum", self.muon.momentum, (0.0..1.0).contains(&self.muon.momentum)),
            ("the matrices' weight decay", self.muon.weight_decay, self.muon.weight_decay >= 0.0),
            ("the embedding's scale of the learning rate", self.muon.embed_lr_scale, self.muon.embed_lr_scale >= 0.0),
            ("the head's scale of the learning rate", self.muon.head_lr_scale, self.muon.head_lr_scale >= 0.0),
            ("the scalars' scale of the learning rate", self.muon.scalar_lr_scale, self.muon.scalar_lr_scale >= 0.0),
        ];
        match checks.into_iter().find(|(_, value, holds)| !(value.is_finite() && *holds)) {
            Some((name, value, _)) => Err(ModelError::Schedule { reason: format!("{name} is {value}") }),
            None => Ok(()),
        }
    }
}

/// What one inner step saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepStats {
    /// Mean over the counted micro batches of their mean loss, nats per counted target.
    pub loss: f64,
    /// L2 norm of the gradient over all parameters, before clipping.
    pub grad_norm: f64,
    /// Tokens read, counted or not.
    pub tokens: u64,
    /// Targets that counted; 0 means that no step was taken.
    pub targets: u64,
}

/// A step that was handed to the engine.
#[derive(Debug, Default)]
pub struct QueuedStep {
    /// What is known of it already: tokens and targets.
    pub stats: StepStats,
    /// Scalars that add up to the loss.
    pub losses: Vec<Array>,
    /// The gradient's norm before clipping; none when no step was taken.
    pub grad_norm: Option<Array>,
}

/// The loss of one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceLoss {
    /// Sum over the counted targets, nats.
    pub sum: f64,
    /// Counted targets.
    pub tokens: u64,
}

/// State of the inner optimiser; it persists across windows (§6.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Optimiser steps taken so far.
    pub step: u64,
    /// First moments, or Muon's momentum, in the order and lengths of the parameters. Empty together with `v` when all are zero.
    pub m: Vec<Vec<f32>>,
    /// Second moments; one unused element for each matrix that Muon orthogonalises.
    pub v: Vec<Vec<f32>>,
}

/// Something that learns, on any hardware.
pub trait Trainer: Send {
    /// Names and shapes of the parameters, in θ's order.
    fn specs(&self) -> &[ParamSpec];

    /// Takes over `theta`; an update that was being tried is forgotten. Moments stay.
    ///
    /// # Errors
    /// A count or length that is not the model's.
    fn load(&mut self, theta: &[Vec<f32>]) -> Result<()>;

    /// One optimiser step over the mean gradient of the micro batches. A micro batch without a counted target is
    /// skipped (§6.2); if none has one, nothing changes and [`StepStats::targets`] is 0.
    ///
    /// # Errors
    /// A batch that does not fit the model, a hyper-parameter that is not usable, or an update being tried.
    fn inner_step(&mut self, micro_batches: &[Batch], hyper: &InnerHyper) -> Result<StepStats> {
        let queued = self.queue_step(micro_batches, hyper)?;
        self.finish_step(queued)
    }

    /// As [`Trainer::inner_step`], but may return when the step is queued: the engine works on it while the next one is
    /// prepared. Steps are finished in the order in which they were queued.
    ///
    /// # Errors
    /// As [`Trainer::inner_step`]; what the engine reports late comes with [`Trainer::finish_step`].
    fn queue_step(&mut self, micro_batches: &[Batch], hyper: &InnerHyper) -> Result<QueuedStep>;

    /// Waits for a queued step and says what it saw.
    ///
    /// # Errors
    /// The engine failed; θ and moments are then to be loaded again.
    fn finish_step(&mut self, queued: QueuedStep) -> Result<StepStats>;

    /// The loss of each sequence, computed forward in the engine's compute type and summed in f64.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    fn losses(&mut self, batch: &Batch) -> Result<Vec<SequenceLoss>>;

    /// Subtracts a peer's update from θ and remembers the values it overwrites. One update can be tried at a time.
    ///
    /// # Errors
    /// An update that does not fit the model (θ is then as before), or one that is already being tried.
    fn apply_sparse(&mut self, update: &SparseUpdate) -> Result<()>;

    /// Puts back, bit for bit, what the update being tried overwrote.
    ///
    /// # Errors
    /// No update is being tried.
    fn undo_sparse(&mut self) -> Result<()>;

    /// Copies parameter `index` of the current θ into `into`, replacing its content.
    ///
    /// # Errors
    /// An index beyond the parameters.
    fn read(&mut self, index: usize, into: &mut Vec<f32>) -> Result<()>;

    /// A copy of the optimiser's state.
    ///
    /// # Errors
    /// A device that cannot be read.
    fn moments(&mut self) -> Result<Moments>;

    /// Replaces the optimiser's state; [`Moments::default`] makes it all zero.
    ///
    /// # Errors
    /// A count or length that is not the model's and the optimiser's.
    fn load_moments(&mut self, moments: Moments) -> Result<()>;

    /// Brings the optimiser's state to host memory and frees the memory that it takes on devices; returns when both are done.
    /// No bit changes: [`Trainer::moments`] gives the same, and training on is the same, restored before or not. Nothing happens
    /// where the state is on the host already, or all zero; so a trainer without device memory need not implement this.
    ///
    /// # Errors
    /// A device that cannot be read; what was not brought to the host is still on the device, and all of it still in force.
    fn offload_moments(&mut self) -> Result<()> {
        Ok(())
    }

    /// Puts what [`Trainer::offload_moments`] has brought to the host back to where programs run; returns when it is there. Nothing
    /// happens where nothing is to be moved.
    ///
    /// # Errors
    /// A device without room for it; moments are then to be loaded again.
    fn restore_moments(&mut self) -> Result<()> {
        Ok(())
    }
}
