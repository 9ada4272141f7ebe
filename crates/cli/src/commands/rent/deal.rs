//! `templar rent start`: from an offer to a node that runs, or with `--trial` to figures from the smallest machine that fits.

use super::guard::end;
use super::market::{chosen, rentable};
use super::place::{PlaceFlags, ProviderArg, Source, WantedFlags, public_key};
use super::{confirmed, now_ms, print_json};
use crate::commands::setup::STATE_OF_THE_NETWORK;
use crate::commands::wallet::flags::WalletFlags;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use templar_ops::settings::{CONFIG_FILE, Config, ENV_FILE, read_env_file};
use templar_ops::setup::{Values, toml_text};
use templar_ops::subject::Variables;
use templar_rent::ledger::{Entry, Ledger, Limits};
use templar_rent::money::Usd;
use templar_rent::offer::Offer;
use templar_rent::provision::{Bundle, REMOTE_DIR, SENT_VARIABLES};
use templar_rent::rental::{self, Deal, fresh_key, reconcile};
use templar_rent::ssh::Ssh;
use templar_store::Secret;

/// The longest that a new machine is waited for.
const READY: Duration = Duration::from_secs(20 * 60);
/// Between two looks at it.
const LOOK: Duration = Duration::from_secs(5);

/// What to rent, for how much and how long, and what to do with it.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Who rents out.
    #[arg(long, value_name = "NAME", default_value = "basilica")]
    provider: ProviderArg,
    /// The offer, as `templar rent search` names it; without it, the cheapest that fits.
    #[arg(long, value_name = "ID")]
    offer: Option<String>,
    #[command(flatten)]
    wanted: WantedFlags,
    /// The machine's price for an hour, US dollars, where the provider names none.
    #[arg(long, value_name = "USD")]
    price: Option<Usd>,
    /// What it may cost in all, US dollars; `templar rent watch` ends it before it costs more.
    #[arg(long, value_name = "USD")]
    budget: Option<Usd>,
    /// End it after so many minutes without a sign of work.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    idle_min: Option<u64>,
    /// End it after so many hours.
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    hours: Option<u64>,
    /// The container image, where the provider has such.
    #[arg(long, value_name = "IMAGE", default_value = "")]
    image: String,
    #[command(flatten)]
    wallet: WalletFlags,
    /// The program to send, built for the machine [default: this one].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// An engine to install there, such as cuda13.
    #[arg(long, value_name = "NAME")]
    install_engine: Option<String>,
    /// Go on from the state that `templar rent stop` has brought home.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Only rent; set nothing up.
    #[arg(long, conflicts_with_all = ["trial", "state"])]
    bare: bool,
    /// Do everything up to a passing preflight on the cheapest machine that fits with any number of GPUs, measure, project to --min-gpus, and end it.
    #[arg(long)]
    trial: bool,
    /// With --trial, measure training of this model.
    #[arg(long, value_name = "NAME", requires = "trial")]
    model: Option<String>,
    /// Rent without asking.
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

