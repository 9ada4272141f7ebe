//! `templar chain`: the development chain as a process, and a look at a chain.

use crate::{
    commands::wallet::WalletPath,
    signals::{StopReason, wait_for_stop},
};
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, WrapErr, bail, miette};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::{fmt::Write as _, net::SocketAddr, path::PathBuf};
use templar_chain::{At, BlockTime, Chain as _, DevChain, GenesisConfig, Metagraph, Registered, Wait};
use templar_chain_rpc::Control;
use templar_protocol::{AccountId, Netuid};
use templar_subtensor::Subtensor;

/// Rao in one TAO or alpha.
const RAO: f64 = 1e9;

/// Serve a development chain, or look at a chain.
#[derive(Debug, Args)]
pub struct ChainArgs {
    #[command(subcommand)]
    command: ChainCommand,
}

#[derive(Debug, Subcommand)]
enum ChainCommand {
    /// Run a development chain until SIGINT or SIGTERM.
    Serve(ServeArgs),
    /// Show the neurons of a subnet.
    Metagraph(MetagraphArgs),
    /// Register a hotkey on a subnet.
    Register(RegisterArgs),
    /// Create balance for an account, on a development chain started with --allow-control.
    Fund(FundArgs),
    /// Add a subnet, on a development chain started with --allow-control.
    Subnet(SubnetArgs),
    /// Change rules of a subnet, on a development chain started with --allow-control.
    Rule(RuleArgs),
    /// Close blocks of a chain in virtual time, started with --allow-control.
    Advance(AdvanceArgs),
}

#[derive(Debug, Args)]
struct Controlled {
    /// The chain's address.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:9944")]
    chain: String,
}

#[derive(Debug, Args)]
struct FundArgs {
    #[command(flatten)]
    controlled: Controlled,
    /// The account.
    #[arg(value_name = "ADDRESS")]
    who: AccountId,
    /// How much, TAO.
    #[arg(value_name = "TAO", value_parser = tao)]
    amount: u64,
}

#[derive(Debug, Args)]
struct SubnetArgs {
    #[command(flatten)]
    controlled: Controlled,
    /// The subnet's number, not yet taken.
    #[arg(value_name = "N")]
    netuid: Netuid,
    /// A rule other than the development default; may be repeated.
    #[arg(long = "rule", value_name = "NAME=VALUE", value_parser = rule)]
    rules: Vec<(String, Value)>,
}

#[derive(Debug, Args)]
struct RuleArgs {
    #[command(flatten)]
    controlled: Controlled,
    /// The subnet.
    #[arg(value_name = "N")]
    netuid: Netuid,
    /// The rules to change; the others stay.
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = rule)]
    rules: Vec<(String, Value)>,
}

#[derive(Debug, Args)]
struct AdvanceArgs {
    #[command(flatten)]
    controlled: Controlled,
    /// How many blocks.
    #[arg(value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    blocks: u64,
}

/// An amount of TAO as rao.
fn tao(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 9 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("an amount has at most nine digits after the point".into());
    }
    let number = |digits: &str| digits.parse::<u64>().map_err(|e| e.to_string());
    let part = if part.is_empty() { 0 } else { number(&format!("{part:0<9}"))? };
    number(whole)?.checked_mul(1_000_000_000).and_then(|rao| rao.checked_add(part)).ok_or_else(|| "there is not that much".into())
}

