//! What is learned of the world once and then shared by all checks: the chain's head, the run, the journal, the engine.
//!
//! A fact that cannot be had is [`Missing`]: it says why, and which check tells the cause. That check turns it into a failure
//! ([`Missing::failure`]); all others turn it into a skip by `?`. So one cause gives one failure, and never a pass.

use crate::check::{Finding, fail, skip};
use crate::probe;
use crate::subject::{ANSWER, Subject};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use templar_chain::{At, BlockRef, ChainInfo, Commitment, Metagraph, Neuron, SubnetRules};
use templar_data::{DataManifest, Endpoint};
use templar_engine::plan::{GPUS, Gpu, Inner, Loss, Plan, PlanRequest, gpu_named, plan};
use templar_engine::{Engine, EngineKind, OpenOptions};
use templar_node::context::peer_url;
use templar_node::journal::{Entry, Line, WindowEntry};
use templar_node::recipe;
use templar_node::roster::{Member, Roster};
use templar_node::run::Run;
use templar_node::signed;
use templar_protocol::hparams::{Hparams, OptimizerType};
use templar_protocol::messages::{CheckpointPointer, Manifest, Message, RunDescriptor};
use templar_protocol::{AccountId, Uid, Window, names};
use templar_store::{Bucket, BucketUrl, ErrorKind};
use templar_wallet::Keypair;
use tokio::sync::OnceCell;

/// Windows before the present one whose manifests are looked for.
const MANIFESTS_BACK: u64 = 6;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// The reason.
    pub why: String,
    /// The check that tells the cause.
    pub see: &'static str,
}

impl Missing {
    /// Not known because of `why`, of which `see` tells more.
    pub fn new(why: impl Into<String>, see: &'static str) -> Self {
        Self { why: why.into(), see }
    }

    /// The failure of the check that tells the cause; a skip for any other cause than its own.
    pub fn failure(self, id: &str) -> Finding {
        if self.see == id { fail(self.why) } else { self.into() }
    }
}

impl From<Missing> for Finding {
    fn from(missing: Missing) -> Self {
        // The cause is told in full where it is examined.
        skip(format!("see {}", missing.see)).with("why", missing.why)
    }
}

/// A fact, or why it is missing.
pub type Fact<T> = Result<T, Missing>;
type Cell<T> = OnceCell<Fact<T>>;

/// What has been learned so far; empty at first.
#[derive(Default)]
pub struct Facts {
    info: Cell<ChainInfo>,
    head: Cell<BlockRef>,
    metagraph: Cell<Metagraph>,
    rules: Cell<SubnetRules>,
    commitments: Cell<BTreeMap<AccountId, Commitment>>,
    key: Cell<Arc<Keypair>>,
    run: Cell<Found>,
    data: Cell<DataSet>,
    pointer: Cell<Offer>,
    manifests: Cell<Vec<Manifest>>,
    journal: Cell<JournalTail>,
    engine: Cell<Engine>,
}

/// The run, and where it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The run.
    pub run: Run,
    /// The validator in whose bucket it is.
    pub from: Uid,
}

/// The data set of the run.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What it consists of.
    pub manifest: DataManifest,
    /// Where it is.
    pub endpoints: Vec<Endpoint>,
}

/// A checkpoint that a validator offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The pointer.
    pub pointer: CheckpointPointer,
    /// The bucket that has it.
    pub bucket: Bucket,
    /// Whose it is.
    pub from: Uid,
}

/// The end of a node's journal.
#[derive(Clone, Debug, Default)]
pub struct JournalTail {
    /// The entries that could be read, oldest first.
    pub lines: Vec<Line>,
    /// Lines that are no entries.
    pub unreadable: usize,
    /// Whether the last line is not complete.
    pub torn: bool,
    /// Size of the file, bytes.
    pub bytes: u64,
}

impl JournalTail {
    /// The windows that were lived, oldest first.
    pub fn windows(&self) -> Vec<&WindowEntry> {
        self.lines
            .iter()
            .filter_map(|line| match &line.entry {
                Entry::Window(window) => Some(&**window),
                _ => None,
            })
            .collect()
    }
}

async fn known<T: Clone, F: Future<Output = Fact<T>>>(cell: &Cell<T>, learn: impl FnOnce() -> F) -> Fact<T> {
    cell.get_or_init(learn).await.clone()
}

/// An answer of the chain, within [`ANSWER`].
async fn asked<T, E: Display>(what: impl Future<Output = Result<T, E>>) -> Fact<T> {
    const SEE: &str = "chain.reachable";
    match tokio::time::timeout(ANSWER, what).await {
        Ok(answer) => answer.map_err(|error| Missing::new(error.to_string(), SEE)),
        Err(_) => Err(Missing::new(format!("the chain did not answer within {} s", ANSWER.as_secs()), SEE)),
    }
}

