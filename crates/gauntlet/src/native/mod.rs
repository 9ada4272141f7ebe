//! The native rules: weight follows the estimated contribution.
//!
//! A miner's weight is proportional to quality · credit · work · standing:
//!
//! * *quality* (`quality`): how much its updates lower the loss on random data, in units of the common level of each window, shrunk toward
//!   the common mean by its standard error, over as many evaluations as the noise asks for (`memory`);
//! * *credit* ([`credit`]): the share of the recent windows to which it contributed work that is its own ([`crate::likeness`]);
//! * *work* ([`work`]): whether its updates bear the mark of the data that was assigned to it;
//! * *standing* ([`standing`]): a factor that offences lower, and that recovers slowly.
//!
//! docs/scoring.md says the same in formulas, with sources, and names what each rule is against.

pub mod choose;
pub mod credit;
pub mod hold;
mod memory;
pub mod migrate;
pub mod power;
mod quality;
pub mod rules;
pub mod scorer;
pub mod standing;
pub mod verdict;
mod weigh;
pub mod work;

pub use choose::{Chosen, Turn};
pub use migrate::{LoadError, Loaded};
pub use rules::NativeRules;
pub use scorer::{PeerState, ScoreError, Scorer};
pub use verdict::{Check, Judgement, Penalty, Verdict};
