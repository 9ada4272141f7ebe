//! The whole program, end to end: the real binary, real processes on loopback, in paced time, so that nothing depends on the machine's
//! speed.
//!
//! [`lab`] holds the instruments: networks that end with their test, waits that are bounded, journals, paced time. Every other module is
//! one protocol: a set-up, then small checks. Models are tiny and windows few; a protocol takes seconds.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the finding")]

mod adversaries;
mod doctor;
mod errors;
mod hostile;
mod joining;
mod judge;
mod kills;
mod lab;
mod models;
mod onchain;
mod operating;
mod succession;
mod training;
mod wallets;
