//! Block headers in the layout of a Substrate chain, so that any client computes the hash that the chain computes.

use crate::types::{BlockHash, BlockRef};
use blake2::{Blake2b, Digest as _, digest::consts::U32};
use parity_scale_codec::{Compact, Encode as _};
use serde::{Deserialize, Serialize};
use templar_protocol::BlockNumber;

/// The header of a closed block. Its hash is BLAKE2-256 over [`Header::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Number, hash and time of the block.
    pub block: BlockRef,
    /// Hash of the block before; zero for block 0.
    pub parent: BlockHash,
    /// Digest of the state after the block.
    pub state_root: BlockHash,
    /// Digest of the transactions in the block.
    pub extrinsics_root: BlockHash,
}

impl Header {
    /// The header of block `number`, at `time_ms`, with its hash.
    pub(crate) fn new(parent: BlockHash, number: u64, time_ms: u64, state: &[u8; 32], extrinsics_root: BlockHash) -> Self {
        let state_root = BlockHash(*state);
        let block = BlockRef { number: BlockNumber(number), hash: BlockHash::default(), time_ms };
        let mut header = Self { block, parent, state_root, extrinsics_root };
        header.block.hash = blake2_256(&header.encode());
        header
    }

    /// The SCALE form: parent, compact number, state root, extrinsics root, and an empty list of digest items.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * 32 + 10);
        out.extend(self.parent.0);
        Compact(self.block.number.0).encode_to(&mut out);
        out.extend(self.state_root.0);
        out.extend(self.extrinsics_root.0);
        out.push(0);
        out
    }
}

/// BLAKE2 with 32 bytes of output, the hash of blocks and transactions.
pub fn blake2_256(bytes: &[u8]) -> BlockHash {
    BlockHash(Blake2b::<U32>::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_its_block_apart() {
        let header = |number, time_ms| Header::new(BlockHash([1; 32]), number, time_ms, &[2; 32], BlockHash([3; 32]));
        let base = header(5, 100);
        assert_eq!(base.block.hash, blake2_256(&base.encode()));
        assert_eq!(base.encode().len(), 98);
        assert_ne!(base.block.hash, header(6, 100).block.hash);
        assert_ne!(base.block.hash, Header::new(BlockHash([1; 32]), 5, 100, &[4; 32], BlockHash([3; 32])).block.hash);
    }
}
