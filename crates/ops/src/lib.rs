//! What an operator asks for: the doctor.
//!
//! Read it in this order:
//!
//! 1. [`check`]: what a check is, and what it finds;
//! 2. [`subject`] and [`facts`]: the node that is examined: what is configured, and what is learned of it once for all checks;
//! 3. [`checks`]: the catalogue, one small file for each check;
//! 4. [`doctor`]: choosing checks, running them side by side, and the report.
//!
//! What always holds: a check proves an effect (a byte written and read back, a signature verified), never a mere presence; what could not be
//! examined is *skipped* and says where the cause is told, never passed; no secret's value is in a finding.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod check;
pub mod checks;
pub mod doctor;
pub mod facts;
#[cfg(test)]
mod lab;
pub mod machine;
pub mod probe;
pub mod service;
pub mod settings;
pub mod setup;
pub mod subject;
