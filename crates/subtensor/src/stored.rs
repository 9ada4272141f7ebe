//! Values as a node stores them, read without a node: what a hostile node can make the client read, and what tools have at hand.

use crate::{runtime::Runtime, values::StoredCommitment};
use std::sync::Arc;
use templar_chain::{BlockHash, Commitment, Result};

/// Reads stored values by a runtime's metadata.
#[derive(Debug)]
pub struct StoredValues {
    runtime: Arc<Runtime>,
}

impl StoredValues {
    /// By this metadata, of format 14 to 16 with the magic bytes before it.
    ///
    /// # Errors
    /// `Transport` when the metadata cannot be read or contradicts itself.
    pub fn new(genesis: &BlockHash, metadata: &[u8]) -> Result<Self> {
        Ok(Self { runtime: Runtime::new(genesis, "node-subtensor", (0, 0), metadata)? })
    }

    /// What `Commitments.CommitmentOf` holds; `None` where its first field is not of raw bytes.
    ///
    /// # Errors
    /// `Transport` when the bytes are no such value.
    pub fn commitment(&self, bytes: &[u8]) -> Result<Option<Commitment>> {
        Ok(self.runtime.value::<StoredCommitment>("Commitments", "CommitmentOf", bytes)?.into_commitment())
    }
}
