//! Machines of one's own, or rented elsewhere, that are reached by SSH: named in a file, taken and given back by a lease on the machine itself.
//!
//! The lease is a file in the home of the user who logs in; it holds the ledger's key, and is made so that only one can. So two operators, or two ledgers, do
//! not take one machine, and what was taken can be found without any memory here.

use crate::money::Usd;
use crate::offer::{Market, Offer, Wanted};
use crate::provider::{Provider, ProviderError, Remote, RemoteState, StartRequest};
use crate::ssh::{Address, Ssh, SshError, quoted};
use async_trait::async_trait;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its name in errors, at the command line and in the ledger.
pub const NAME: &str = "ssh";
/// The lease on a machine, below the home of its user.
pub const LEASE_FILE: &str = ".templar-lease";
/// The largest file of hosts that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest that a machine is waited for.
const DEADLINE: Duration = Duration::from_secs(60);

/// A machine in the file of hosts.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Our name for it.
    pub name: String,
    /// `user@host:port`.
    pub address: String,
    /// The kind of its GPUs.
    #[serde(default)]
    pub gpu: String,
    /// Number of GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// Memory of each, GB.
    #[serde(default)]
    pub gpu_memory_gb: u32,
    /// Cores.
    #[serde(default)]
    pub cpu_cores: u32,
    /// Memory, GB.
    #[serde(default)]
    pub memory_gb: u32,
    /// Where it is.
    #[serde(default)]
    pub place: String,
    /// Its price for an hour, US dollars.
    pub price_per_hour: Option<f64>,
    /// The private key to log in with, instead of the ledger's.
    pub key: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    host: Vec<Host>,
}

/// Why a file of hosts cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used: {why}. It has a table [[host]] with name and address for each machine")]
pub struct HostsError {
    path: PathBuf,
    why: String,
}

/// The machines of a file.
#[derive(Debug)]
pub struct Hosts {
    hosts: Vec<(Host, Ssh, Option<Usd>)>,
}

impl Hosts {
    /// Reads and checks the file `path`; `key` and `known_hosts` are used to log in.
    ///
    /// # Errors
    /// It cannot be read, or has a key, an address, a name or a price that cannot be.
    pub fn read(path: &Path, key: &Path, known_hosts: &Path) -> Result<Self, HostsError> {
        let wrong = |why: String| HostsError { path: path.to_owned(), why };
        let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let contents: Contents = toml::from_str(&text).map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
        let mut hosts: Vec<(Host, Ssh, Option<Usd>)> = Vec::new();
        for host in contents.host {
            if host.name.is_empty() || hosts.iter().any(|(other, ..)| other.name == host.name) {
                return Err(wrong(format!("the name {:?} is empty or given twice", host.name)));
            }
            let address: Address = host.address.parse().map_err(|error| wrong(format!("{}: {error}", host.name)))?;
            let price = match host.price_per_hour {
                Some(price) => Some(Usd::from_dollars(price).ok_or_else(|| wrong(format!("{}: {price} is no price", host.name)))?),
                None => None,
            };
            let ssh = Ssh { address, key: host.key.clone().unwrap_or_else(|| key.to_owned()), known_hosts: known_hosts.to_owned() };
            hosts.push((host, ssh, price));
        }
        Ok(Self { hosts })
    }

    fn named(&self, name: &str) -> Result<&Ssh, ProviderError> {
        let found = self.hosts.iter().find(|(host, ..)| host.name == name).map(|(_, ssh, _)| ssh);
        found.ok_or_else(|| ProviderError::Refused { provider: NAME, why: format!("the file of hosts has no {name:?}") })
    }

    /// The machine of a rental, whose id is `NAME/KEY`.
    fn of_rental<'a>(&self, id: &'a str) -> Result<(&Ssh, &'a str), ProviderError> {
        let no_such = || ProviderError::NoSuchRental { provider: NAME, id: id.to_owned() };
        let (name, key) = id.rsplit_once('/').ok_or_else(no_such)?;
        Ok((self.named(name)?, key))
    }

    /// The way to log in at a rental's machine, with the key that the file names for it.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn ssh(&self, id: &str) -> Result<Ssh, ProviderError> {
        self.of_rental(id).map(|(ssh, _)| ssh.clone())
    }
}

/// The key in the lease of a machine; `None` where there is no lease.
async fn lease(ssh: &Ssh) -> Result<Option<String>, SshError> {
    let script = format!("head -c 64 {LEASE_FILE} 2>/dev/null || true");
    let text = ssh.must("reading the lease", &script, &[], DEADLINE).await?;
    let key: String = text.trim().chars().filter(|c| c.is_ascii_hexdigit()).collect();
    Ok((!key.is_empty()).then_some(key))
}