impl StartArgs {
    /// Rents and sets up.
    ///
    /// # Errors
    /// Nothing fits, the deal cannot be kept, or a step failed; where something was rented, the message says so and how to end it.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let mut ledger = self.place.open()?;
        let source = self.place.source(self.provider)?;
        let mut wanted = self.wanted.wanted();
        if self.trial {
            wanted.gpus_min = wanted.gpus_min.min(1);
        }
        let offers = rentable(source.provider(), &wanted).await?;
        let offer = chosen(offers, self.offer.as_deref())?;
        let limits = self.limits(&offer)?;
        let bundle = if self.bare { None } else { Some(self.bundle()?) };
        let price = self.price.or(offer.price_hour);
        if self.place.dry_run {
            self.show(&offer, price, limits, bundle.as_ref())?;
            return Ok(ExitCode::SUCCESS);
        }
        self.tell(&offer, price, limits);
        let cost = price.map_or("an unknown price".to_owned(), |price| price.to_string());
        confirmed(self.yes, &format!("Rent {} for {cost} an hour", offer.id))?;
        // A second machine while it is not known whether there is a first one could be taken for it.
        reconcile(&mut ledger, source.provider(), now_ms()).await.into_diagnostic()?;
        let deal = Deal {
            price_hour: price,
            charged_ms_min: source.charged_ms_min(),
            limits,
            trial: self.trial,
            public_key: public_key(ledger.dir())?,
            image: self.image.clone(),
            offer,
        };
        let key = fresh_key().into_diagnostic()?;
        let entry = rental::start(&mut ledger, source.provider(), &deal, &key, now_ms()).await.into_diagnostic();
        let entry = entry.map_err(|report| report.wrap_err(format!("rental {key}: see `templar rent list`")))?;
        eprintln!("rented as {key}");
        if self.trial {
            return self.try_out(&mut ledger, &source, entry, bundle.as_ref()).await;
        }
        if let Some(bundle) = &bundle {
            let ready = self.provision(&entry, &source, bundle, true).await;
            ready.map_err(|report| {
                report.wrap_err(format!("{key} is rented and costs: mend it, or end it with `templar rent stop {key}`"))
            })?;
        }
        self.done(&entry)?;
        Ok(ExitCode::SUCCESS)
    }

    fn limits(&self, offer: &Offer) -> miette::Result<Limits> {
        if self.budget.is_some() && self.price.or(offer.price_hour).is_none() {
            return Err(miette!(
                help = "give the machine's price for an hour with --price, or bound the time with --hours",
                "a budget cannot be kept: the provider names no price for {}",
                offer.id
            ));
        }
        Ok(Limits {
            budget: self.budget,
            idle_ms: self.idle_min.map(|min| min * 60_000),
            lifetime_ms: self.hours.map(|hours| hours * 3_600_000),
        })
    }

    /// What is sent. The settings keep all but paths, which are those of the machine.
    fn bundle(&self) -> miette::Result<Bundle> {
        let config = crate::config::config_path();
        let config = config.ok_or_else(|| {
            miette!(help = "write one with `templar setup`, or name it with --config", "there is no {CONFIG_FILE} to send")
        })?;
        let mut values: Values = Config::read(&config).into_diagnostic()?.values().clone();
        let own = |key: &str, other: String| values.get(key).cloned().unwrap_or(other);
        let wallet = if self.wallet.names_wallet() { self.wallet.wallet() } else { own("wallet.name", self.wallet.wallet()) };
        let hotkey = if self.wallet.names_wallet() { self.wallet.hotkey() } else { own("wallet.hotkey", self.wallet.hotkey()) };
        let wallets = match values.get("wallet.path") {
            Some(path) if !self.wallet.names_wallet() => crate::commands::wallet::open(Some(Path::new(path)))?,
            _ => self.wallet.dir()?,
        };
        if values.get("network.chain").is_some_and(|chain| crate::commands::node::is_local(chain)) {
            eprintln!("warning: the settings name a chain on this machine; on the rented one that address is its own");
        }
        for (key, value) in
            [("wallet.path", "wallets"), ("wallet.name", wallet.as_str()), ("wallet.hotkey", hotkey.as_str()), ("node.dir", "node")]
        {
            values.insert(templar_ops::setup::checked(key, value).into_diagnostic()?, value.to_owned());
        }
        values.remove("engine.plugin");
        let secrets = secrets_beside(&config)?;
        let own = || std::env::current_exe().into_diagnostic().wrap_err("the place of this program is not known: name one with --binary");
        let binary = self.binary.clone().map_or_else(own, Ok)?;
        let mut bundle = Bundle::collect(binary, toml_text(&values), &wallets, (&wallet, &hotkey), secrets).into_diagnostic()?;
        (bundle.engine, bundle.state) = (self.install_engine.clone(), self.state.clone());
        bundle.no_restart = templar_ops::service::NO_RESTART.iter().map(|(code, _)| *code).collect();
        Ok(bundle)
    }

    fn tell(&self, offer: &Offer, price: Option<Usd>, limits: Limits) {
        let price = price.map_or("unknown".to_owned(), |price| format!("{price} an hour, {} a day", price.per_hour_for(86_400_000)));
        eprintln!("{STATE_OF_THE_NETWORK}\n\nmachine  {}: {}\nprice    {price}\nends     {}", offer.id, offer.describe(), ends(limits));
    }

    /// A dry run.
    fn show(&self, offer: &Offer, price: Option<Usd>, limits: Limits, bundle: Option<&Bundle>) -> miette::Result<()> {
        let steps: Vec<String> =
            bundle.map(|bundle| bundle.steps(!self.trial).into_iter().map(|step| step.what).collect()).unwrap_or_default();
        if self.place.json {
            return print_json(
                &json!({ "revenue": STATE_OF_THE_NETWORK, "offer": offer, "price_hour": price, "limits": limits, "steps": steps }),
            );
        }
        self.tell(offer, price, limits);
        let mut out = format!("would rent {}, after writing so into the ledger; then on the machine, in {REMOTE_DIR}:\n", offer.id);
        steps.iter().enumerate().for_each(|(index, what)| out.push_str(&format!("{:>3}. {what}\n", index + 1)));
        if self.trial {
            out.push_str("then measure, project, and end it\n");
        }
        crate::commands::params::print(&out)
    }

    async fn provision(&self, entry: &Entry, source: &Source, bundle: &Bundle, start: bool) -> miette::Result<Ssh> {
        let ssh = self.ready(entry, source).await?;
        for step in bundle.steps(start) {
            eprintln!("  {}", step.what);
            step.carry_out(&ssh).await.into_diagnostic().wrap_err_with(|| step.what.clone())?;
        }
        Ok(ssh)
    }

    /// Waits until the machine lets us in.
    async fn ready(&self, entry: &Entry, source: &Source) -> miette::Result<Ssh> {
        let begun = Instant::now();
        loop {
            let last = match self.place.ssh(entry, source).await? {
                None => "it has no address yet".to_owned(),
                Some(ssh) => match ssh.run("logging in", "true", &[], Duration::from_secs(30)).await {
                    Ok(answer) if answer.code == 0 => return Ok(ssh),
                    Ok(answer) => format!("its shell answers with exit code {}", answer.code),
                    Err(error) => error.to_string(),
                },
            };
            if begun.elapsed() > READY {
                return Err(miette!("the machine is not ready after {} minutes: {last}", READY.as_secs() / 60));
            }
            eprintln!("  waiting for the machine: {last}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn done(&self, entry: &Entry) -> miette::Result<()> {
        if self.place.json {
            return print_json(entry);
        }
        let key = &entry.key;
        println!("{key} runs; next: templar rent watch (ends it by its limits), templar rent logs {key}");
        println!("to end it: templar rent stop {key}");
        Ok(())
    }

    /// The whole set-up on a small machine, which is ended whatever comes of it.
    async fn try_out(&self, ledger: &mut Ledger, source: &Source, entry: Entry, bundle: Option<&Bundle>) -> miette::Result<ExitCode> {
        let begun = Instant::now();
        let measured = async {
            let bundle = bundle.ok_or_else(|| miette!("a trial needs something to set up"))?;
            let ssh = self.provision(&entry, source, bundle, false).await?;
            let setup_s = begun.elapsed().as_secs_f64();
            let bench = match &self.model {
                Some(model) => Some(measure(&ssh, model).await?),
                None => None,
            };
            miette::Result::<_>::Ok(self.projection(&entry, setup_s, bench.as_ref()))
        }
        .await;
        let ended = end(ledger, source, &self.place, &entry.key, "the trial is over").await;
        let report = measured.wrap_err("the trial failed")?;
        ended?;
        if self.place.json {
            print_json(&report)?;
        } else {
            crate::commands::params::print(&projected(&report))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What was seen, and what it says of the machine that is meant: the same time for the set-up, and training in proportion to its GPUs.
    fn projection(&self, entry: &Entry, setup_s: f64, bench: Option<&Value>) -> Value {
        let (tried, meant) = (entry.offer.gpus.max(1), self.wanted.min_gpus.max(entry.offer.gpus).max(1));
        let each = bench.and_then(|bench| bench["tokens_s_per_gpu"].as_f64());
        let cost = entry.price_hour.map(|price| Usd(price.0 / u64::from(tried) * u64::from(meant)));
        json!({
            "key": entry.key, "offer": entry.offer, "setup_s": setup_s, "cost": entry.cost(now_ms()), "gpus_tried": tried, "gpus_meant": meant,
            "tokens_s_per_gpu": each, "tokens_s_meant": each.map(|each| each * f64::from(meant)),
            "price_hour_meant": cost, "price_day_meant": cost.map(|cost| cost.per_hour_for(86_400_000)), "revenue": STATE_OF_THE_NETWORK,
        })
    }
}

/// Training of a model on the machine, as its own `bench train` reports it.
async fn measure(ssh: &Ssh, model: &str) -> miette::Result<Value> {
    eprintln!("  measure training of {model}");
    let model = templar_rent::ssh::quoted(model);
    let script = format!("cd {REMOTE_DIR} && ./bin/templar bench train --model {model} --steps 5 --warmup 2 --json");
    let text = ssh.must("measuring training", &script, &[], Duration::from_secs(1800)).await.into_diagnostic()?;
    serde_json::from_str(&text).into_diagnostic().wrap_err("the machine's report is no JSON")
}

fn projected(report: &Value) -> String {
    let money = |key: &str| report[key].as_u64().map_or("unknown".to_owned(), |micro| Usd(micro).to_string());
    let rate = |key: &str| report[key].as_f64().map_or("not measured".to_owned(), |rate| format!("{rate:.0} tokens/s"));
    format!(
        "set-up     {:.0} s to a passing preflight\ntraining   {} on one GPU\nprojected  {} on {} GPUs, if it scales with them; see `templar plan`\n\
         cost       {} for the trial; {} an hour and {} a day for {} GPUs at the same price each\n{}\n",
        report["setup_s"].as_f64().unwrap_or(0.0),
        rate("tokens_s_per_gpu"),
        rate("tokens_s_meant"),
        report["gpus_meant"],
        money("cost"),
        money("price_hour_meant"),
        money("price_day_meant"),
        report["gpus_meant"],
        STATE_OF_THE_NETWORK
    )
}

/// The key of the bucket, from the `.env` beside the settings, or from the environment. Nothing else is taken.
fn secrets_beside(config: &Path) -> miette::Result<Vec<(String, Secret<String>)>> {
    let mut variables = Variables::of_process();
    let path = config.parent().unwrap_or(Path::new("")).join(ENV_FILE);
    if path.is_file() {
        for (name, value) in read_env_file(&path).into_diagnostic()? {
            if variables.get(&name).is_none() {
                variables.set(&name, value.expose());
            }
        }
    }
    Ok(SENT_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), Secret::new(variables.get(name)?.to_owned())))).collect())
}

/// When it ends by itself.
fn ends(limits: Limits) -> String {
    let mut parts = Vec::new();
    parts.extend(limits.budget.map(|budget| format!("before it costs more than {budget}")));
    parts.extend(limits.idle_ms.map(|ms| format!("after {} without work", templar_rent::guard::span(ms))));
    parts.extend(limits.lifetime_ms.map(|ms| format!("after {}", templar_rent::guard::span(ms))));
    if parts.is_empty() {
        "never by itself: give --budget, --idle-min or --hours".to_owned()
    } else {
        format!("{}, while `templar rent watch` runs", parts.join(", "))
    }
}
