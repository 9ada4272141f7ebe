//! Who is gathered, and who stands in for whom (spec validator §1.9).
//!
//! One record for each peer, so that nobody's object can push another's out: in the reference, one malformed quantiser record loses all
//! peers of a larger uid. Who is given up is skipped, with the fault as a sentence.

use std::collections::{BTreeMap, BTreeSet};
use templar_protocol::Uid;

/// How an upload time lies to the window's interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Before it.
    TooEarly,
    /// Within it, both ends included.
    InTime,
    /// After it.
    TooLate,
}

impl Timing {
    /// Compares an upload time with the interval of `seconds` after `opens`; all in seconds since the epoch.
    pub fn of(uploaded: f64, opens: f64, seconds: f64) -> Self {
        match uploaded {
            t if t < opens => Self::TooEarly,
            t if t > opens + seconds => Self::TooLate,
            _ => Self::InTime,
        }
    }
}

/// Which list a peer was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The gather list.
    Gather,
    /// The reserve list.
    Reserve,
}

/// The outcome of a gather that yielded something.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherResult<T> {
    /// What was gathered: gather peers ascending by uid, then reserve peers likewise.
    pub accepted: Vec<(Uid, T)>,
    /// Who was given up, in the order in which they enter the match, each with the sentence that explains it.
    pub skipped: Vec<(Uid, String)>,
    /// Gathered peers over the length of the gather list.
    pub success_rate: f64,
}

impl<T> GatherResult<T> {
    /// The gathered uids, in order.
    pub fn uids(&self) -> Vec<Uid> {
        self.accepted.iter().map(|entry| entry.0).collect()
    }

    /// The skipped uids, in order.
    pub fn skipped_uids(&self) -> Vec<Uid> {
        self.skipped.iter().map(|entry| entry.0).collect()
    }
}

/// Gathers the peers of `list`, and as many of `reserve`, in its order, as are missing. `take` fetches and checks one peer's object, or
/// says why not. None when nothing at all was gathered: then the window is abandoned.
///
/// As in the reference, when the gather list yields nothing all of it is skipped in its own order; and a reserve peer that fails is
/// skipped only if another one does not.
pub fn gather_with_reserve<T>(
    list: &[Uid],
    reserve: &[Uid],
    mut take: impl FnMut(Uid, Role) -> Result<T, String>,
) -> Option<GatherResult<T>> {
    let mut accepted = Vec::new();
    let mut skipped = Vec::new();
    for uid in list.iter().copied().collect::<BTreeSet<_>>() {
        match take(uid, Role::Gather) {
            Ok(object) => accepted.push((uid, object)),
            Err(why) => skipped.push((uid, why)),
        }
    }
    if accepted.is_empty() {
        let mut why: BTreeMap<Uid, String> = skipped.drain(..).collect();
        skipped.extend(list.iter().filter_map(|uid| why.remove(uid).map(|why| (*uid, why))));
    }
    let gathered: BTreeSet<Uid> = accepted.iter().map(|entry| entry.0).collect();
    let substitutes: BTreeSet<Uid> = reserve.iter().copied().filter(|uid| !gathered.contains(uid)).take(skipped.len()).collect();
    let mut failed = Vec::new();
    let primary = accepted.len();
    for uid in substitutes {
        match take(uid, Role::Reserve) {
            Ok(object) => accepted.push((uid, object)),
            Err(why) => failed.push((uid, why)),
        }
    }
    if accepted.len() > primary {
        skipped.retain(|entry| !accepted[primary..].iter().any(|taken| taken.0 == entry.0));
        skipped.extend(failed.into_iter().filter(|(uid, _)| !list.contains(uid)));
    }
    let success_rate = accepted.len() as f64 / list.len().max(1) as f64;
    (!accepted.is_empty()).then_some(GatherResult { accepted, skipped, success_rate })
}