#[async_trait(?Send)]
impl Provider for Hosts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn planned_id(&self, offer: &str, key: &str) -> Option<String> {
        Some(format!("{offer}/{key}"))
    }

    /// Machines that answer and have no lease.
    async fn offers(&self, wanted: &Wanted) -> Result<Market, ProviderError> {
        let offer = |host: &Host, price: Option<Usd>| Offer {
            id: host.name.clone(),
            gpu: host.gpu.to_lowercase(),
            gpus: host.gpus,
            gpu_memory_gb: host.gpu_memory_gb,
            cpu_cores: host.cpu_cores,
            memory_gb: host.memory_gb,
            place: host.place.clone(),
            price_hour: price,
        };
        let candidates: Vec<(Offer, &Ssh)> = self.hosts.iter().map(|(host, ssh, price)| (offer(host, *price), ssh)).collect();
        let fitting = candidates.into_iter().filter(|(offer, _)| wanted.fits(offer));
        let asked = fitting.map(|(offer, ssh)| async move { (lease(ssh).await, offer) });
        let mut market = Market::default();
        for (lease, offer) in futures::future::join_all(asked).await {
            match lease {
                Ok(None) => market.offers.push(offer),
                Ok(Some(_)) => market.left_out.push(format!("{} is left out: it is rented already (`templar rent list`)", offer.id)),
                Err(error) => market.left_out.push(format!("{} is left out: {error}", offer.id)),
            }
        }
        Ok(market)
    }

    async fn start(&self, request: &StartRequest) -> Result<String, ProviderError> {
        let ssh = self.named(&request.offer.id)?;
        // The shell's noclobber makes the file only where there is none.
        let script = format!("umask 077; set -C; if cat > {LEASE_FILE}; then exit 0; else exit 17; fi");
        let answer = ssh.run("taking the machine", &script, request.key.as_bytes(), DEADLINE).await;
        match answer {
            Ok(answer) if answer.code == 0 => Ok(format!("{}/{}", request.offer.id, request.key)),
            Ok(_) => Err(ProviderError::Refused {
                provider: NAME,
                why: format!("{} is taken, or {LEASE_FILE} cannot be written there", request.offer.id),
            }),
            Err(error) => Err(error.unclear(NAME)),
        }
    }

    /// A machine that does not answer is listed as unknown, so that nothing on it counts as ended.
    async fn rentals(&self) -> Result<Vec<Remote>, ProviderError> {
        let asked = self.hosts.iter().map(|(host, ssh, _)| async move {
            let remote = |id: String, state| Remote { id, offer: host.name.clone(), state };
            match lease(ssh).await {
                Ok(Some(key)) => Some(remote(format!("{}/{key}", host.name), RemoteState::Running)),
                Ok(None) => None,
                Err(_) => Some(remote(format!("{}/?", host.name), RemoteState::Unknown)),
            }
        });
        Ok(futures::future::join_all(asked).await.into_iter().flatten().collect())
    }

    async fn address(&self, id: &str) -> Result<Option<Address>, ProviderError> {
        Ok(Some(self.of_rental(id)?.0.address.clone()))
    }

    /// Gives the lease back, if it is this rental's.
    async fn stop(&self, id: &str) -> Result<(), ProviderError> {
        let (ssh, key) = self.of_rental(id)?;
        let script = format!("if [ \"$(head -c 64 {LEASE_FILE} 2>/dev/null)\" = {} ]; then rm -f {LEASE_FILE}; fi", quoted(key));
        ssh.must("giving the machine back", &script, &[], DEADLINE).await.map(drop).map_err(|error| error.unclear(NAME))
    }

    async fn logs(&self, _id: &str, _tail: u32) -> Result<String, ProviderError> {
        Err(ProviderError::Unable { provider: NAME, what: "show a container's output; what the node printed is on the machine" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Hosts, HostsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts.toml");
        std::fs::write(&path, text).unwrap();
        Hosts::read(&path, Path::new("/k"), Path::new("/h"))
    }

    #[test]
    fn a_file_of_hosts_is_read_and_mistakes_are_named() {
        let good = read("[[host]]\nname = \"box\"\naddress = \"root@h:22\"\ngpus = 8\nprice_per_hour = 20.5\n").unwrap();
        assert_eq!(good.hosts[0].2, Some(Usd(20_500_000)));
        assert_eq!(good.named("box").unwrap().address.host, "h");
        for (text, want) in [
            ("[[host]]\nname = \"a\"\n", "address"),
            ("[[host]]\nname = \"a\"\naddress = \"h\"\n", "is no address"),
            ("[[host]]\nname = \"a\"\naddress = \"u@h\"\nprice = 3\n", "unknown field"),
            ("[[host]]\nname = \"a\"\naddress = \"u@h\"\nprice_per_hour = -1\n", "is no price"),
            ("[[host]]\nname = \"a\"\naddress = \"u@h\"\n[[host]]\nname = \"a\"\naddress = \"u@h\"\n", "given twice"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
