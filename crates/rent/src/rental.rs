//! Starting, finding again and ending, over a ledger and a provider.
//!
//! What always holds: between any two steps the process may die. The ledger says *asked* before the provider is, and *stopping* before it is asked to end; so
//! [`reconcile`] finds what became of both, by the provider's own list. A rental that the list has and no entry explains is told, never touched.

use crate::ledger::{Entry, Ledger, LedgerError, Limits, Stage};
use crate::money::Usd;
use crate::offer::Offer;
use crate::provider::{Provider, ProviderError, Remote, RemoteState, StartRequest};
use serde::Serialize;
use std::collections::BTreeSet;

/// How long after the asking a rental may still appear in the provider's list, ms.
pub const APPEARS_MS: u64 = 15 * 60 * 1000;

/// Why a rental could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum RentalError {
    /// The ledger cannot be used, so nothing more was asked for.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The provider did not do it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It was asked to end, and is still listed.
    #[error("{key} is still listed as {state} after it was asked to end; ask again, or end it at the provider: it may cost until then")]
    StillThere {
        /// The ledger's key.
        key: String,
        /// The provider's state.
        state: RemoteState,
    },
    /// No fresh key could be drawn.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// What is to be rented, and when it is to end by itself.
#[derive(Clone, Debug)]
pub struct Deal {
    /// The machine.
    pub offer: Offer,
    /// Its price for an hour, where it is known.
    pub price_hour: Option<Usd>,
    /// The shortest time that is charged, ms.
    pub charged_ms_min: u64,
    /// When it ends by itself.
    pub limits: Limits,
    /// Whether it is a trial.
    pub trial: bool,
    /// The public key that may log in.
    pub public_key: String,
    /// The container image, where the provider has such; empty for its default.
    pub image: String,
}

/// A fresh key for the ledger.
///
/// # Errors
/// The system gives no random numbers.
pub fn fresh_key() -> Result<String, RentalError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| RentalError::Random(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// Rents what the deal says. The entry is in the ledger before the provider is asked.
///
/// # Errors
/// The provider refuses: the entry says so, and nothing costs. Or it is not clear whether it has rented: then the entry stays *asked*, and
/// [`reconcile`] finds out.
pub async fn start(ledger: &mut Ledger, provider: &dyn Provider, deal: &Deal, key: &str, now_ms: u64) -> Result<Entry, RentalError> {
    // Before the entry: an intention without this list could take a stranger's rental for its own.
    let before = provider.rentals().await?.into_iter().map(|remote| remote.id).collect();
    let mut entry = Entry {
        key: key.to_owned(),
        provider: provider.name().to_owned(),
        offer: deal.offer.clone(),
        price_hour: deal.price_hour.or(deal.offer.price_hour),
        charged_ms_min: deal.charged_ms_min,
        asked_ms: now_ms,
        before,
        stage: Stage::Asked,
        rental: provider.planned_id(&deal.offer.id, key),
        ended_ms: None,
        active_ms: now_ms,
        limits: deal.limits,
        trial: deal.trial,
        note: "asked for; the provider has not answered yet".into(),
    };
    ledger.put(entry.clone())?;
    let request =
        StartRequest { key: key.to_owned(), offer: deal.offer.clone(), public_key: deal.public_key.clone(), image: deal.image.clone() };
    match provider.start(&request).await {
        Ok(id) => {
            (entry.stage, entry.rental, entry.note) = (Stage::Running, Some(id), "rented".into());
            ledger.put(entry.clone())?;
            Ok(entry)
        }
        Err(error @ (ProviderError::Refused { .. } | ProviderError::Unable { .. })) => {
            (entry.stage, entry.ended_ms, entry.note) = (Stage::Refused, Some(now_ms), error.to_string());
            ledger.put(entry)?;
            Err(error.into())
        }
        Err(error) => {
            entry.note = error.to_string();
            ledger.put(entry)?;
            Err(error.into())
        }
    }
}

/// What the provider lists beside the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Live rentals of which the ledger knows nothing.
    pub strangers: Vec<Remote>,
    /// Entries whose stage has changed, by key, with what was found.
    pub changed: Vec<(String, String)>,
}

