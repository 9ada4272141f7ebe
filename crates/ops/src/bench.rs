//! What it takes to measure losses as the validators of a run do: a workspace of the run's model, and the shard of a step.
//!
//! The data set is believed only with the digest that the run's descriptor names.

use std::path::Path;
use std::sync::Arc;
use templar_data::{DataManifest, Endpoint, ShardCache, ShardReader};
use templar_model::{LlamaTrainer, TrainerOptions};
use templar_node::worker::Worker;
use templar_node::workspace::Workspace;
use templar_node::{join, recipe};
use templar_protocol::GlobalStep;
use templar_protocol::messages::RunDescriptor;
use templar_store::{Bucket, BucketConfig, BucketUrl, Http};
use templar_tensor::Executor;

/// From what a bench is made.
pub(crate) struct Means<'a> {
    /// Where the data set is; the places that the run names, when this is empty.
    pub data: &'a [Endpoint],
    /// Connections to buckets.
    pub http: &'a Http,
    /// What measures the losses.
    pub executor: &'a Arc<dyn Executor>,
    /// Threads for it.
    pub threads: usize,
    /// A folder for shards of the data set.
    pub cache: &'a Path,
}

/// What measuring needs besides θ.
pub(crate) struct Bench {
    /// The workspace; its θ is zero at first.
    pub worker: Worker<Workspace>,
    /// The shard of the step.
    pub reader: Arc<ShardReader>,
}

impl Bench {
    /// A bench for the model of `run` with the shard of `step`.
    pub async fn open(means: &Means<'_>, run: &RunDescriptor, step: GlobalStep) -> Result<Self, String> {
        let endpoints = if means.data.is_empty() { places(run, means.http)? } else { means.data.to_vec() };
        let manifest = templar_data::fetch_manifest(&endpoints, Some(run.data.manifest)).await;
        let manifest = manifest.map_err(|error| format!("the data set is not to be had ({error}); name it with --data"))?;
        join::check_data_set(run, &manifest)?;
        let worker = worker(means, run, &manifest)?;
        let rules = recipe::rotation(&run.hparams, u32::try_from(manifest.shards.len()).unwrap_or(u32::MAX));
        let cache = ShardCache::new(means.cache, manifest, endpoints, rules).map_err(|error| error.to_string())?;
        let reader = cache.at(step).await.map_err(|error| error.to_string())?;
        Ok(Self { worker, reader })
    }
}

fn places(run: &RunDescriptor, http: &Http) -> Result<Vec<Endpoint>, String> {
    let endpoint = |place: &String| {
        let url = BucketUrl::parse_peer(place).map_err(|error| format!("the data set's place {place}: {error}"))?;
        let bucket = Bucket::open(&BucketConfig::anonymous(url), http).map_err(|error| error.to_string())?;
        Ok(Endpoint { name: place.clone(), store: bucket.object_store(), prefix: String::new() })
    };
    run.data.places.iter().map(endpoint).collect()
}

fn worker(means: &Means<'_>, run: &RunDescriptor, manifest: &DataManifest) -> Result<Worker<Workspace>, String> {
    let hparams = &run.hparams;
    let unusable = |error: &dyn std::fmt::Display| format!("the run's model cannot be used here: {error}");
    let config = recipe::llama(hparams, Some(manifest.tokenizer.eos)).map_err(|error| unusable(&error))?;
    let trainer = LlamaTrainer::with_options(config, recipe::optimizer(hparams), means.executor.clone(), TrainerOptions::default());
    let trainer = trainer.map_err(|error| unusable(&error))?;
    let workspace = Workspace::new(hparams.clone(), Box::new(trainer)).map_err(|error| unusable(&error))?;
    Worker::start(means.threads, workspace).map_err(|error| unusable(&error))
}