impl Subject {
    /// Which chain it is.
    pub async fn info(&self) -> Fact<ChainInfo> {
        known(&self.facts.info, || asked(self.chain.info())).await
    }

    /// The newest block.
    pub async fn head(&self) -> Fact<BlockRef> {
        self.info().await?;
        known(&self.facts.head, || asked(self.chain.head(At::Best))).await
    }

    /// All neurons of the subnet.
    pub async fn metagraph(&self) -> Fact<Metagraph> {
        self.info().await?;
        known(&self.facts.metagraph, || async {
            let answer = asked(self.chain.metagraph(self.settings.netuid, At::Best)).await;
            answer.map_err(|missing| Missing::new(missing.why, "chain.subnet"))
        })
        .await
    }

    /// The subnet's rules.
    pub async fn rules(&self) -> Fact<SubnetRules> {
        self.metagraph().await?;
        known(&self.facts.rules, || asked(self.chain.subnet_rules(self.settings.netuid))).await
    }

    /// What hotkeys have committed to.
    pub async fn commitments(&self) -> Fact<BTreeMap<AccountId, Commitment>> {
        self.metagraph().await?;
        known(&self.facts.commitments, || asked(self.chain.commitments(self.settings.netuid, At::Best))).await
    }

    /// The hotkey.
    pub async fn key(&self) -> Fact<Arc<Keypair>> {
        const SEE: &str = "wallet.hotkey";
        known(&self.facts.key, || async {
            if self.is_locked() {
                return Err(Missing::new("the hotkey is encrypted, and no password was given", SEE));
            }
            let (wallets, password) = (self.wallets(), self.password.clone());
            let (wallet, hotkey) = (self.settings.wallet.clone(), self.settings.hotkey.clone());
            // An encrypted one takes seconds.
            let opening = tokio::task::spawn_blocking(move || wallets.open_hotkey(&wallet, &hotkey, password.as_ref()));
            let key = opening.await.map_err(|error| Missing::new(error.to_string(), SEE))?;
            key.map(Arc::new).map_err(|error| Missing::new(error.to_string(), SEE))
        })
        .await
    }

    /// The hotkey's address; of one that is encrypted and locked, from the file beside it.
    pub async fn hotkey(&self) -> Fact<AccountId> {
        match self.key().await {
            Ok(key) => Ok(key.public()),
            Err(missing) if self.is_locked() => {
                let public = self.wallets().public(&self.hotkey_slot()).ok().flatten();
                public.map(|public| public.account).ok_or(missing)
            }
            Err(missing) => Err(missing),
        }
    }

    /// The own neuron.
    pub async fn neuron(&self) -> Fact<Neuron> {
        let hotkey = self.hotkey().await?;
        let metagraph = self.metagraph().await?;
        metagraph
            .by_hotkey(&hotkey)
            .cloned()
            .ok_or_else(|| Missing::new(format!("the hotkey {hotkey} has no uid on subnet {}", self.settings.netuid), "chain.registered"))
    }

    /// Validators and miners, where the first `slots` validators may publish.
    pub async fn roster_of(&self, slots: u32) -> Fact<Roster> {
        let (metagraph, commitments) = (self.metagraph().await?, self.commitments().await?);
        Ok(Roster::new(&metagraph, slots, |hotkey| commitments.get(hotkey).and_then(|commitment| peer_url(&commitment.data))))
    }

    /// A member's bucket for reading; the own one with the own key.
    pub async fn bucket_of(&self, member: &Member) -> Option<Bucket> {
        if self.hotkey().await.is_ok_and(|hotkey| hotkey == member.hotkey)
            && let Ok(bucket) = self.own_bucket()
        {
            return Some(bucket);
        }
        self.anonymous(member.bucket.clone()?).ok()
    }

    /// The run of the subnet.
    pub async fn run(&self) -> Fact<Found> {
        let roster = self.roster_of(u32::MAX).await?;
        known(&self.facts.run, || self.find_run(roster)).await
    }

