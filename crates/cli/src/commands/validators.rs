//! Where a command finds the validators of a run: a bucket that is named, the localnet around a directory, or the chain.

use super::evidence::{LocalStore, bucket};
use super::network::{NetuidFlag, NetworkFlags};
use super::node::is_local;
use super::verify::{data_set, endpoint};
use clap::Args;
use miette::{IntoDiagnostic, miette};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use templar_chain::{At, Chain};
use templar_data::Endpoint;
use templar_node::context::peer_url;
use templar_node::roster::Roster;
use templar_protocol::{AccountId, Netuid};
use templar_store::{Bucket, BucketConfig, BucketUrl, Http, Reach};
use templar_subtensor::{Network, Subtensor};

/// Which node, and which network.
#[derive(Clone, Debug, Args)]
pub struct ValidatorFlags {
    /// The node's directory; it says who the node is, and where the network is if that is a localnet.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The URL of a validator's bucket [default: the validators of the localnet around --dir, or those that the chain names].
    #[arg(long, value_name = "URL")]
    validator: Option<String>,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    netuid: NetuidFlag,
}

/// The validators of a run.
pub struct Validators {
    /// Their buckets, for anonymous reading; the one whose word counts first.
    pub buckets: Vec<Bucket>,
    /// Connections to them.
    pub http: Http,
    /// The data set, where it is known without the run.
    pub data: Vec<Endpoint>,
    /// The chain, if it was asked or runs here.
    pub chain: Option<Arc<dyn Chain>>,
    /// The subnet on it.
    pub netuid: Netuid,
    store: Option<LocalStore>,
}

impl ValidatorFlags {
    /// The node's directory.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Finds the validators.
    ///
    /// # Errors
    /// A name is wrong, the chain does not answer, or it knows no validator with a bucket.
    pub async fn open(&self) -> miette::Result<Validators> {
        let netuid = Netuid(self.netuid.netuid()?);
        if let Some(url) = &self.validator {
            let (bucket, http) = bucket(url)?;
            return Ok(Validators { buckets: vec![bucket], http, data: vec![], chain: None, netuid, store: None });
        }
        match &self.dir {
            Some(dir) => match LocalStore::around(dir).await? {
                Some(store) => local(store).await,
                None => self.on_chain(netuid).await,
            },
            None => self.on_chain(netuid).await,
        }
    }

    /// The buckets of the validators that the chain knows, by falling stake.
    async fn on_chain(&self, netuid: Netuid) -> miette::Result<Validators> {
        let network = self.network.network()?;
        let reach = if network.endpoints().iter().all(|endpoint| is_local(endpoint)) { Reach::Anywhere } else { Reach::Public };
        let http = Http::new(reach).into_diagnostic()?;
        let chain = Subtensor::new(network);
        let metagraph = chain.metagraph(netuid, At::Best).await.into_diagnostic()?;
        let commitments = chain.commitments(netuid, At::Best).await.into_diagnostic()?;
        let url = |hotkey: &AccountId| commitments.get(hotkey).and_then(|commitment| peer_url(&commitment.data));
        let roster = Roster::new(&metagraph, u32::MAX, url);
        let urls = roster.validators.iter().filter_map(|member| member.bucket.clone());
        let buckets: Vec<Bucket> = urls.filter_map(|url| Bucket::open(&BucketConfig::anonymous(url), &http).ok()).collect();
        if buckets.is_empty() {
            let help = "name a validator's bucket with --validator, or another subnet with --netuid";
            return Err(miette!(help = help, "no validator of subnet {netuid} has committed a bucket that can be read"));
        }
        Ok(Validators { buckets, http, data: vec![], chain: Some(Arc::new(chain)), netuid, store: None })
    }
}

async fn local(store: LocalStore) -> miette::Result<Validators> {
    let http = Http::new(Reach::Anywhere).into_diagnostic()?;
    let buckets = store.network.validators.iter().map(|name| store.bucket(name, &http)).collect::<miette::Result<_>>()?;
    let data = vec![endpoint(&BucketUrl::directory(&store.network.dir.join("data")), &http)?];
    let runs = tokio::net::TcpStream::connect(store.network.chain).await.is_ok();
    let network = runs.then(|| format!("http://{}", store.network.chain).parse::<Network>().into_diagnostic()).transpose()?;
    let chain = network.map(|network| Arc::new(Subtensor::new(network)) as Arc<dyn Chain>);
    Ok(Validators { buckets, http, data, chain, netuid: super::localnet::NETUID, store: Some(store) })
}

impl Validators {
    /// The data set that `--data` names, or the one that is known.
    ///
    /// # Errors
    /// It is neither a directory nor a bucket's URL.
    pub fn data(&self, named: Option<&str>) -> miette::Result<Vec<Endpoint>> {
        let data = data_set(named)?;
        Ok(if data.is_empty() { self.data.clone() } else { data })
    }

    /// Ends what this process has served.
    pub async fn close(self) {
        if let Some(store) = self.store {
            store.close().await;
        }
    }
}
