//! Why the chain did not do what it was asked for. The same values come from every implementation of [`Chain`](crate::Chain);
//! names of dispatch errors are the chain's own.

use serde::{Deserialize, Serialize};
use templar_protocol::BlockNumber;

/// The result of everything asked of a chain.
pub type Result<T, E = ChainError> = std::result::Result<T, E>;

/// Why the transaction pool refused a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolCode {
    /// The signature is not the signer's over this call on this chain.
    BadProof,
    /// The nonce was used before.
    Stale,
    /// The nonce leaves a gap.
    Future,
    /// The signer is unknown to the chain, or cannot pay.
    Payment,
    /// The block that its era begins at is no longer known: the transaction was signed too long ago.
    AncientBirthBlock,
    /// The runtime's own reason, by its number (spec chain-and-wallet §B.5).
    Custom(u8),
    /// Another reason of the pool, by the number of its JSON-RPC error, for example 1014: a transaction with this nonce waits already.
    Other(i32),
}

/// What went wrong, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChainError {
    /// The chain could not be reached, or answered nonsense.
    #[error("the chain at {endpoint} did not answer: {why}{}", if *.retryable { "; try again" } else { "; check that the endpoint is the chain you mean" })]
    Transport {
        /// Where it was asked.
        endpoint: String,
        /// What happened.
        why: String,
        /// Whether trying again can help.
        retryable: bool,
    },
    /// The endpoint serves another chain than the one that is meant. Nothing was sent to it.
    #[error(
        "the chain at {endpoint} has the genesis hash {found} and not {expected}: it is another network; name the right endpoint or network"
    )]
    WrongNetwork {
        /// Where it was asked.
        endpoint: String,
        /// The genesis hash that is meant, 64 hexadecimal digits.
        expected: String,
        /// The genesis hash found.
        found: String,
    },
    /// The pool refused the transaction; it left no trace.
    #[error("the chain refused the transaction before running it ({code:?}): {meaning}")]
    PoolRejected {
        /// The reason.
        code: PoolCode,
        /// The reason in words.
        meaning: String,
    },
    /// The runtime refused the call. `error` is the chain's own name for the reason.
    #[error("the chain refused the call: {pallet}::{error}: {meaning}")]
    Dispatch {
        /// The pallet, for example `SubtensorModule`.
        pallet: String,
        /// The error's name, for example `SettingWeightsTooFast`.
        error: String,
        /// The reason in words.
        meaning: String,
    },
    /// The state of that block is no longer kept.
    #[error("the chain no longer keeps block {block}: ask for a newer block, or an archive node")]
    StatePruned {
        /// The block asked for.
        block: BlockNumber,
    },
    /// There is no such thing on the chain.
    #[error("the chain has no {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The transaction was sent and nothing was heard of it.
    #[error("nothing was heard of transaction {tx} within {waited_ms} ms: look for its effect before you send it again")]
    TimedOut {
        /// Hash of the transaction.
        tx: String,
        /// How long was waited, milliseconds.
        waited_ms: u64,
    },
    /// The price is above the stated limit.
    #[error("registration costs {cost} rao, above the limit of {limit} rao: raise the limit or wait until the price falls")]
    TooExpensive {
        /// The price, rao.
        cost: u64,
        /// The limit, rao.
        limit: u64,
    },
    /// This chain cannot do that.
    #[error("this chain does not support {what}")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The chain's own files failed; it stops rather than forget.
    #[error("the chain's files in {path} failed: {why}")]
    Store {
        /// The file or directory.
        path: String,
        /// What happened and what to do.
        why: String,
    },
}

impl ChainError {
    /// Whether trying the same again can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Transport { retryable: true, .. } | Self::TimedOut { .. })
    }

    /// The chain's own name of a dispatch error.
    pub fn dispatch_name(&self) -> Option<&str> {
        match self {
            Self::Dispatch { error, .. } => Some(error),
            _ => None,
        }
    }

    pub(crate) fn dispatch(error: &'static str, meaning: impl Into<String>) -> Self {
        Self::Dispatch { pallet: "SubtensorModule".into(), error: error.into(), meaning: meaning.into() }
    }

    pub(crate) fn pool(code: PoolCode, meaning: impl Into<String>) -> Self {
        Self::PoolRejected { code, meaning: meaning.into() }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    pub(crate) fn store(path: &std::path::Path, why: impl std::fmt::Display) -> Self {
        Self::Store { path: path.display().to_string(), why: why.to_string() }
    }
}
