//! The whole program, end to end: the real binary, real processes on loopback, in paced time, so that nothing depends on the machine's
//! speed.
//!
//! [`lab`] holds the instruments: networks that end with their test, waits that are bounded, journals, paced time. Every other module is
//! one protocol: a set-up, then small checks. Models are tiny and windows few; a protocol takes seconds.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the finding")]

mod adversaries;
mod agent;
#[allow(dead_code, reason = "the handbook's pages are judged by another test")]
#[path = "../../../../tests/support/commands.rs"]
mod commands;
mod doctor;
mod errors;
mod hostile;
mod joining;
mod judge;
mod kills;
mod lab;
mod models;
mod newcomer;
mod onchain;
mod operating;
mod planted;
mod secrets;
mod succession;
mod training;
mod wallets;
