//! `templar verify`: whether a validator's published scores follow from what lies in its bucket.

use super::evidence::{EvidenceArgs, LocalStore, bucket};
use super::explain::missing;
use super::measuring::MeasuringFlags;
use crate::fit::fit;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use templar_chain::Chain;
use templar_data::Endpoint;
use templar_ops::verify::{Inputs, Outcome, Report, VerifyError, verify};
use templar_protocol::Window;
use templar_store::{Bucket, BucketConfig, BucketUrl, Http, Reach};
use templar_subtensor::{Network, Subtensor};

/// Exit code when something published is not what follows.
const DIFFERS: u8 = 3;
/// Exit code when nothing differs, but not all could be checked.
const INCOMPLETE: u8 = 4;

/// Compute a validator's scores of a window again, from the objects, the manifests and the checkpoints in its bucket and the data set.
///
/// Exit codes: 0 all agrees, 3 something differs, 4 nothing differs but not everything could be checked, 1 there is nothing to verify.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// The chain, which says what drew the evaluation and where other validators' buckets are [default: a localnet's own, when it runs].
    #[arg(long, value_name = "URL|NAME")]
    chain: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    measuring: MeasuringFlags,
}

/// What is read from where.
struct Places {
    bucket: Bucket,
    others: Vec<Bucket>,
    chain: Option<Arc<dyn Chain>>,
    data: Vec<Endpoint>,
    http: Http,
}

impl VerifyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is nothing to verify. That something differs is an exit code.
    pub fn run(self) -> miette::Result<ExitCode> {
        let runtime = crate::runtime()?;
        let report = runtime.block_on(self.verify());
        runtime.shutdown_background();
        let report = report?;
        if self.json {
            println!("{}", serde_json::to_string(&report).into_diagnostic()?);
        } else {
            print!("{}", fit(report.text()));
        }
        Ok(match report.outcome() {
            Outcome::Agrees => ExitCode::SUCCESS,
            Outcome::Differs => ExitCode::from(DIFFERS),
            Outcome::NotPossible => ExitCode::from(INCOMPLETE),
        })
    }

    async fn verify(&self) -> miette::Result<Report> {
        if let Some(url) = &self.evidence.validator {
            let (bucket, http) = bucket(url)?;
            return self.verify_at(Places { bucket, others: vec![], chain: self.chain()?, data: self.data()?, http }).await;
        }
        let store = LocalStore::open(self.evidence.dir()).await?;
        let verified = match self.local_places(&store).await {
            Ok(places) => self.verify_at(places).await,
            Err(error) => Err(error),
        };
        store.close().await;
        verified
    }

    async fn local_places(&self, store: &LocalStore) -> miette::Result<Places> {
        let http = Http::new(Reach::Anywhere).into_diagnostic()?;
        let others = store.network.validators.iter().filter(|name| **name != store.validator);
        let others = others.map(|name| store.bucket(name, &http)).collect::<miette::Result<_>>()?;
        let running = tokio::net::TcpStream::connect(store.network.chain).await.is_ok();
        let chain = match self.chain()? {
            None if running => Some(open_chain(&format!("http://{}", store.network.chain))?),
            chain => chain,
        };
        let mut data = self.data()?;
        if data.is_empty() {
            data = vec![endpoint(&BucketUrl::directory(&store.network.dir.join("data")), &http)?];
        }
        Ok(Places { bucket: store.bucket(&store.validator, &http)?, others, chain, data, http })
    }

    async fn verify_at(&self, places: Places) -> miette::Result<Report> {
        let Places { bucket, others, chain, data, http } = places;
        let temporary =
            tempfile::tempdir().into_diagnostic().wrap_err("a folder for the data set cannot be made; name one with --cache")?;
        let inputs = Inputs {
            bucket,
            others,
            chain,
            data,
            http,
            executor: self.measuring.executor()?,
            threads: self.measuring.threads(),
            cache: self.measuring.cache_or(temporary.path()),
            window: self.evidence.window.map(Window),
        };
        verify(&inputs).await.map_err(|VerifyError::Sheets(error)| missing(&error))
    }

    fn chain(&self) -> miette::Result<Option<Arc<dyn Chain>>> {
        self.chain.as_deref().map(open_chain).transpose()
    }

    fn data(&self) -> miette::Result<Vec<Endpoint>> {
        data_set(self.measuring.data.as_deref())
    }
}

/// The data set that `--data` names: a directory or a bucket's URL; nothing without it.
///
/// # Errors
/// It is neither.
pub fn data_set(data: Option<&str>) -> miette::Result<Vec<Endpoint>> {
    let Some(data) = data else { return Ok(vec![]) };
    let url = if data.contains("://") {
        BucketUrl::parse(data).into_diagnostic().wrap_err("--data is neither a directory nor a bucket's URL")?
    } else {
        let dir = Path::new(data).canonicalize().into_diagnostic().wrap_err_with(|| format!("the data set in {data} cannot be found"))?;
        BucketUrl::directory(&dir)
    };
    Ok(vec![endpoint(&url, &Http::new(Reach::Anywhere).into_diagnostic()?)?])
}

fn open_chain(chain: &str) -> miette::Result<Arc<dyn Chain>> {
    let network = chain.parse::<Network>().into_diagnostic().wrap_err("--chain is no chain's endpoint")?;
    Ok(Arc::new(Subtensor::new(network)))
}

/// The data set in the bucket at `url`.
///
/// # Errors
/// The bucket cannot be opened.
pub fn endpoint(url: &BucketUrl, http: &Http) -> miette::Result<Endpoint> {
    let bucket = Bucket::open(&BucketConfig::anonymous(url.clone()), http).into_diagnostic()?;
    Ok(Endpoint { name: url.to_string(), store: bucket.object_store(), prefix: String::new() })
}
