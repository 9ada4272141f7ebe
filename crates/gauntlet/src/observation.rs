//! What one validator knows of one window, and all that the rules may look at.
//!
//! Nothing else enters a score: no clock, no network, no memory but the scorer's own. So whoever has the observation and the state before
//! it can compute the same scores ([`crate::sheet::recompute`]).

use crate::Losses;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use templar_protocol::{AccountId, Digest, Uid, Window};

/// Most members of a subnet that an observation may have.
pub const MEMBERS_MAX: usize = 4096;
/// Most pairs of alike objects that an observation lists: every pair of 256 objects of a window, and some more.
pub const ALIKE_MAX: usize = 36_864;

/// What became of a member's object in a window. Only [`Fate::Refused`] can be a fault of the member's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fate {
    /// The window's manifest lists it and it opens: it was applied to θ.
    Accepted {
        /// blake3 of the sealed object.
        object: Digest,
    },
    /// It was there, checked by this validator, and found right, but the manifest that decided leaves it out.
    Omitted {
        /// blake3 of the sealed object.
        object: Digest,
        /// What the manifest says about it.
        why: String,
    },
    /// It was seen and does not count.
    Refused {
        /// A stable kind, as in manifests: `late`, `malformed`, `not-as-committed`…
        kind: String,
        /// A sentence for people.
        reason: String,
    },
    /// Its bucket answered, and there was no commit.
    Absent,
    /// Whether there was anything cannot be said: its bucket did not answer.
    Unreachable {
        /// What the network said.
        why: String,
    },
}

impl Fate {
    /// A stable word for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Omitted { .. } => "omitted",
            Self::Refused { kind, .. } => kind,
            Self::Absent => "absent",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// A miner that was registered at the window's end, and what became of its object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// What became of its object.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What was measured of one miner in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey, as sealed in its object.
    pub hotkey: AccountId,
    /// Losses on the window's random sequences, the same for all miners of the window.
    pub random: Losses,
    /// Losses on sequences of the trained part of the miner's own assignment.
    pub own: Losses,
}

/// Two objects that resemble each other beyond what the members of their windows have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likeness {
    /// The miner whose object of this window it is.
    pub uid: Uid,
    /// The miner of the other object.
    pub other: Uid,
    /// The other miner's hotkey.
    pub other_hotkey: AccountId,
    /// The window of the other object: this one, or an earlier one.
    pub other_window: Window,
    /// Cosine of the two updates without what is common to their windows, from −1 to 1; 1 for copies, also rescaled ones, and near 0 for
    /// independent work.
    pub cosine: f64,
    /// Plain cosine of the two updates.
    pub plain: f64,
}

/// How alike independent objects of this window are, from all its pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// Pairs compared.
    pub pairs: u64,
    /// Median of their cosines.
    pub median: f64,
    /// Standard deviation that the median distance from the median stands for: 1.4826 · median |cosine − median|.
    pub deviation: f64,
}

/// How much an object agrees with the others of its window, without any run of the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// The miner.
    pub uid: Uid,
    /// Plain cosine of its update with the sum of all others'.
    pub cosine: f64,
}

/// Which objects resemble which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// Pairs within the window.
    pub within: Background,
    /// Pairs with objects of earlier windows.
    pub across: Background,
    /// The pairs that are more alike than the reporting floor, the most alike first; at most [`ALIKE_MAX`].
    pub alike: Vec<Likeness>,
    /// How each object agrees with the others, by rising uid.
    pub agreements: Vec<Agreement>,
    /// Miners whose objects change nothing at all, by rising uid.
    pub empty: Vec<Uid>,
}

/// Everything that one validator knows of one window and all that the rules may look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The window.
    pub window: Window,
    /// The miners registered at the window's end, by rising uid.
    pub members: Vec<Member>,
    /// Of these, by rising uid, whose accepted objects this validator had read no commit of before anything was revealed: only they can have
    /// seen another's object of the window.
    pub uncommitted: Vec<Uid>,
    /// What was measured, in the order of evaluation.
    pub measurements: Vec<Measurement>,
    /// Which objects resemble which.
    pub survey: Survey,
}

