//! Rented machines: found, priced, started, provisioned, watched and ended.
//!
//! In the order of reading:
//!
//! 1. [`money`] and [`offer`]: what a machine costs and has, and what is wanted;
//! 2. [`provider`]: the one interface to those who rent machines out; [`basilica`] and [`hosts`] implement it;
//! 3. [`ledger`]: what was asked for, on disk before it is asked for;
//! 4. [`rental`]: starting, finding again and ending, over a ledger and a provider;
//! 5. [`guard`]: when a rental must end by itself; [`prices`]: what offers have cost;
//! 6. [`ssh`] and [`provision`]: from a bare machine to a node that runs, and its logs and state home again.
//!
//! What always holds: whatever interrupts a start, the ledger and the provider's list together name every machine that was rented; an end is believed only after
//! a second list no longer has the machine; a coldkey never leaves this machine; a secret is in no argument of a process, in no message and not in the
//! ledger. Nothing that a provider or a rented machine answers is read without a bound.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod basilica;
pub mod guard;
pub mod hosts;
pub mod ledger;
pub mod money;
pub mod offer;
pub mod prices;
pub mod provider;
pub mod provision;
pub mod rental;
pub mod ssh;
