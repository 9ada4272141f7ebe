//! Starting a run: the initial θ, checkpoint 0, and the run descriptor that names them.
//!
//! The descriptor is put last. A start that is interrupted is begun again; one that is complete is found and kept, so starting twice is
//! the same as starting once.

use crate::context::{Context, SMALL_REQUEST};
use crate::join::JoinError;
use crate::model_dir;
use crate::node::NodeError;
use crate::recipe;
use crate::run::Run;
use crate::signed;
use std::path::{Path, PathBuf};
use templar_data::{DataManifest, Endpoint};
use templar_model::{LlamaConfig, checkpoint, initialise};
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::{CheckpointPointer, DataReference, Message, PROTOCOL_VERSION, RunDescriptor};
use templar_protocol::{Digest, GlobalStep, Theta, ThetaDigest, Window, names};
use templar_store::{Bucket, BucketConfig, BucketUrl};

/// The seed of the initial θ (spec miner-and-trainer §17.4). θ is distributed as checkpoint 0, so nobody depends on the generator.
const INIT_SEED: u64 = 42;
/// A run starts in the present window if at most this share of it, one in so many, has passed.
const START_SHARE: u64 = 4;

/// What the leader decides when it starts a run.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// The hyper-parameters.
    pub hparams: Hparams,
    /// Where the data set is, for everybody to read.
    pub data: BucketUrl,
    /// A model directory ([`model_dir::open`]) whose parameters are the initial θ; without one it is drawn.
    pub from: Option<PathBuf>,
}

/// Starts a run from this node's bucket, unless it already holds one.
///
/// # Errors
/// The data set cannot be read, the hyper-parameters are not usable, or the bucket refuses.
pub async fn start_run(ctx: &Context, start: &StartRun) -> Result<(), NodeError> {
    let failed = |why: String| NodeError::Join(JoinError::Start(why));
    let existing = ctx.bucket.get_if_exists(names::RUN, RunDescriptor::BYTES_MAX, ctx.deadline(0, SMALL_REQUEST)).await;
    if let Some(bytes) = existing.map_err(|error| failed(error.to_string()))? {
        let opened = signed::open::<RunDescriptor>(&bytes);
        let run = opened.map_err(|error| failed(format!("the bucket holds a {} that does not count: {error}", names::RUN)))?.message;
        if run.hparams_digest != start.hparams.digest() {
            let keys: Vec<String> = start.hparams.diff(&run.hparams).into_iter().map(|difference| difference.key).collect();
            return Err(failed(format!(
                "the bucket already holds a run whose hyper-parameters differ in {}; start another run from an empty bucket",
                keys.join(", ")
            )));
        }
        return Ok(());
    }
    let hparams = &start.hparams;
    hparams.validate().map_err(|error| failed(error.to_string()))?;
    let bucket = Bucket::open(&BucketConfig::anonymous(start.data.clone()), &ctx.http).map_err(|error| failed(error.to_string()))?;
    let endpoint = Endpoint { name: start.data.to_string(), store: bucket.object_store(), prefix: String::new() };
    let manifest = templar_data::fetch_manifest(&[endpoint], None).await?;
    let config = recipe::llama(hparams, Some(manifest.tokenizer.eos))?;
    let specs = config.params();
    let theta = match &start.from {
        Some(dir) => saved_theta(dir, &config, &manifest).map_err(failed)?,
        None => initialise(&config, INIT_SEED)?,
    };
    let digest = ThetaDigest::of(&specs, &theta);
    let file = checkpoint::encode(&specs, &theta, &checkpoint::Metadata::new())?;
    let file_digest = Digest::of(&file);
    let descriptor = RunDescriptor {
        protocol: PROTOCOL_VERSION,
        netuid: ctx.netuid,
        hparams: hparams.clone(),
        hparams_digest: hparams.digest(),
        tokenizer: manifest.tokenizer.digest,
        data: DataReference {
            manifest: manifest.digest().map_err(|error| failed(error.to_string()))?,
            places: vec![start.data.to_string()],
        },
        initial_checkpoint: file_digest,
        initial_theta: digest.root,
        start_window: start_window(ctx, hparams).await?,
        started_ms: ctx.now_ms(),
    };
    let envelope = signed::sign(&descriptor, &*ctx.key).map_err(|error| failed(error.to_string()))?;
    let run = signed::open::<RunDescriptor>(&envelope).map_err(|error| failed(error.to_string()))?.digest;
    let pointer = CheckpointPointer {
        run,
        next_window: descriptor.start_window,
        global_step: GlobalStep(0),
        file: file_digest,
        file_bytes: file.len() as u64,
        theta: digest.root,
        theta_parts: digest.parts,
        manifest: None,
    };
    let pointer = signed::sign(&pointer, &*ctx.key).map_err(|error| failed(error.to_string()))?;
    let puts = [
        (names::checkpoint(&file_digest), file),
        (names::checkpoint_pointer(descriptor.start_window), pointer.clone()),
        (names::CHECKPOINT_LATEST.into(), pointer),
        (names::RUN.into(), envelope),
    ];
    for (name, bytes) in puts {
        ctx.bucket.put(&name, bytes.into()).await.map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// The parameters of the model in `dir`, which must be a model of `config` that reads the tokens of the data set.
fn saved_theta(dir: &Path, config: &LlamaConfig, data: &DataManifest) -> Result<Theta, String> {
    let mut model = model_dir::open(dir).map_err(|error| error.to_string())?;
    if let Some(tokenizer) = &model.tokenizer
        && tokenizer.digest() != data.tokenizer.digest
    {
        return Err(format!(
            "the data set was made with another tokenizer than that of the model in {}; prepare it anew with the model's (`templar data prepare \
             --tokenizer`)",
            model.dir().display()
        ));
    }
    model.theta_for(config).map_err(|error| error.to_string())
}

async fn start_window(ctx: &Context, hparams: &Hparams) -> Result<Window, NodeError> {
    let head = ctx.head().await?;
    let window = Window::of_block(head.number, hparams.blocks_per_window);
    let passed = head.number.0 - window.first_block(hparams.blocks_per_window).0;
    Ok(if passed * START_SHARE <= hparams.blocks_per_window { window } else { window.next() })
}

/// Keeps a copy of the run's descriptor in this validator's bucket, so that joiners find it when the leader is gone.
pub async fn keep_descriptor(ctx: &Context, run: &Run) {
    let known = ctx.bucket.head(names::RUN, ctx.deadline(0, SMALL_REQUEST)).await;
    if known.is_err_and(|error| error.is_not_found())
        && let Err(error) = ctx.bucket.put(names::RUN, run.envelope.clone()).await
    {
        ctx.warn(format!("the run's descriptor could not be copied to the own bucket: {error}"));
    }
}
