//! Real programs of others as tests: what they write, we read, and the other way round.
//!
//! Each peer is a Python package of a pinned version in an environment of its own below `target/peers`, installed once by `uv` or `pip`. A peer's
//! own script in this folder drives it and prints one line that begins with `JSON `.

mod bittensor;
mod python;
mod wallet;

use crate::steps::Failure;
use clap::Subcommand;
use std::path::Path;

/// The variable that leaves peers out of the whole check.
const WITHOUT_PEERS: &str = "TEMPLAR_TESTS_WITHOUT_PEERS";

/// The peers.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Peer {
    /// Bittensor's wallet package: it opens our wallets and we open its.
    Wallet,
    /// Bittensor's Python client, 9.12 and 11.3: it reads our development chain and writes to it.
    Bittensor,
}

/// Tests against a peer.
///
/// # Errors
/// The peer cannot be installed, or either side does not understand the other.
pub fn run(peer: Peer) -> Result<(), Failure> {
    match peer {
        Peer::Wallet => wallet::install().and_then(|python| wallet::run(&python)),
        Peer::Bittensor => bittensor::install().and_then(|pythons| bittensor::run(&pythons)),
    }
    .map_err(failure)
}

/// Tests against the peer that is quick to install; a machine without Python or network says so and goes on.
///
/// # Errors
/// Either side does not understand the other.
pub fn run_installable() -> Result<(), Failure> {
    if std::env::var_os(WITHOUT_PEERS).is_some() {
        println!("{WITHOUT_PEERS} is set: no peer is asked");
        return Ok(());
    }
    match wallet::install() {
        Ok(python) => wallet::run(&python).map_err(failure)?,
        Err(why) => left_out("the wallet package", &why),
    }
    Ok(())
}

fn left_out(peer: &str, why: &str) {
    println!("{peer} is left out, since it does not install here: {why}; {WITHOUT_PEERS}=1 does not try");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn failure(message: String) -> Failure {
    Failure { message, code: 1 }
}