/// Why an observation is not one. None of these is a miner's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObservationError {
    /// Members do not rise by uid, or there are too many.
    #[error("the members of an observation must rise by uid and be at most {MEMBERS_MAX}")]
    Members,
    /// A hotkey stands behind two uids.
    #[error("hotkey {hotkey} has two uids in one observation")]
    Hotkey {
        /// The hotkey.
        hotkey: AccountId,
    },
    /// A uid was measured twice.
    #[error("uid {uid} was measured twice in one window")]
    Twice {
        /// The uid.
        uid: Uid,
    },
    /// Something is said of a uid whose object was not accepted.
    #[error("uid {uid} is {what}, but no object of it was accepted in window {window}")]
    NotAccepted {
        /// The uid.
        uid: Uid,
        /// What is said of it.
        what: &'static str,
        /// The window.
        window: Window,
    },
    /// A number is not finite, or there are too many pairs.
    #[error("the likenesses of window {window} are not finite numbers, name a later window, or are more than {ALIKE_MAX}")]
    Likeness {
        /// The window.
        window: Window,
    },
}

impl Observation {
    /// The member with `uid`.
    pub fn member(&self, uid: Uid) -> Option<&Member> {
        self.members.binary_search_by_key(&uid, |member| member.uid).ok().map(|at| &self.members[at])
    }

    /// The members whose objects were applied.
    pub fn accepted(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| matches!(member.fate, Fate::Accepted { .. }))
    }

    /// Whether the observation is well formed.
    ///
    /// # Errors
    /// It is not; whoever made it has a defect.
    pub fn check(&self) -> Result<(), ObservationError> {
        let window = self.window;
        if self.members.len() > MEMBERS_MAX || !self.members.windows(2).all(|pair| pair[0].uid < pair[1].uid) {
            return Err(ObservationError::Members);
        }
        let mut hotkeys = BTreeSet::new();
        if let Some(member) = self.members.iter().find(|member| !hotkeys.insert(member.hotkey)) {
            return Err(ObservationError::Hotkey { hotkey: member.hotkey });
        }
        let accepted: BTreeSet<Uid> = self.accepted().map(|member| member.uid).collect();
        let rising = self.uncommitted.len() <= MEMBERS_MAX && self.uncommitted.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising {
            return Err(ObservationError::Members);
        }
        let mut measured = BTreeSet::new();
        for measurement in &self.measurements {
            let uid = measurement.uid;
            if !measured.insert(uid) {
                return Err(ObservationError::Twice { uid });
            }
            let sealed = self.member(uid).is_some_and(|member| member.hotkey == measurement.hotkey);
            if !sealed || !accepted.contains(&uid) {
                return Err(ObservationError::NotAccepted { uid, what: "measured", window });
            }
        }
        self.check_survey(&accepted)
    }

    fn check_survey(&self, accepted: &BTreeSet<Uid>) -> Result<(), ObservationError> {
        let (window, survey) = (self.window, &self.survey);
        let finite = |numbers: &[f64]| numbers.iter().all(|number| number.is_finite());
        let sound = survey.alike.len() <= ALIKE_MAX
            && [survey.within, survey.across].iter().all(|background| finite(&[background.median, background.deviation]))
            && survey.alike.iter().all(|pair| finite(&[pair.cosine, pair.plain]) && pair.other_window <= window)
            && survey.agreements.iter().all(|agreement| agreement.cosine.is_finite());
        if !sound {
            return Err(ObservationError::Likeness { window });
        }
        let named = survey
            .alike
            .iter()
            .map(|pair| pair.uid)
            .chain(survey.agreements.iter().map(|agreement| agreement.uid))
            .chain(survey.empty.iter().copied());
        match named.into_iter().find(|uid| !accepted.contains(uid)) {
            Some(uid) => Err(ObservationError::NotAccepted { uid, what: "compared", window }),
            None => Ok(()),
        }
    }
}
