//! Where a node stands in the run: the window it is in, the outer steps taken, and θ by its digest.

use crate::decide::Decided;
use serde::{Deserialize, Serialize};
use templar_protocol::{Digest, GlobalStep, Window};

/// A place in the run. θ is the one with which `window` begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The window that comes next, or is under way.
    pub window: Window,
    /// Outer steps applied so far.
    pub global_step: GlobalStep,
    /// Digest of θ.
    pub theta: Digest,
    /// Digest of the last manifest applied.
    pub manifest: Option<Digest>,
}

impl Position {
    /// The position after applying `decided`, which gave the θ with digest `theta`.
    pub fn after(&self, decided: &Decided, theta: Digest) -> Self {
        let stepped = u64::from(!decided.manifest.accepted.is_empty());
        Self {
            window: self.window.next(),
            global_step: GlobalStep(self.global_step.0.saturating_add(stepped)),
            theta,
            manifest: Some(decided.digest),
        }
    }

    /// The position after a window without a manifest.
    pub fn after_void(&self) -> Self {
        Self { window: self.window.next(), ..*self }
    }
}