/// Compares the ledger with the provider's list, and brings the ledger up to date.
///
/// # Errors
/// The provider does not list, or the ledger cannot be written; entries that were brought up to date stay so.
pub async fn reconcile(ledger: &mut Ledger, provider: &dyn Provider, now_ms: u64) -> Result<Survey, RentalError> {
    let remotes = provider.rentals().await?;
    let ours: Vec<Entry> = ledger.entries().iter().filter(|entry| entry.provider == provider.name()).cloned().collect();
    let mut claimed: BTreeSet<String> = ours.iter().filter_map(|entry| entry.rental.clone()).collect();
    let mut survey = Survey::default();
    for entry in ours.into_iter().filter(|entry| entry.stage.is_open()) {
        let Some(next) = compare(&entry, &remotes, &claimed, now_ms) else { continue };
        claimed.extend(next.rental.clone());
        survey.changed.push((next.key.clone(), next.note.clone()));
        ledger.put(next)?;
    }
    // A machine that does not answer is no rental, and an ended one no cost.
    let live = |remote: &Remote| remote.state.is_live() && remote.state != RemoteState::Unknown;
    survey.strangers = remotes.into_iter().filter(|remote| live(remote) && !claimed.contains(&remote.id)).collect();
    Ok(survey)
}

/// The entry as the provider's list makes it; `None` where nothing has changed.
fn compare(entry: &Entry, remotes: &[Remote], claimed: &BTreeSet<String>, now_ms: u64) -> Option<Entry> {
    let same = |remote: &&Remote| entry.rental.as_deref() == Some(remote.id.as_str());
    // Where the provider names rentals itself, one that is new since the asking, on the machine that was asked for, is ours.
    let new = |remote: &&Remote| {
        entry.rental.is_none()
            && remote.offer == entry.offer.id
            && remote.state.is_live()
            && remote.state != RemoteState::Unknown
            && !entry.before.contains(&remote.id)
            && !claimed.contains(&remote.id)
    };
    let found = remotes.iter().find(same).or_else(|| remotes.iter().find(new));
    let silent = remotes.iter().any(|remote| remote.state == RemoteState::Unknown && remote.offer == entry.offer.id);
    let became = |stage: Stage, rental: Option<String>, note: &str| {
        let ended_ms = (!stage.is_open()).then_some(now_ms);
        Some(Entry { stage, rental, ended_ms, note: note.to_owned(), ..entry.clone() })
    };
    match (entry.stage, found) {
        (_, Some(remote)) if !remote.state.is_live() => became(Stage::Ended, Some(remote.id.clone()), "the provider lists it as ended"),
        (Stage::Asked, Some(remote)) => {
            became(Stage::Running, Some(remote.id.clone()), "found in the provider's list after its answer was lost")
        }
        (_, Some(_)) => None,
        (_, None) if silent => None,
        (Stage::Asked, None) if now_ms.saturating_sub(entry.asked_ms) < APPEARS_MS => None,
        (Stage::Asked, None) => became(Stage::Refused, None, "it never appeared in the provider's list: nothing was rented"),
        (_, None) => became(Stage::Ended, entry.rental.clone(), "the provider no longer lists it"),
    }
}

/// Ends a rental, and lists to see that it is gone. One that has ended is no error.
///
/// # Errors
/// The provider does not answer, refuses or lists it still: the entry stays *stopping*, and this may be called again.
pub async fn stop(ledger: &mut Ledger, provider: &dyn Provider, key: &str, why: &str, now_ms: u64) -> Result<Entry, RentalError> {
    let current = |ledger: &Ledger| ledger.entries().iter().find(|entry| entry.key == key).cloned();
    let missing = || LedgerError::NoSuch(key.to_owned(), 0);
    let mut entry = current(ledger).ok_or_else(missing)?;
    if entry.stage == Stage::Asked {
        // Its answer was lost: only the list can tell what there is to end.
        reconcile(ledger, provider, now_ms).await?;
        entry = current(ledger).ok_or_else(missing)?;
    }
    let Some(id) = entry.rental.clone().filter(|_| entry.stage.is_open()) else { return Ok(entry) };
    (entry.stage, entry.note) = (Stage::Stopping, why.to_owned());
    ledger.put(entry.clone())?;
    match provider.stop(&id).await {
        Ok(()) | Err(ProviderError::NoSuchRental { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let listed = provider.rentals().await?.into_iter().find(|remote| remote.id == id);
    match listed.map(|remote| remote.state) {
        // Whoever is being ended is no longer charged for by any provider that is known here; the next list will tell.
        Some(state @ (RemoteState::Running | RemoteState::Starting | RemoteState::Unknown)) => {
            Err(RentalError::StillThere { key: key.to_owned(), state })
        }
        Some(RemoteState::Stopping) => Ok(entry),
        Some(RemoteState::Ended) | None => {
            (entry.stage, entry.ended_ms) = (Stage::Ended, Some(now_ms));
            ledger.put(entry.clone())?;
            Ok(entry)
        }
    }
}

#[cfg(test)]
mod tests;