    async fn find_run(&self, roster: Roster) -> Fact<Found> {
        const SEE: &str = "run.descriptor";
        if roster.validators.is_empty() {
            return Err(Missing::new("the subnet has no validator with a permit and stake", "chain.leader"));
        }
        let mut why = Vec::new();
        for validator in &roster.validators {
            let Some(bucket) = self.bucket_of(validator).await else {
                let is_private = validator.bucket.as_ref().is_some_and(BucketUrl::is_private_host);
                why.push(if is_private {
                    format!("the bucket of uid {} is skipped, because its address is private; --private-peers takes it", validator.uid)
                } else {
                    format!("uid {} has committed to no bucket that can be read", validator.uid)
                });
                continue;
            };
            match bucket.get(names::RUN, RunDescriptor::BYTES_MAX, self.deadline()).await {
                Err(error) => why.push(format!("uid {}: {error}", validator.uid)),
                Ok(bytes) => match signed::open::<RunDescriptor>(&bytes) {
                    Ok(opened) if roster.validators.iter().any(|member| member.hotkey == opened.signer) => {
                        let run = Run { id: opened.digest, descriptor: opened.message, envelope: bytes };
                        return Ok(Found { run, from: validator.uid });
                    }
                    Ok(opened) => why.push(format!("uid {}: it is signed by {}, who is no validator", validator.uid, opened.signer)),
                    Err(error) => why.push(format!("uid {}: {error}", validator.uid)),
                },
            }
        }
        Err(Missing::new(format!("no validator offers a run: {}", why.join("; ")), SEE))
    }

    /// The hyper-parameters: the run's, or else those that the operator expects.
    pub async fn hparams(&self) -> Fact<Hparams> {
        match (self.run().await, &self.settings.params) {
            (Ok(found), _) => Ok(found.run.descriptor.hparams),
            (Err(_), Some(expected)) => Ok(expected.clone()),
            (Err(missing), None) => Err(missing),
        }
    }

    /// The data set of the run.
    pub async fn data(&self) -> Fact<DataSet> {
        let found = self.run().await?;
        known(&self.facts.data, || async move {
            const SEE: &str = "data.manifest";
            let reference = &found.run.descriptor.data;
            let mut endpoints = Vec::new();
            for place in &reference.places {
                let url = BucketUrl::parse_peer(place).map_err(|error| Missing::new(error.to_string(), SEE))?;
                let bucket = self.anonymous(url).map_err(|missing| Missing::new(missing.why, SEE))?;
                endpoints.push(Endpoint { name: place.clone(), store: bucket.object_store(), prefix: String::new() });
            }
            let fetched = tokio::time::timeout(ANSWER, templar_data::fetch_manifest(&endpoints, Some(reference.manifest))).await;
            let manifest =
                fetched.map_err(|_| Missing::new(format!("the data manifest did not come within {} s", ANSWER.as_secs()), SEE))?;
            Ok(DataSet { manifest: manifest.map_err(|error| Missing::new(error.to_string(), SEE))?, endpoints })
        })
        .await
    }

    /// The newest checkpoint that a validator offers.
    pub async fn pointer(&self) -> Fact<Offer> {
        let found = self.run().await?;
        let roster = self.roster_of(u32::MAX).await?;
        known(&self.facts.pointer, || self.find_pointer(found, roster)).await
    }

