//! What an operator asks for: is my node well, why does a miner have its weight, is a validator's word true?
//!
//! The doctor, in the order of reading:
//!
//! 1. [`check`]: what a check is, and what it finds;
//! 2. [`subject`] and [`facts`]: the node that is examined: what is configured, and what is learned of it once for all checks;
//! 3. [`checks`]: the catalogue, one small file for each check;
//! 4. [`doctor`]: choosing checks, running them side by side, and the report.
//!
//! Scores:
//!
//! * [`sheets`]: score sheets from where they are: a validator's journal, or the bucket in which it publishes them;
//! * [`explain`]: why a miner has the weight that it has, and what would have changed it;
//! * [`verify`]: whether a validator's sheet is true, computed again from what lies in its bucket;
//! * [`judge`]: a validator's numbers for one's own object, before it is sent.
//!
//! Money, releases, defects:
//!
//! * [`economics`]: what mining costs and may bring in;
//! * [`upgrade`] and [`feed`]: what has changed in a network and among the releases;
//! * [`bug`]: what a report of a defect consists of;
//! * [`tune`] and [`svg`]: settings for a machine, and small plots;
//! * [`gc`]: what may go from a bucket; [`relocate`]: a node's state from one machine to another.
//!
//! Nodes from the outside:
//!
//! * [`watch`]: a node as its journal, or a validator's sheets, tell it, and the figures by which health is judged;
//! * [`diagnose`]: from there to a cause with evidence and what to do; [`alerts`]: thresholds with hysteresis, and who is told;
//! * [`leaderboard`]: all miners of a network, and what separates one from the first.
//!
//! What always holds: a check proves an effect (a byte written and read back, a signature verified), never a mere presence; what could not be
//! examined is *skipped* and says where the cause is told, never passed; no secret's value is in a finding. Nothing here decides anything in a
//! network: it reads what nodes have written and published, and believes none of it before it is checked.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod alerts;
mod bench;
pub mod bug;
pub mod check;
pub mod checks;
pub mod diagnose;
pub mod doctor;
pub mod economics;
pub mod explain;
pub mod facts;
pub mod feed;
pub mod gc;
mod interval;
pub mod judge;
#[cfg(test)]
mod lab;
pub mod leaderboard;
pub mod machine;
pub mod probe;
pub mod relocate;
pub mod service;
pub mod settings;
pub mod setup;
pub mod sheets;
pub mod skill;
pub mod subject;
pub mod svg;
pub mod tune;
pub mod upgrade;
pub mod verify;
pub mod watch;
