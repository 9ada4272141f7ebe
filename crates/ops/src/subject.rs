//! The node that is examined: what is configured, and the handles by which its world is reached.
//!
//! What always holds: values of variables that are secrets cannot be printed; whatever goes over the network has a deadline.

use crate::facts::{Facts, Missing};
use crate::machine::Machine;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use templar_chain::{Chain, Clock};
use templar_engine::{EngineRequest, Environment};
use templar_model::Recompute;
use templar_protocol::Netuid;
use templar_protocol::hparams::Hparams;
use templar_store::{
    Bucket, BucketConfig, BucketUrl, Credentials, Deadline, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, FaultPlan, Http, Pace, RetryPolicy,
    Secret,
};
use templar_wallet::{SecretState, SecretText, Slot, WalletDir};

/// The longest that one question to the network may take.
pub const ANSWER: Duration = Duration::from_secs(8);

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It trains.
    Miner,
    /// It judges.
    Validator,
    /// It judges, and publishes first: the validator with the most stake.
    Leader,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Miner, Self::Validator, Self::Leader];
    /// Those that set weights.
    pub const VALIDATORS: [Self; 2] = [Self::Validator, Self::Leader];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Miner => "miner",
            Self::Validator => "validator",
            Self::Leader => "leader",
        })
    }
}

/// Environment variables. Their values are shown by no `Debug`.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, Secret<String>>);

impl Variables {
    /// Those of this process whose names begin with one of the prefixes that this project or its reference reads.
    pub fn of_process() -> Self {
        let ours = |name: &str| ["TEMPLAR_", "R2_", "BT_", "HF_", "WANDB_", "DATASET_"].iter().any(|prefix| name.starts_with(prefix));
        Self::of(std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| ours(name))?;
            Some((name, value.to_string_lossy().into_owned()))
        }))
    }

    /// These variables.
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), Secret::new(value.to_owned()));
    }

    /// Forgets one.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// A value; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.expose().as_str()).filter(|value| !value.is_empty())
    }

    /// The names that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.expose().is_empty()).map(|(name, _)| name.as_str())
    }

    /// The access key of the own bucket, if both of its parts are set.
    pub fn credentials(&self) -> Option<Credentials> {
        Some(Credentials::new(self.get(ENV_ACCESS_KEY_ID)?, self.get(ENV_SECRET_ACCESS_KEY)?))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is configured for the node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it does.
    pub role: Role,
    /// The chain's endpoint.
    pub chain: String,
    /// The subnet.
    pub netuid: Netuid,
    /// The folder of wallets.
    pub wallet_path: PathBuf,
    /// The wallet.
    pub wallet: String,
    /// The hotkey.
    pub hotkey: String,
    /// The bucket's URL, as given.
    pub bucket: Option<String>,
    /// Further endpoints of the same bucket, as given.
    pub bucket_endpoints: Vec<String>,
    /// The node's directory.
    pub dir: Option<PathBuf>,
    /// Threads for training and codec.
    pub threads: usize,
    /// Hyper-parameters that the operator expects.
    pub params: Option<Hparams>,
    /// Which engine.
    pub engine: EngineRequest,
    /// What training computes again.
    pub recompute: Recompute,
    /// Whether moments are kept on the host between windows.
    pub offload_moments: bool,
    /// The file with settings, where there is one.
    pub config_file: Option<PathBuf>,
    /// The file with secrets, where there is one.
    pub env_file: Option<PathBuf>,
}

/// A node under examination.
pub struct Subject {
    /// What is configured.
    pub settings: Settings,
    /// Environment variables.
    pub variables: Variables,
    /// The password of the hotkey, where one was given.
    pub password: Option<SecretText>,
    /// Variables and platform as engines see them.
    pub engines: Environment,
    /// The machine.
    pub machine: Machine,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// This machine's time.
    pub clock: Arc<dyn Clock>,
    /// Connections to peers' buckets.
    pub http: Http,
    /// Connections to the own bucket.
    pub own_http: Http,
    /// What has been learned so far.
    pub facts: Facts,
}

/// Few attempts: an operator waits for the answer.
fn policy() -> RetryPolicy {
    RetryPolicy { attempts_max: 2, pace: Pace { base: ANSWER, bytes_per_s_min: 1 << 18 }, ..RetryPolicy::default() }
}

impl Subject {
    /// Now by this machine's clock, Unix ms.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The deadline of a small request.
    pub fn deadline(&self) -> Deadline {
        Deadline::within(ANSWER)
    }

    /// The wallets.
    pub fn wallets(&self) -> WalletDir {
        WalletDir::new(&self.settings.wallet_path)
    }

    /// The hotkey's place among the wallets.
    pub fn hotkey_slot(&self) -> Slot {
        Slot::hotkey(&self.settings.wallet, &self.settings.hotkey)
    }

    /// Whether the hotkey is encrypted, and no password was given: then only its public half is known.
    pub fn is_locked(&self) -> bool {
        let state = self.wallets().secret_state(&self.hotkey_slot());
        self.password.is_none() && matches!(state, Ok(Some(SecretState::Encrypted(_))))
    }

    /// The node's directory.
    ///
    /// # Errors
    /// None is configured.
    pub fn dir(&self) -> Result<&PathBuf, Missing> {
        self.settings.dir.as_ref().ok_or_else(|| Missing::new("no directory is configured", "node.directory"))
    }

    /// The own bucket's URL.
    ///
    /// # Errors
    /// None is configured, or it is none.
    pub fn bucket_url(&self) -> Result<BucketUrl, Missing> {
        let text = self.settings.bucket.as_deref().ok_or_else(|| Missing::new("no bucket is configured", "store.url"))?;
        BucketUrl::parse(text).map_err(|error| Missing::new(error.to_string(), "store.url"))
    }

    /// The own bucket, with the key that may write.
    ///
    /// # Errors
    /// There is no URL, or the bucket cannot be opened.
    pub fn own_bucket(&self) -> Result<Bucket, Missing> {
        let config = BucketConfig { credentials: self.variables.credentials(), ..BucketConfig::anonymous(self.bucket_url()?) };
        self.open(&config, &self.own_http)
    }

    /// The own bucket by each of its endpoints, the first one first.
    ///
    /// # Errors
    /// A URL is missing or is none, or a bucket cannot be opened.
    pub fn own_endpoints(&self) -> Result<Vec<Bucket>, Missing> {
        let mut endpoints = vec![self.own_bucket()?];
        for text in &self.settings.bucket_endpoints {
            let url = BucketUrl::parse(text).map_err(|error| Missing::new(error.to_string(), "store.url"))?;
            let config = BucketConfig { credentials: self.variables.credentials(), ..BucketConfig::anonymous(url) };
            endpoints.push(self.open(&config, &self.own_http)?);
        }
        Ok(endpoints)
    }

    /// A bucket as anybody sees it.
    ///
    /// # Errors
    /// It may not be reached from here, as a private address on a public network.
    pub fn anonymous(&self, url: BucketUrl) -> Result<Bucket, Missing> {
        self.open(&BucketConfig::anonymous(url), &self.http)
    }

    fn open(&self, config: &BucketConfig, http: &Http) -> Result<Bucket, Missing> {
        Bucket::open_with(config, http, policy(), FaultPlan::default()).map_err(|error| Missing::new(error.to_string(), "store.url"))
    }
}
