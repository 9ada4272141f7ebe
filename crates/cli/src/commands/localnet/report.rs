//! The report that `--json` ends with.

use super::earnings::{self, Account};
use super::progress::Progress;
use super::setup::{NETUID, Network};
use miette::IntoDiagnostic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use templar_chain::{At, Chain};
use templar_protocol::{Digest, Uid};
use templar_subtensor::Subtensor;

/// One window.
#[derive(Debug, Serialize)]
struct WindowReport {
    window: u64,
    global_step: u64,
    /// Held-out loss after the outer step, nats per token; null when no validator measured it.
    loss: Option<f64>,
    gathered: Vec<Uid>,
    state_digest: BTreeMap<String, Digest>,
    object_bytes: u64,
    /// Seconds since the window before ended (for the first: since the command started).
    seconds: f64,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    windows: Vec<WindowReport>,
    /// The miners' shares of the leader's weights on the chain.
    weights: BTreeMap<Uid, f64>,
    /// What every neuron has and earns, by uid.
    nodes: Vec<Account>,
    /// The attackers and their attacks.
    attackers: BTreeMap<Uid, &'static str>,
    first_outer_step_s: Option<f64>,
    elapsed_s: f64,
    unigram_entropy: f64,
}

impl Report {
    /// Puts the report together.
    pub fn new(network: &Network, progress: &Progress, weights: BTreeMap<Uid, f64>, begun: Instant) -> Self {
        let mut before = Duration::ZERO;
        let windows = progress.counted().map(|(window, lived)| {
            let ended = lived.ended.unwrap_or(before);
            let seconds = ended.saturating_sub(before).as_secs_f64();
            before = ended;
            let told = lived.told();
            WindowReport {
                window,
                global_step: told.map_or(0, |entry| entry.global_step.0),
                loss: told.and_then(|entry| entry.held_out_loss),
                gathered: told.map(|entry| entry.gathered.clone()).unwrap_or_default(),
                state_digest: lived.entries.iter().map(|(name, entry)| (name.clone(), entry.state_digest)).collect(),
                object_bytes: told.map_or(0, |entry| entry.object_bytes),
                seconds,
            }
        });
        Self {
            windows: windows.collect(),
            weights,
            nodes: earnings::accounts(progress),
            attackers: network.nodes.iter().filter_map(|node| Some((node.uid, node.adversary.as_ref()?.kind))).collect(),
            first_outer_step_s: progress.first_outer_step.map(|time| time.as_secs_f64()),
            elapsed_s: begun.elapsed().as_secs_f64(),
            unigram_entropy: network.data.unigram_entropy,
        }
    }
}

/// The last look at the chain: what everybody earns goes into `progress`; the weights that the leader has set, as shares that sum to 1, are
/// given.
///
/// # Errors
/// The chain does not answer.
pub async fn last_look(network: &Network, progress: &mut Progress) -> miette::Result<BTreeMap<Uid, f64>> {
    let chain = Subtensor::new(network.chain_url().parse().into_diagnostic()?);
    progress.earnings = earnings::read(&chain).await?;
    let rows = chain.weights(NETUID, At::Best).await.into_diagnostic()?;
    let row = rows.into_iter().find(|(uid, _)| *uid == Uid(0)).map(|(_, row)| row).unwrap_or_default();
    let total: f64 = row.iter().map(|(_, weight)| f64::from(*weight)).sum();
    Ok(row.into_iter().map(|(uid, weight)| (uid, f64::from(weight) / total.max(1.0))).collect())
}
