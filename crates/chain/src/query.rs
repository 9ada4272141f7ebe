//! What is asked of a served chain and what it answers, as JSON.

use crate::{
    chain::Chain as _,
    dev::DevChain,
    error::{ChainError, Result},
    types::At,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use templar_protocol::{AccountId, Netuid};

/// One question; each is a read of the [`Chain`](crate::Chain) trait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of the trait's methods")]
pub enum Query {
    /// Which chain it is.
    Info,
    /// A closed block.
    Head { at: At },
    /// All neurons.
    Metagraph { netuid: Netuid, at: At },
    /// The rules.
    Rules { netuid: Netuid },
    /// The epochs.
    Schedule { netuid: Netuid },
    /// A hotkey's slot.
    UidOf { netuid: Netuid, hotkey: AccountId },
    /// A hotkey's commitment.
    Commitment { netuid: Netuid, hotkey: AccountId },
    /// All commitments.
    Commitments { netuid: Netuid, at: At },
    /// All weights.
    Weights { netuid: Netuid, at: At },
    /// Free balance.
    Balance { who: AccountId },
    /// The nonce of the next call.
    Nonce { who: AccountId },
    /// Alpha of a coldkey on a hotkey.
    Stake { hotkey: AccountId, coldkey: AccountId, netuid: Netuid },
    /// Price of a registration.
    Price { netuid: Netuid },
}

/// The answer to a question or a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Refused(ChainError),
}

impl Reply {
    /// The reply that tells `result`.
    pub fn of<T: Serialize>(result: Result<T>) -> Self {
        match result.and_then(value) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Refused(error),
        }
    }
}

fn value<T: Serialize>(answer: T) -> Result<Value> {
    serde_json::to_value(answer).map_err(|e| ChainError::Unsupported { what: format!("this answer: {e}") })
}

/// Answers `query` from `chain`.
///
/// # Errors
/// Those of the method asked for.
pub async fn answer(chain: &DevChain, query: Query) -> Result<Value> {
    match query {
        Query::Info => value(chain.info().await?),
        Query::Head { at } => value(chain.head(at).await?),
        Query::Metagraph { netuid, at } => value(chain.metagraph(netuid, at).await?),
        Query::Rules { netuid } => value(chain.subnet_rules(netuid).await?),
        Query::Schedule { netuid } => value(chain.epoch_schedule(netuid).await?),
        Query::UidOf { netuid, hotkey } => value(chain.uid_of(netuid, &hotkey).await?),
        Query::Commitment { netuid, hotkey } => value(chain.commitment(netuid, &hotkey).await?),
        Query::Commitments { netuid, at } => value(chain.commitments(netuid, at).await?),
        Query::Weights { netuid, at } => value(chain.weights(netuid, at).await?),
        Query::Balance { who } => value(chain.balance(&who).await?),
        Query::Nonce { who } => value(chain.engine().next_nonce(&who)),
        Query::Stake { hotkey, coldkey, netuid } => value(chain.stake(&hotkey, &coldkey, netuid).await?),
        Query::Price { netuid } => value(chain.registration_cost(netuid).await?),
    }
}
