//! What the chain says of a local network's neurons: stake, incentive, emission. The journals tell what a node did, and only the chain what
//! it has and earns; neurons that joined from elsewhere are known from here alone.

use super::progress::Progress;
use super::setup::NETUID;
use miette::IntoDiagnostic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use templar_chain::{At, Chain as _, Neuron};
use templar_protocol::Uid;
use templar_subtensor::{Options, Subtensor};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the chain is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// Rao in one TAO or alpha.
const RAO: f64 = 1e9;

/// What a neuron has, and what it got at the last epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Earnings {
    /// Stake, rao.
    pub stake_rao: u64,
    /// Share of the miners' emission, 0 to 1.
    pub incentive: f64,
    /// Share of the validators' emission, 0 to 1.
    pub dividends: f64,
    /// Emission, rao.
    pub emission_rao: u64,
}

impl Earnings {
    fn of(neuron: &Neuron) -> Self {
        let share = |share: u16| f64::from(share) / f64::from(u16::MAX);
        Self {
            stake_rao: neuron.total_stake,
            incentive: share(neuron.incentive),
            dividends: share(neuron.dividends),
            emission_rao: neuron.emission,
        }
    }

    /// Stake, TAO.
    pub fn stake(&self) -> f64 {
        self.stake_rao as f64 / RAO
    }

    /// Emission, TAO.
    pub fn emission(&self) -> f64 {
        self.emission_rao as f64 / RAO
    }
}

/// All neurons of the network's subnet.
pub type AllEarnings = BTreeMap<Uid, Earnings>;

/// What the newest block says.
///
/// # Errors
/// The chain does not answer.
pub async fn read(chain: &Subtensor) -> miette::Result<AllEarnings> {
    let metagraph = chain.metagraph(NETUID, At::Best).await.into_diagnostic()?;
    Ok(metagraph.neurons.iter().map(|neuron| (neuron.uid, Earnings::of(neuron))).collect())
}

/// Reads the chain in the background for as long as it lives.
pub struct Following {
    newest: watch::Receiver<AllEarnings>,
    task: JoinHandle<()>,
}

impl Following {
    /// Begins to read the chain at `endpoint`, which may come and go.
    ///
    /// # Errors
    /// It is no endpoint.
    pub fn begin(endpoint: &str) -> miette::Result<Self> {
        let options = Options { persistence: Duration::ZERO, ..Options::default() };
        let chain = Subtensor::with_options(endpoint.parse().into_diagnostic()?, options);
        let (tell, newest) = watch::channel(AllEarnings::new());
        let task = tokio::spawn(async move {
            loop {
                // A chain that is away is started again by others, and what was known of it stays true until then.
                if let Ok(all) = read(&chain).await {
                    tell.send_if_modified(|known| std::mem::replace(known, all.clone()) != all);
                }
                tokio::time::sleep(REFRESH).await;
            }
        });
        Ok(Self { newest, task })
    }

    /// What was read last, if it is other than the last time.
    pub fn news(&mut self) -> Option<AllEarnings> {
        self.newest.has_changed().unwrap_or(false).then(|| self.newest.borrow_and_update().clone())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A neuron of the final account.
#[derive(Debug, Serialize)]
pub struct Account {
    /// Its uid.
    pub uid: Uid,
    /// Its node's name; none when it joined from elsewhere.
    pub name: Option<String>,
    /// What it has and got.
    #[serde(flatten)]
    pub earnings: Earnings,
}

/// All that is known on the chain, by uid.
pub fn accounts(progress: &Progress) -> Vec<Account> {
    let name = |uid: Uid| progress.nodes.iter().find(|node| node.uid == uid).map(|node| node.name.clone());
    progress.earnings.iter().map(|(uid, earnings)| Account { uid: *uid, name: name(*uid), earnings: *earnings }).collect()
}

/// The account as lines, the titles first; empty when nothing was read.
pub fn table(accounts: &[Account]) -> String {
    let mut out = String::new();
    if accounts.is_empty() {
        return out;
    }
    let name = |account: &Account| account.name.clone().unwrap_or_else(|| "(joined)".into());
    let width = accounts.iter().map(|account| name(account).chars().count()).fold(4, usize::max);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:>4}  {:<width$}  {:>14}  {:>9}  {:>9}  {:>12}", "uid", "node", "stake", "incentive", "dividends", "emission");
    for account in accounts {
        let Earnings { incentive, dividends, .. } = account.earnings;
        let _ = writeln!(
            out,
            "{:>4}  {:<width$}  {:>14.3}  {incentive:>9.4}  {dividends:>9.4}  {:>12.6}",
            account.uid.0,
            name(account),
            account.earnings.stake(),
            account.earnings.emission()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::progress::made_up;
    use super::*;

    #[test]
    fn the_account_is_a_table_with_those_who_joined() {
        let mut progress = made_up::network(1);
        assert_eq!(table(&accounts(&progress)), "");
        let earnings = |stake_rao, incentive, dividends, emission_rao| Earnings { stake_rao, incentive, dividends, emission_rao };
        progress.earnings.insert(Uid(0), earnings(10_000_000_000_000, 0.0, 1.0, 410_000_000));
        progress.earnings.insert(Uid(1), earnings(1_500_000_000, 0.75, 0.0, 307_500_000));
        progress.earnings.insert(Uid(2), earnings(0, 0.25, 0.0, 102_500_000));
        insta::assert_snapshot!(table(&accounts(&progress)), @r"
         uid  node                  stake  incentive  dividends      emission
           0  validator-0       10000.000     0.0000     1.0000      0.410000
           1  miner-0               1.500     0.7500     0.0000      0.307500
           2  (joined)              0.000     0.2500     0.0000      0.102500
        ");
    }
}
