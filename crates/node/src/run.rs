//! A run as a node has joined it: the descriptor, what follows from it, and the data.

use crate::miner::machine::MinerRules;
use crate::validator::machine::ValidatorRules;
use bytes::Bytes;
use templar_protocol::Digest;
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::RunDescriptor;

/// The least training time that is worth an object, as a share of the window.
const LEAST_TRAINING_SHARE: u64 = 10;

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Digest of the descriptor; every object and message names it.
    pub id: Digest,
    /// The descriptor.
    pub descriptor: RunDescriptor,
    /// The signed text that it came in.
    pub envelope: Bytes,
}

impl Run {
    /// The hyper-parameters.
    pub fn hparams(&self) -> &Hparams {
        &self.descriptor.hparams
    }

    /// Blocks of a window.
    pub fn blocks_per_window(&self) -> u64 {
        self.hparams().blocks_per_window
    }

    /// Nominal length of a block, in ms.
    pub fn block_ms(&self) -> u64 {
        self.hparams().timetable.block_ms
    }

    /// Length of a window, in ms.
    pub fn window_ms(&self) -> u64 {
        self.hparams().window_ms()
    }

    /// Time between two looks for something that a peer will publish: a fifth of a block, within 20 ms and 2 s.
    pub fn poll_ms(&self) -> u64 {
        (self.block_ms() / 5).clamp(20, 2000)
    }

    /// What the miner's machine must know.
    pub fn miner_rules(&self) -> MinerRules {
        MinerRules {
            timetable: self.hparams().timetable,
            blocks_per_window: self.blocks_per_window(),
            poll_ms: self.poll_ms(),
            least_training_ms: self.window_ms() / LEAST_TRAINING_SHARE,
        }
    }

    /// What the validator's machine must know.
    pub fn validator_rules(&self) -> ValidatorRules {
        ValidatorRules {
            timetable: self.hparams().timetable,
            poll_ms: self.poll_ms(),
            windows_per_weights: self.hparams().evaluation.windows_per_weights,
            checkpoint_frequency: self.hparams().checkpoint_frequency,
        }
    }
}