/// A rule with its value, which is a number or `true` or `false`.
fn rule(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a rule is given as name=value, for example tempo=20")?;
    let value = serde_json::from_str(value).map_err(|_| format!("{value:?} is neither a number nor true or false"))?;
    Ok((name.to_owned(), value))
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The chain's directory; made if absent, continued if it holds a chain.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9944")]
    listen: SocketAddr,
    /// The genesis file: subnet, rules, accounts and first neurons. Needed to begin a chain, compared when it is continued.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Milliseconds from block to block.
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    block_ms: u64,
    /// Threads that serve.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Virtual time that goes on only when this many participants sleep; for tests.
    #[arg(long, value_name = "N")]
    paced: Option<usize>,
    /// Virtual time that goes on by `templar chain advance` only.
    #[arg(long, conflicts_with = "paced")]
    manual: bool,
    /// Let whoever reaches it create money, subnets, rules and blocks: `templar chain fund`, `subnet`, `rule` and `advance`. On loopback
    /// only.
    #[arg(long)]
    allow_control: bool,
    /// Stop when standard input ends; for programs that start this one.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Print where it listens as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Target {
    /// The chain's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9944")]
    chain: String,
    /// The subnet.
    #[arg(long, value_name = "N")]
    netuid: Netuid,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Target {
    async fn connect(&self) -> miette::Result<Subtensor> {
        Subtensor::connect(self.chain.parse().into_diagnostic()?).await.into_diagnostic()
    }
}

#[derive(Debug, Args)]
struct MetagraphArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct RegisterArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    wallets: WalletPath,
    /// The wallet.
    #[arg(long, default_value = "default", env = "BT_WALLET_NAME", value_name = "NAME")]
    wallet: String,
    /// The hotkey to register.
    #[arg(long, default_value = "default", env = "BT_WALLET_HOTKEY", value_name = "NAME")]
    hotkey: String,
    /// The hotkey file of this wallet whose account pays and will own the neuron [default: the hotkey itself].
    #[arg(long, value_name = "NAME")]
    payer: Option<String>,
    /// The most that it may cost, rao.
    #[arg(long, value_name = "RAO", default_value_t = 1_000_000_000)]
    max_price: u64,
    /// Take what it costs from the account of the public development key, which a local network fills for this.
    #[arg(long, conflicts_with = "payer")]
    faucet: bool,
}

impl ChainArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            ChainCommand::Serve(args) => return crate::runtime_of(args.threads)?.block_on(args.run()),
            ChainCommand::Metagraph(args) => crate::runtime()?.block_on(args.run())?,
            ChainCommand::Register(args) => crate::runtime()?.block_on(args.run())?,
            ChainCommand::Fund(args) => crate::runtime()?.block_on(args.run())?,
            ChainCommand::Subnet(args) => crate::runtime()?.block_on(args.run())?,
            ChainCommand::Rule(args) => crate::runtime()?.block_on(args.run())?,
            ChainCommand::Advance(args) => crate::runtime()?.block_on(args.run())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ServeArgs {
    async fn run(self) -> miette::Result<ExitCode> {
        if !self.listen.ip().is_loopback() {
            eprintln!("warning: {} is not loopback: whoever reaches this chain may read it and, when paced, stop its time", self.listen);
        }
        let listener = match tokio::net::TcpListener::bind(self.listen).await {
            Ok(listener) => listener,
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                bail!("the port of {} is taken: stop what listens there, or choose another with --listen", self.listen)
            }
            Err(e) => return Err(e).into_diagnostic().wrap_err(format!("cannot listen on {}", self.listen)),
        };
        let genesis = self.genesis.as_deref().map(GenesisConfig::read).transpose();
        let genesis = genesis.map_err(|error| miette!(help = "docs/dev-chain.md shows a genesis file", "{error}"))?;
        let time = if self.paced.is_some() || self.manual { BlockTime::Virtual(self.block_ms) } else { BlockTime::Interval(self.block_ms) };
        let chain = DevChain::open(&self.dir, genesis.as_ref(), time).into_diagnostic()?;
        let address = listener.local_addr().into_diagnostic()?;
        let info = chain.info().await.into_diagnostic()?;
        let head = chain.best();
        if self.json {
            let line = json!({ "endpoint": format!("http://{address}"), "genesis_hash": info.genesis_hash, "head": head });
            println!("{line}");
        } else {
            println!(
                "serving the chain in {} at http://{address}, block {} of genesis {}",
                self.dir.display(),
                head.number,
                info.genesis_hash
            );
        }
        let permissions = templar_chain_rpc::Permissions { control: self.allow_control };
        let mut reason = None;
        let stop = async {
            reason = Some(wait_for_stop(self.exit_with_parent).await);
        };
        templar_chain_rpc::serve(chain, listener, self.paced, permissions, stop).await.into_diagnostic()?;
        let reason = reason.transpose().into_diagnostic().wrap_err("the signals cannot be watched, so the chain has stopped")?;
        Ok(reason.map_or(ExitCode::SUCCESS, StopReason::exit_code))
    }
}

