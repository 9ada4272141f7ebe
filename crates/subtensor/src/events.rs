//! What happens between a node and its chain, for those who want to know.

use std::time::Duration;
use templar_chain::BlockHash;
use templar_protocol::BlockNumber;

/// One thing that happened. None of them needs an answer: the client has dealt with it already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainEvent {
    /// An endpoint answers and serves the right chain.
    Connected {
        /// The endpoint.
        endpoint: String,
    },
    /// An endpoint is asked no more for a while.
    Disconnected {
        /// The endpoint.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// No new block came for a while.
    Stalled {
        /// Where.
        endpoint: String,
        /// The newest block that is known.
        head: BlockNumber,
        /// For how long none came.
        waited: Duration,
    },
    /// Blocks that were best are no longer: another branch took their place.
    Reorganised {
        /// The first block that is another one now.
        from: BlockNumber,
        /// What it was.
        old: BlockHash,
        /// What it is.
        new: BlockHash,
        /// How many blocks were replaced.
        depth: u64,
    },
}
