//! Where `explain` and `verify` find what a validator has published: a directory on this machine, or a bucket anywhere.

use super::localnet::{Known, known};
use clap::Args;
use miette::{IntoDiagnostic, miette};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use templar_s3::{Access, S3Config, Server, ServerHandle};
use templar_store::{Bucket, BucketConfig, BucketUrl, Http, Reach};

/// How often an access file is read again; here it does not change.
const ACCESS_INTERVAL: Duration = Duration::from_secs(3600);

/// The directory without any flag.
const DIR: &str = "localnet";

/// Which validator.
#[derive(Clone, Debug, Args)]
pub struct EvidenceArgs {
    /// The URL of the validator's bucket.
    #[arg(long, value_name = "URL", conflicts_with = "dir")]
    pub validator: Option<String>,
    /// A localnet's directory, or that of one of its validators [default: localnet].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The window [default: the newest that was scored].
    #[arg(long, value_name = "W")]
    pub window: Option<u64>,
}

impl EvidenceArgs {
    /// The directory, given or by default.
    pub fn dir(&self) -> &Path {
        self.dir.as_deref().unwrap_or(Path::new(DIR))
    }
}

/// The bucket at `url`, for anonymous reading.
///
/// # Errors
/// It is no bucket's URL.
pub fn bucket(url: &str) -> miette::Result<(Bucket, Http)> {
    let url = BucketUrl::parse_peer(url).map_err(|error| {
        miette!(
            help = "give it as the chain has it, for example http://127.0.0.1:9000/validator-0",
            "--validator is no bucket's URL: {error}"
        )
    })?;
    // A bucket on this machine or in its network was named by hand; its neighbours may be there, too.
    let http = Http::new(if url.is_private_host() { Reach::Anywhere } else { Reach::Public }).into_diagnostic()?;
    Ok((Bucket::open(&BucketConfig::anonymous(url), &http).into_diagnostic()?, http))
}

/// A localnet's store, as it runs or served by this process for as long as this lives.
pub struct LocalStore {
    /// The network.
    pub network: Known,
    /// The validator that is meant.
    pub validator: String,
    address: SocketAddr,
    served: Option<ServerHandle>,
}

impl LocalStore {
    /// The store of the localnet in `dir`, which may also be a validator's directory in it.
    ///
    /// # Errors
    /// There is no localnet, or its store can neither be reached nor be served.
    pub async fn open(dir: &Path) -> miette::Result<Self> {
        let (network, validator) = find(dir)?;
        Self::of(network, validator).await
    }

    /// The store of the localnet around a node's directory, and its first validator; none where the node is in no localnet.
    ///
    /// # Errors
    /// The localnet's file is damaged, or its store can neither be reached nor be served.
    pub async fn around(dir: &Path) -> miette::Result<Option<Self>> {
        let Some(root) = dir.canonicalize().ok().and_then(|dir| Some(dir.parent()?.parent()?.to_owned())) else { return Ok(None) };
        let Some(network) = known(&root)? else { return Ok(None) };
        let first = network.validators.first().cloned().unwrap_or_default();
        Ok(Some(Self::of(network, first).await?))
    }

    async fn of(network: Known, validator: String) -> miette::Result<Self> {
        if tokio::net::TcpStream::connect(network.store).await.is_ok() {
            return Ok(Self { address: network.store, network, validator, served: None });
        }
        let access = Access::file(&network.dir.join("access.json"), ACCESS_INTERVAL).into_diagnostic()?;
        let config = S3Config::new(network.dir.join("store"), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), access);
        let server = Server::bind(config).await.into_diagnostic()?.spawn();
        Ok(Self { address: server.address(), network, validator, served: Some(server) })
    }

    /// The bucket called `name`.
    ///
    /// # Errors
    /// Never for the names of a localnet.
    pub fn bucket(&self, name: &str, http: &Http) -> miette::Result<Bucket> {
        let url = BucketUrl::local(self.address, name).into_diagnostic()?;
        Bucket::open(&BucketConfig::anonymous(url), http).into_diagnostic()
    }

    /// Ends what this process has served.
    pub async fn close(self) {
        if let Some(served) = self.served {
            served.stop().await;
        }
    }
}

fn find(dir: &Path) -> miette::Result<(Known, String)> {
    if let Some(network) = known(dir)? {
        let first = network.validators.first().cloned().unwrap_or_default();
        return Ok((network, first));
    }
    let missing = || {
        miette!(
            help = "name a localnet's directory with --dir, or a validator's bucket with --validator",
            "there is no localnet in {}",
            dir.display()
        )
    };
    let above = dir.canonicalize().ok().and_then(|dir| Some((dir.parent()?.parent()?.to_owned(), dir.file_name()?.to_str()?.to_owned())));
    let (root, name) = above.ok_or_else(missing)?;
    let network = known(&root)?.filter(|network| network.validators.contains(&name));
    Ok((network.ok_or_else(missing)?, name))
}