impl MetagraphArgs {
    async fn run(self) -> miette::Result<()> {
        let chain = self.target.connect().await?;
        let metagraph = chain.metagraph(self.target.netuid, At::Best).await.into_diagnostic()?;
        if self.target.json {
            println!("{}", serde_json::to_string(&metagraph).into_diagnostic()?);
        } else {
            print!("{}", table(&metagraph));
        }
        Ok(())
    }
}

/// The neurons of a subnet, one a line.
pub fn table(metagraph: &Metagraph) -> String {
    let mut out = format!("subnet {}, block {}, last epoch at block {}\n", metagraph.netuid, metagraph.block, metagraph.last_epoch_block);
    let header = format!(
        "{:>4}  {:<48}  {:>14}  {:<6}  {:>9}  {:>9}  {:>12}",
        "uid", "hotkey", "stake", "permit", "incentive", "dividends", "emission"
    );
    let share = |share: u16| f64::from(share) / f64::from(u16::MAX);
    let amount = |rao: u64| rao as f64 / RAO;
    let rows = metagraph.neurons.iter().map(|neuron| {
        format!(
            "{:>4}  {:<48}  {:>14.3}  {:<6}  {:>9.4}  {:>9.4}  {:>12.6}",
            neuron.uid.0,
            neuron.hotkey.to_string(),
            amount(neuron.total_stake),
            if neuron.permit { "yes" } else { "no" },
            share(neuron.incentive),
            share(neuron.dividends),
            amount(neuron.emission),
        )
    });
    for line in std::iter::once(header).chain(rows) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

impl RegisterArgs {
    async fn run(self) -> miette::Result<()> {
        let wallets = self.wallets.dir()?;
        let key =
            |name: &str| wallets.hotkey(&self.wallet, name).map_err(|error| miette!(help = super::wallet::flags::NO_HOTKEY, "{error}"));
        let hotkey = key(&self.hotkey)?.public();
        let payer = key(self.payer.as_ref().unwrap_or(&self.hotkey))?;
        let chain = self.target.connect().await?;
        if self.faucet {
            self.take_from_faucet(&chain, &hotkey).await?;
        }
        let registered = chain.register(&payer, self.target.netuid, &hotkey, self.max_price, Wait::InBlock).await;
        let registered = registered.map_err(|e| miette!("{hotkey} was not registered: {e}"))?;
        println!("{}", shown(&hotkey, &registered, self.target.json));
        if !self.target.json
            && let Some(next) = super::practice::after_registration(wallets.root(), &self.wallet, &self.hotkey)
        {
            println!("{next}");
        }
        Ok(())
    }

    /// Sees to it that the hotkey can pay.
    async fn take_from_faucet(&self, chain: &Subtensor, hotkey: &AccountId) -> miette::Result<()> {
        let network: templar_subtensor::Network = self.target.chain.parse().into_diagnostic()?;
        if network.genesis().is_some() {
            bail!("{} is a public network, and has no faucet: fund the account, and leave --faucet out", network.name());
        }
        super::localnet::fund_from_faucet(chain, &self.target.chain, hotkey).await.map(drop)
    }
}

impl Controlled {
    fn control(&self) -> miette::Result<Control> {
        Control::new(&self.chain).into_diagnostic()
    }
}

impl FundArgs {
    async fn run(self) -> miette::Result<()> {
        self.controlled.control()?.fund(&self.who, self.amount).await.into_diagnostic()?;
        println!("{} has {} TAO more from the next block on", self.who, self.amount as f64 / RAO);
        Ok(())
    }
}

/// The rules as an object, each named once.
fn object(rules: Vec<(String, Value)>) -> miette::Result<serde_json::Map<String, Value>> {
    let mut all = serde_json::Map::new();
    for (name, value) in rules {
        if all.insert(name.clone(), value).is_some() {
            bail!("the rule {name} is given twice: give it once");
        }
    }
    Ok(all)
}

impl SubnetArgs {
    async fn run(self) -> miette::Result<()> {
        let changes = object(self.rules)?;
        let rules = serde_json::from_value(Value::Object(changes)).map_err(|e| miette!("these are no rules of a subnet: {e}"))?;
        self.controlled.control()?.create_subnet(self.netuid, &rules).await.into_diagnostic()?;
        println!("subnet {} begins with the next block", self.netuid);
        Ok(())
    }
}

impl RuleArgs {
    async fn run(self) -> miette::Result<()> {
        let changes = object(self.rules)?;
        let names = changes.keys().cloned().collect::<Vec<_>>().join(", ");
        self.controlled.control()?.change_rules(self.netuid, Value::Object(changes)).await.into_diagnostic()?;
        println!("subnet {} has other rules from the next block on: {names}", self.netuid);
        Ok(())
    }
}

impl AdvanceArgs {
    async fn run(self) -> miette::Result<()> {
        let head = self.controlled.control()?.advance(self.blocks).await.into_diagnostic()?;
        println!("the newest block is {head}");
        Ok(())
    }
}

fn shown(hotkey: &AccountId, registered: &Registered, as_json: bool) -> String {
    if as_json {
        let Registered { tx, uid, price } = registered;
        return json!({ "hotkey": hotkey, "uid": uid, "price_rao": price, "block": tx.block, "tx": tx.tx }).to_string();
    }
    format!("{hotkey} has uid {} since block {}; it cost {} TAO", registered.uid, registered.tx.block, registered.price as f64 / RAO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_rules_are_read_exactly() {
        assert_eq!(
            ["1", "0.5", "12.000000001", "18446744073"].map(tao).map(Result::ok),
            [Some(1_000_000_000), Some(500_000_000), Some(12_000_000_001), Some(18_446_744_073_000_000_000)]
        );
        for wrong in ["", ".", "1.0000000001", "-1", "1.x", "18446744074", "1e9"] {
            assert!(tao(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rule("tempo=20"), Ok(("tempo".into(), json!(20))));
        assert_eq!(rule("commit_reveal=true"), Ok(("commit_reveal".into(), json!(true))));
        assert!(rule("tempo").is_err() && rule("tempo=many").is_err());
        assert!(object(vec![("tempo".into(), json!(1)), ("tempo".into(), json!(2))]).is_err());
    }

    #[test]
    fn a_metagraph_is_a_table() {
        let mut genesis = GenesisConfig::new(Netuid(3));
        let neuron =
            |i, stake| templar_chain::GenesisNeuron { hotkey: AccountId([i; 32]), coldkey: AccountId([i; 32]), stake, permit: false };
        genesis.neurons = vec![neuron(1, 1_500_000_000), neuron(2, 0)];
        let chain = DevChain::in_memory(&genesis, BlockTime::Virtual(250)).expect("the genesis is sound");
        let metagraph = crate::runtime().expect("a runtime").block_on(chain.metagraph(Netuid(3), At::Best)).expect("the subnet is there");
        let text = table(&metagraph);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "subnet 3, block 0, last epoch at block 0");
        assert!(lines[1].starts_with(" uid  hotkey  ") && lines[1].ends_with("emission"), "{text}");
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        let hotkey = AccountId([1; 32]).to_string();
        assert_eq!(words, ["0", hotkey.as_str(), "1.500", "yes", "0.0000", "0.0000", "0.000000"]);
        assert_eq!((lines.len(), lines[3].contains("  no  ")), (4, true), "{text}");
    }
}
