//! Where rentals come from and are remembered: flags that the commands share, providers, ledger, keys for logging in.

use clap::{Args, ValueEnum};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use templar_rent::basilica::{self, Basilica, TOKEN_VARIABLE};
use templar_rent::hosts::{self, Hosts};
use templar_rent::ledger::{Entry, Ledger, Stage};
use templar_rent::money::Usd;
use templar_rent::offer::Wanted;
use templar_rent::provider::Provider;
use templar_rent::ssh::Ssh;
use templar_store::Secret;

/// Who rents out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProviderArg {
    /// Basilica, by its HTTP interface; the token is in BASILICA_API_TOKEN.
    Basilica,
    /// Machines named in the file of hosts.
    Ssh,
}

impl ProviderArg {
    fn named(name: &str) -> miette::Result<Self> {
        match name {
            basilica::NAME => Ok(Self::Basilica),
            hosts::NAME => Ok(Self::Ssh),
            other => Err(miette!(help = "use the version that has rented it", "this version has no provider {other:?}")),
        }
    }
}

/// Flags that all commands share.
#[derive(Clone, Debug, Args)]
pub struct PlaceFlags {
    /// The folder of the ledger, of prices and of keys for logging in [default: ~/.local/share/templar/rent].
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// The file of hosts for the provider ssh [default: hosts.toml in the ledger's folder].
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// Where Basilica's interface is.
    #[arg(long, value_name = "URL", default_value = basilica::BASE_URL)]
    api_url: String,
    /// Change nothing, neither here nor at the provider.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A provider that is ready to be asked.
pub enum Source {
    /// Basilica.
    Basilica(Basilica),
    /// Hosts of one's own.
    Hosts(Hosts),
}

impl Source {
    /// As any provider.
    pub fn provider(&self) -> &dyn Provider {
        match self {
            Self::Basilica(basilica) => basilica,
            Self::Hosts(hosts) => hosts,
        }
    }

    /// The shortest time that it charges, ms.
    pub fn charged_ms_min(&self) -> u64 {
        match self {
            Self::Basilica(_) => basilica::CHARGED_MS_MIN,
            Self::Hosts(_) => 0,
        }
    }
}

impl PlaceFlags {
    /// The ledger's folder.
    pub fn dir(&self) -> miette::Result<PathBuf> {
        let home = || std::env::home_dir().map(|home| home.join(".local/share/templar/rent"));
        self.ledger.clone().or_else(home).ok_or_else(|| miette!(help = "name it with --ledger", "the home folder is not known"))
    }

    /// The ledger, held by this process.
    pub fn open(&self) -> miette::Result<Ledger> {
        Ledger::open(&self.dir()?).into_diagnostic()
    }

    /// A provider.
    pub fn source(&self, which: ProviderArg) -> miette::Result<Source> {
        let dir = self.dir()?;
        match which {
            ProviderArg::Ssh => {
                let file = self.hosts.clone().unwrap_or_else(|| dir.join("hosts.toml"));
                Hosts::read(&file, &key_path(&dir), &known_hosts(&dir)).map(Source::Hosts).into_diagnostic()
            }
            ProviderArg::Basilica => {
                let token = token()?.ok_or_else(|| {
                    miette!(help = "make one at Basilica that may list and rent, and put it into .env", "{TOKEN_VARIABLE} is not set")
                })?;
                Basilica::new(&self.api_url, token, Duration::from_secs(2)).map(Source::Basilica).into_diagnostic()
            }
        }
    }

    /// The provider of an entry.
    pub fn source_of(&self, entry: &Entry) -> miette::Result<Source> {
        self.source(ProviderArg::named(&entry.provider)?)
    }

    /// How to log in at an entry's machine; `None` while it is being made.
    pub async fn ssh(&self, entry: &Entry, source: &Source) -> miette::Result<Option<Ssh>> {
        let id = entry.rental.as_deref().filter(|_| entry.stage.is_open() && entry.stage != Stage::Asked);
        let id = id.ok_or_else(|| miette!(help = "`templar rent list` shows what runs", "{} has no machine: {}", entry.key, entry.note))?;
        if let Source::Hosts(hosts) = source {
            return hosts.ssh(id).map(Some).into_diagnostic();
        }
        let address = source.provider().address(id).await.into_diagnostic()?;
        let dir = self.dir()?;
        Ok(address.map(|address| Ssh { address, key: key_path(&dir), known_hosts: known_hosts(&dir) }))
    }

    /// The entry of this name, its provider, and how to log in.
    pub async fn machine(&self, ledger: &Ledger, name: &str) -> miette::Result<(Entry, Ssh)> {
        let entry = ledger.find(name).into_diagnostic()?.clone();
        let source = self.source_of(&entry)?;
        let ssh = self.ssh(&entry, &source).await?;
        let ssh = ssh.ok_or_else(|| miette!(help = "try again in a minute", "the machine of {} is being made", entry.key))?;
        Ok((entry, ssh))
    }
}

/// The token, from the environment or from `.env`.
fn token() -> miette::Result<Option<Secret<String>>> {
    let set = std::env::var(TOKEN_VARIABLE).ok().filter(|value| !value.is_empty()).map(Secret::new);
    if set.is_some() {
        return Ok(set);
    }
    let Some(path) = crate::config::env_path() else { return Ok(None) };
    let pairs = templar_ops::settings::read_env_file(&path).into_diagnostic()?;
    Ok(pairs.into_iter().find(|(name, _)| name == TOKEN_VARIABLE).map(|(_, value)| value))
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join("id_ed25519")
}

fn known_hosts(dir: &Path) -> PathBuf {
    dir.join("known_hosts")
}

/// The public key that machines let in, made at first use; its private half stays in the ledger's folder.
pub fn public_key(dir: &Path) -> miette::Result<String> {
    let key = key_path(dir);
    if !key.is_file() {
        let words = ["-q", "-t", "ed25519", "-N", "", "-C", "templar-rent", "-f"];
        let made = Command::new("ssh-keygen").args(words).arg(&key).output().into_diagnostic();
        let made = made.wrap_err("ssh-keygen cannot be started; install an OpenSSH client")?;
        if !made.status.success() {
            return Err(miette!("no key for logging in can be made: {}", String::from_utf8_lossy(&made.stderr).trim()));
        }
    }
    let path = key.with_extension("pub");
    let text = std::fs::read_to_string(&path).into_diagnostic().wrap_err_with(|| format!("{} cannot be read", path.display()))?;
    Ok(text.trim().to_owned())
}

/// What a machine must have.
#[derive(Clone, Debug, Args)]
pub struct WantedFlags {
    /// A kind of GPU; a part of its name is enough.
    #[arg(long, value_name = "NAME")]
    pub gpu: Option<String>,
    /// Least number of GPUs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_gpus: u32,
    /// Least memory of each GPU, GB.
    #[arg(long, value_name = "GB", default_value_t = 0)]
    min_gpu_memory: u32,
    /// Least memory of the machine, GB.
    #[arg(long, value_name = "GB", default_value_t = 0)]
    min_memory: u32,
    /// Only in this country.
    #[arg(long, value_name = "CC")]
    country: Option<String>,
    /// Highest price for an hour, US dollars; offers without a price are not left out.
    #[arg(long, value_name = "USD")]
    max_price: Option<Usd>,
}

impl WantedFlags {
    /// As the providers take it.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            gpu: self.gpu.clone(),
            gpus_min: self.min_gpus,
            gpu_memory_gb_min: self.min_gpu_memory,
            memory_gb_min: self.min_memory,
            country: self.country.clone(),
            price_hour_max: self.max_price,
        }
    }
}