    async fn find_pointer(&self, found: Found, roster: Roster) -> Fact<Offer> {
        let (mut best, mut why) = (None::<Offer>, Vec::new());
        for validator in &roster.validators {
            let Some(bucket) = self.bucket_of(validator).await else { continue };
            let bytes = match bucket.get(names::CHECKPOINT_LATEST, CheckpointPointer::BYTES_MAX, self.deadline()).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    why.push(format!("uid {}: {error}", validator.uid));
                    continue;
                }
            };
            match signed::open::<CheckpointPointer>(&bytes) {
                Ok(opened) if opened.signer == validator.hotkey && opened.message.run == found.run.id => {
                    if best.as_ref().is_none_or(|offer| offer.pointer.next_window < opened.message.next_window) {
                        best = Some(Offer { pointer: opened.message, bucket, from: validator.uid });
                    }
                }
                Ok(_) => why.push(format!("uid {}: its pointer is of another run, or signed by another key", validator.uid)),
                Err(error) => why.push(format!("uid {}: {error}", validator.uid)),
            }
        }
        best.ok_or_else(|| Missing::new(format!("no validator offers a checkpoint: {}", why.join("; ")), "run.checkpoint"))
    }

    /// The present window of the run.
    pub async fn window(&self) -> Fact<Window> {
        let (found, head) = (self.run().await?, self.head().await?);
        Ok(Window::of_block(head.number, found.run.blocks_per_window()))
    }

    /// The manifests of the last six windows that are there, newest first.
    pub async fn manifests(&self) -> Fact<Vec<Manifest>> {
        let (found, now) = (self.run().await?, self.window().await?);
        let roster = self.roster_of(found.run.hparams().timetable.slots).await?;
        known(&self.facts.manifests, || self.find_manifests(found, roster, now)).await
    }

    async fn find_manifests(&self, found: Found, roster: Roster, now: Window) -> Fact<Vec<Manifest>> {
        let (mut manifests, mut why) = (Vec::new(), String::new());
        let oldest = now.0.saturating_sub(MANIFESTS_BACK).max(found.run.descriptor.start_window.0);
        for window in (oldest..now.0).rev().map(Window) {
            for slot in 0..found.run.hparams().timetable.slots.min(8) {
                let Some(publisher) = roster.publisher(slot) else { break };
                let Some(bucket) = self.bucket_of(publisher).await else { continue };
                match bucket.get(&names::manifest(window, slot), Manifest::BYTES_MAX, self.deadline()).await {
                    Ok(bytes) => match signed::open::<Manifest>(&bytes) {
                        Ok(opened) if opened.signer == publisher.hotkey && opened.message.run == found.run.id => {
                            manifests.push(opened.message);
                            break;
                        }
                        Ok(_) => why = format!("the manifest of window {window} is of another run, or signed by another key"),
                        Err(error) => why = format!("the manifest of window {window}: {error}"),
                    },
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => why = error.to_string(),
                }
            }
        }
        if manifests.is_empty() {
            let why = if why.is_empty() { format!("there is no manifest of windows {oldest} to {now}") } else { why };
            return Err(Missing::new(why, "run.alive"));
        }
        Ok(manifests)
    }

    /// The end of the node's journal.
    pub async fn journal(&self) -> Fact<JournalTail> {
        let dir = self.dir()?.clone();
        known(&self.facts.journal, || async move { probe::journal_tail(&dir) }).await
    }

    /// The last `most` windows that the node has lived, oldest first.
    pub async fn windows(&self, most: usize) -> Fact<Vec<WindowEntry>> {
        let tail = self.journal().await?;
        let windows = tail.windows();
        if windows.is_empty() {
            return Err(Missing::new("the journal tells of no window yet", "journal.window"));
        }
        Ok(windows[windows.len().saturating_sub(most)..].iter().map(|window| (*window).clone()).collect())
    }

    /// The engine, opened once.
    pub async fn engine(&self) -> Fact<Engine> {
        known(&self.facts.engine, || async {
            let (request, environment) = (self.settings.engine.clone(), self.engines.clone());
            let options = OpenOptions { memory_fraction: None, keep_compiled: false, ..OpenOptions::default() };
            let opened = tokio::task::spawn_blocking(move || templar_engine::open(&request, &environment, &options)).await;
            let opened = opened.map_err(|error| Missing::new(format!("opening the engine panicked: {error}"), "engine.opens"))?;
            opened.map_err(|error| Missing::new(error.to_string(), "engine.opens"))
        })
        .await
    }

    /// What the planner predicts for the run on this machine.
    pub async fn plan(&self) -> Fact<Plan> {
        let (hparams, engine) = (self.hparams().await?, self.engine().await?);
        let device = engine.devices.first().map_or("", |device| device.name.as_str());
        let gpu = match engine.kind {
            EngineKind::Cpu => gpu_named("cpu").ok(),
            EngineKind::Pjrt => GPUS.iter().find(|gpu| device.to_ascii_lowercase().replace(' ', "").contains(gpu.name)),
        };
        let gpu = gpu.ok_or_else(|| Missing::new(format!("the planner does not know the device {device:?}"), "engine.opens"))?;
        self.planned(&hparams, gpu, engine.devices.len())
    }

    /// What the run asks of network and disk, whatever trains.
    pub async fn traffic(&self) -> Fact<templar_engine::plan::Traffic> {
        let hparams = self.hparams().await?;
        let cpu = gpu_named("cpu").map_err(|error| Missing::new(error.to_string(), "engine.opens"))?;
        Ok(self.planned(&hparams, cpu, 1)?.traffic)
    }

    fn planned(&self, hparams: &Hparams, gpu: &'static Gpu, gpus: usize) -> Fact<Plan> {
        let unusable = |why: String| Missing::new(why, "run.hyper_parameters");
        let request = PlanRequest {
            model: recipe::llama(hparams, None).map_err(|error| unusable(error.to_string()))?,
            codec: recipe::codec(hparams),
            gpu,
            gpus,
            cores: self.machine.cores.max(1),
            batch: hparams.batch_size,
            micro_batch: None,
            inner_steps: hparams.inner_steps,
            window_ms: hparams.window_ms(),
            timetable: hparams.timetable,
            peers: hparams.gather_peer_count,
            recompute: self.settings.recompute,
            optimizer: if hparams.optimizer.kind == OptimizerType::Muon { Inner::Muon } else { Inner::AdamW },
            offload: self.settings.offload_moments,
            loss: Loss::Chunked { f32_bytes: 512 << 20 },
        };
        plan(&request).map_err(|error| unusable(error.to_string()))
    }

    /// The folder of the private state.
    pub fn state_dir(&self) -> Fact<PathBuf> {
        Ok(self.dir()?.join("state"))
    }
}

/// Whether there is something at `path`, even a link that leads nowhere.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
