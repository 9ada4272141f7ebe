//! From evaluations to weights: ratings, averages and scores, each with its reason.
//!
//! * [`observation`]: what one validator knows of one window, and all that the rules may look at.
//! * [`measure`]: losses before and after a miner's update, sequence by sequence, become a gradient score with its
//!   standard error (spec validator §2.6).
//! * [`likeness`]: which objects resemble which.
//! * [`native`]: the native rules: who is evaluated, what a window shows, what weight follows.
//! * [`rating`]: the Plackett–Luce rating of spec validator §3.
//! * [`average`]: the moving average of "did better on its own data" (spec validator §2.6).
//! * [`rules`]: rule sets as data, each with a digest.
//! * [`mod@reference`]: the scoring of the Python reference, number by number.
//! * [`sheet`]: what a validator publishes of a window, and how anybody computes it again.
//! * [`weights`]: weights with their reasons, and the chain's integers.
//!
//! The crate is pure and deterministic: the same calls give the same bits, and no number that it returns or keeps is NaN
//! or infinite. Every decision carries the sentence that explains it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod average;
mod exact;
pub mod likeness;
pub mod measure;
pub mod native;
pub mod observation;
pub mod rating;
pub mod reference;
pub mod rules;
pub mod sheet;
#[cfg(test)]
mod test_noise;
pub mod weights;

pub use average::BinaryMovingAverage;
pub use likeness::{Gallery, Sent};
pub use measure::{GradientScore, Losses, MeasureError};
pub use native::{Check, Chosen, Judgement, LoadError, Loaded, NativeRules, PeerState, Penalty, ScoreError, Scorer, Turn, Verdict};
pub use observation::{Agreement, Background, Fate, Likeness, Measurement, Member, Observation, ObservationError, Survey};
pub use rating::{PlackettLuce, Rating, RatingError};
pub use rules::{RuleSet, Rules, RulesError};
pub use sheet::{Dispute, Samples, ScoreSheet, Seed};
pub use weights::{PeerWeight, Weights, to_u16};
