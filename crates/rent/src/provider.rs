//! The one interface to those who rent machines out.
//!
//! What an implementation must keep: [`Provider::start`] returns [`ProviderError::Refused`] only when it is certain that nothing was rented, and
//! [`ProviderError::Unclear`] whenever it might have been; [`Provider::rentals`] lists all that is rented, or fails; ending twice is no error.

use crate::offer::{Market, Offer, Wanted};
use crate::ssh::Address;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a provider's rental stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteState {
    /// It is being made.
    Starting,
    /// It runs, and costs.
    Running,
    /// It is being ended.
    Stopping,
    /// It has ended; it may stay listed for a while.
    Ended,
    /// The provider does not answer for it at present.
    Unknown,
}

impl RemoteState {
    /// Whether it may still cost something.
    pub fn is_live(self) -> bool {
        self != Self::Ended
    }
}

impl fmt::Display for RemoteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        })
    }
}

/// A rental as the provider lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remote {
    /// The provider's id of the rental.
    pub id: String,
    /// The offer that was taken.
    pub offer: String,
    /// How it stands.
    pub state: RemoteState,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The ledger's key of the rental: 16 hexadecimal digits, unlike any before.
    pub key: String,
    /// What to rent.
    pub offer: Offer,
    /// The public key, in OpenSSH's form, that may log in.
    pub public_key: String,
    /// The container image, where the provider has such.
    pub image: String,
}

/// Why a provider did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It says no, and nothing has changed.
    #[error("{provider} refuses: {why}")]
    Refused {
        /// Whose.
        provider: &'static str,
        /// What it says.
        why: String,
    },
    /// It is not known whether it was done.
    #[error("whether {provider} has done it is not clear: {why}")]
    Unclear {
        /// Whose.
        provider: &'static str,
        /// What happened.
        why: String,
    },
    /// It has no such rental.
    #[error("{provider} has no rental {id}")]
    NoSuchRental {
        /// Whose.
        provider: &'static str,
        /// Which.
        id: String,
    },
    /// This provider has no such function.
    #[error("{provider} cannot {what}")]
    Unable {
        /// Whose.
        provider: &'static str,
        /// What was asked for.
        what: &'static str,
    },
}

/// Who rents machines out.
// Commands ask a provider one thing after the other, on one thread.
#[async_trait(?Send)]
pub trait Provider {
    /// Its name at the command line and in the ledger.
    fn name(&self) -> &'static str;

    /// The id that a rental of `offer` under the ledger's `key` will have, where the provider lets us name it; without one, a lost answer is found by comparing lists.
    fn planned_id(&self, offer: &str, key: &str) -> Option<String> {
        let _ = (offer, key);
        None
    }

    /// What can be rented now; [`Wanted`] may be used to ask for less, and is applied by the caller again.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    async fn offers(&self, wanted: &Wanted) -> Result<Market, ProviderError>;

    /// Rents a machine, and gives the provider's id of the rental.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] if nothing was rented; [`ProviderError::Unclear`] if that is not known.
    async fn start(&self, request: &StartRequest) -> Result<String, ProviderError>;

    /// All rentals of this account, of whatever origin.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    async fn rentals(&self) -> Result<Vec<Remote>, ProviderError>;

    /// How to log in; `None` while the machine is being made.
    ///
    /// # Errors
    /// There is no such rental, or it has failed, or the provider does not answer.
    async fn address(&self, id: &str) -> Result<Option<Address>, ProviderError>;

    /// Ends a rental; one that has ended or is unknown is no error.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    async fn stop(&self, id: &str) -> Result<(), ProviderError>;

    /// The last `tail` lines that the machine's container printed, where the provider keeps them.
    ///
    /// # Errors
    /// It does not answer, refuses, or keeps none.
    async fn logs(&self, id: &str, tail: u32) -> Result<String, ProviderError>;
}
