//! The reference's scoring, number by number: rule set `templar-2.1`.
//!
//! Everything is a pure function of what it is given. [`Gauntlet`] takes a window in its four steps and keeps what lasts; the other
//! modules hold one subject each (sections of spec validator):
//!
//! | module | subject |
//! |---|---|
//! | [`choose`] | who is evaluated: bins and weighted draws (§2.1) |
//! | [`samples`] | which data, and the receipt of a miner's own (§2.2, §2.10) |
//! | [`apply`] | a peer's object as a trial update (§2.4, §2.6) |
//! | [`losses`] | gradient score and indicator (§2.6) |
//! | [`sync`] | whether a peer has the validator's model (§2.9) |
//! | [`overlap`] | copies by their indices (§2.8) |
//! | [`object`], [`gather`] | which objects count, and who stands in for whom (§1.9) |
//! | [`penalties`] | what offences cost (§4.5, §4.6) |
//! | [`score`] | match and final score (§3.4, §4.1) |
//! | [`weights`] | tiers, burning, submission (§4.2, §4.3) |
//! | [`peers`] | lists of gather and reserve peers (§1.5) |
//!
//! What always holds: no input causes a panic; every number that is kept is finite; one peer's malformed input changes nothing for
//! another. Where the reference lets a peer end its process or push others out of a gather (§10.1 1 to 4), that peer alone is refused.

pub mod apply;
pub mod choose;
pub mod gather;
pub mod gauntlet;
pub mod losses;
pub mod object;
pub mod overlap;
pub mod peers;
pub mod penalties;
pub mod reason;
pub mod rules;
pub mod samples;
pub mod score;
pub mod state;
pub mod sync;
pub mod weights;

#[cfg(test)]
mod tests;

pub use gauntlet::{Evaluation, Gathered, Gauntlet, Member, Opening, Report, StepError};
pub use reason::{Reason, ReasonKind, Scores};
pub use rules::ReferenceRules;
pub use state::{PeerState, State, StateError};
