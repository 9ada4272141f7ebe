//! Real programs of others as tests: what they write, we read, and the other way round.
//!
//! Each peer is a Python package of a pinned version in an environment of its own below `target/peers`, installed once by `uv` or `pip`. A peer's
//! own script in this folder drives it and prints one line that begins with `JSON `.

mod python;
mod wallet;

use crate::steps::Failure;
use clap::Subcommand;

/// The peers.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Peer {
    /// Bittensor's wallet package: it opens our wallets and we open its.
    Wallet,
}

/// Tests against a peer.
///
/// # Errors
/// The peer cannot be installed, or either side does not understand the other.
pub fn run(peer: Peer) -> Result<(), Failure> {
    match peer {
        Peer::Wallet => wallet::install().and_then(|python| wallet::run(&python)),
    }
    .map_err(failure)
}

/// Tests against all peers that install here; a machine without Python or network says so and goes on.
///
/// # Errors
/// Either side does not understand the other.
pub fn run_installable() -> Result<(), Failure> {
    match wallet::install() {
        Ok(python) => wallet::run(&python).map_err(failure),
        Err(why) => {
            println!("left out, since it does not install here: {why}");
            Ok(())
        }
    }
}

fn failure(message: String) -> Failure {
    Failure { message, code: 1 }
}
