//! From evaluations to weights: ratings, averages and scores, each with its reason.
//!
//! * [`measure`]: losses before and after a miner's update, sequence by sequence, become a gradient score with its
//!   standard error (spec validator §2.6).
//! * [`rating`]: the Plackett–Luce rating of spec validator §3.
//! * [`average`]: the moving average of "did better on its own data" (spec validator §2.6).
//! * [`scorer`]: what a validator keeps of each miner, by hotkey.
//! * [`rules`]: rule sets as data, each with a digest.
//! * [`mod@reference`]: the scoring of the Python reference, number by number.
//! * [`weights`]: from the kept scores to weights, and from weights to the chain's integers.
//!
//! The crate is pure and deterministic: the same calls give the same bits, and no number that it returns or keeps is NaN
//! or infinite. Every decision carries the sentence that explains it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod average;
pub mod measure;
pub mod rating;
pub mod reference;
pub mod rules;
pub mod scorer;
pub mod weights;

pub use average::BinaryMovingAverage;
pub use measure::{GradientScore, Losses, MeasureError};
pub use rating::{PlackettLuce, Rating, RatingError};
pub use rules::{RuleSet, Rules, RulesError};
pub use scorer::{Judgement, Measurement, PeerState, ScoreError, Scorer, ScorerConfig};
pub use weights::{PeerWeight, Weights, to_u16};
