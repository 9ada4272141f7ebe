//! A node that has joined a run, and the part of its work that miners and validators share.

use crate::context::{Context, WindowTimes};
use crate::decide::{Decided, ManifestRead};
use crate::follow::Ending;
use crate::join::{self, JoinError};
use crate::journal::{Entry, PlanEntry, WindowEntry, trouble};
use crate::position::Position;
use crate::profile::{PROFILES_DIR, Profiler};
use crate::recipe;
use crate::roster::Roster;
use crate::round::{Gathered, Round};
use crate::run::Run;
use crate::timeline::{PHASES, Timeline};
use crate::validator::fates::HELD;
use crate::worker::{Worker, WorkerGone};
use crate::workspace::{WorkError, Workspace};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use templar_chain::ChainError;
use templar_codec::{Expect, Opened, max_object_bytes};
use templar_data::{CacheError, ShardCache, ShardReader};
use templar_model::{LlamaTrainer, ModelError, Recompute, TrainerOptions};
use templar_protocol::hparams::Hparams;
use templar_protocol::sampler::{Assignment, SamplerError};
use templar_protocol::{GlobalStep, Uid, Window};
use templar_tensor::Executor;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It could not join.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The chain refused for good.
    #[error("the chain refused: {0}")]
    Chain(#[from] ChainError),
    /// The worker is gone.
    #[error(transparent)]
    Worker(#[from] WorkerGone),
    /// The model or the engine.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The data set.
    #[error("the data cannot be had: {0}")]
    Data(#[from] CacheError),
    /// The data set is too small for the run.
    #[error("the data set does not suffice: {0}")]
    Sampler(#[from] SamplerError),
    /// The private state.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// The node's directory or a thread.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<ModelError> for NodeError {
    fn from(error: ModelError) -> Self {
        Self::Work(error.into())
    }
}

/// What an operator sets for a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The node's directory: state, data and journal.
    pub dir: PathBuf,
    /// Worker threads.
    pub threads: usize,
    /// Hyper-parameters that the run must have, if the operator names some.
    pub expected: Option<Hparams>,
    /// Windows whose training or evaluation is profiled, from the first on.
    pub profile_windows: u32,
    /// Whether the optimiser's moments are in host memory between windows.
    pub offload_moments: bool,
    /// What training computes again instead of keeping it in the engine's memory.
    pub recompute: Recompute,
    /// Sequences in one pass, instead of the run's own number.
    pub micro_batch: Option<NonZeroUsize>,
}

/// A node that has joined.
pub struct Node {
    /// The world.
    pub ctx: Arc<Context>,
    /// The run.
    pub run: Run,
    /// The heavy state.
    pub worker: Worker<Workspace>,
    /// The data set.
    pub cache: ShardCache,
    /// The round whose end is being followed.
    round: Option<Round>,
    gathered: Option<(Vec<Opened>, Gathered)>,
    phases: BTreeMap<String, u64>,
    executor: Arc<dyn Executor>,
    profiler: Profiler,
    timeline: Timeline,
    object_bytes_max: u64,
    /// The last complaint about a manifest, so that polling does not repeat it.
    complaint: String,
    /// Whether the uid was this hotkey's when a round was last opened.
    registered: bool,
}

impl Node {
    /// Finds the run, its data and its newest checkpoint, and loads θ.
    ///
    /// # Errors
    /// The run cannot be followed by this node.
    pub async fn join(ctx: Arc<Context>, settings: &NodeSettings, executor: Arc<dyn Executor>) -> Result<(Self, Position), NodeError> {
        join::announce_bucket(&ctx).await?;
        let run = join::find_run(&ctx, settings.expected.as_ref()).await?;
        let (manifest, endpoints) = join::data_set(&ctx, &run).await?;
        let eos = manifest.tokenizer.eos;
        let rules = recipe::rotation(run.hparams(), u32::try_from(manifest.shards.len()).unwrap_or(u32::MAX));
        let cache = ShardCache::new(&settings.dir.join("data"), manifest, endpoints, rules)?;
        let (config, optimizer) = (recipe::llama(run.hparams(), Some(eos))?, recipe::optimizer(run.hparams()));
        let options = TrainerOptions { recompute: settings.recompute, ..TrainerOptions::default() };
        let trainer = LlamaTrainer::with_options(config, optimizer, executor.clone(), options)?;
        let timeline = Timeline::default();
        let profiler = Profiler::new(executor.clone(), settings.dir.join(PROFILES_DIR), settings.profile_windows, timeline.clone());
        let workspace = Workspace::new(run.hparams().clone(), Box::new(trainer))?.with(settings.offload_moments, timeline.clone());
        let workspace = workspace.with_micro_batch(settings.micro_batch);
        let started = Worker::start(settings.threads, workspace);
        let worker = started.map_err(|source| NodeError::Io { what: "the worker threads could not be started".into(), source })?;
        let object_bytes_max = worker.run(|work| max_object_bytes(work.layout()) as u64).await?;
        let (phases, complaint) = (BTreeMap::new(), String::new());
        let (round, gathered) = (None, None);
        let node = Self {
            ctx,
            run,
            worker,
            cache,
            round,
            gathered,
            phases,
            executor,
            profiler,
            timeline,
            object_bytes_max,
            complaint,
            registered: false,
        };
        let position = node.load_checkpoint().await?;
        node.ctx.note(Entry::Joined {
            run: node.run.id,
            window: position.window,
            global_step: position.global_step,
            state_digest: position.theta,
        });
        Ok((node, position))
    }

    /// Loads the newest checkpoint into the workspace.
    ///
    /// # Errors
    /// There is none.
    pub async fn load_checkpoint(&self) -> Result<Position, NodeError> {
        let specs = self.worker.run(|work| work.specs().to_vec()).await?;
        let (theta, position) = join::newest_checkpoint(&self.ctx, &self.run, &specs).await?;
        self.worker.run(move |work| work.set_theta(theta)).await??;
        Ok(position)
    }

    /// Runs `phase` and adds its time to the window's entry.
    pub async fn timed<T>(&mut self, phase: &str, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = work.await;
        self.add_time(phase, begun);
        result
    }

    /// Adds the time since `begun` to a phase of the window.
    pub fn add_time(&mut self, phase: &str, begun: Instant) {
        let took = self.timeline.add(PHASES, phase, begun);
        *self.phases.entry(phase.to_owned()).or_default() += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    }

    /// Begins to profile what the engine does for `window`, if that is wanted.
    pub async fn begin_profile(&mut self, window: Window) {
        if let Err(error) = self.profiler.begin(window).await {
            self.ctx.warn(format!("window {window} is profiled without the engine: {error}"));
        }
    }

    /// Ends the profile of the engine; what it holds is read while the node goes on.
    pub fn end_profile(&mut self) {
        self.profiler.end();
    }

    /// Writes the profile of `window`, if there is one; `what` was profiled.
    pub async fn write_profile(&mut self, window: Window, what: &'static str) {
        if let Err(error) = self.profiler.write(window, what).await {
            self.ctx.warn(format!("the profile of window {window} is lost or incomplete: {error}"));
        }
    }

    /// When `window` began and, if it is over, how it ended.
    ///
    /// # Errors
    /// The chain refused for good.
    pub async fn look(&mut self, window: Window) -> Result<(WindowTimes, Option<Ending>), NodeError> {
        let times = self.ctx.window_times(window, self.run.blocks_per_window(), self.run.block_ms()).await?;
        let ending = match times.next_start_ms {
            Some(next_start_ms) => Some(self.open_round(window, next_start_ms).await?),
            None => None,
        };
        Ok((times, ending))
    }

    /// Waits until `window` has ended and the first block after it has passed; gives the present instant and how it ended.
    ///
    /// # Errors
    /// The chain refused for good.
    pub async fn await_reveal(&mut self, window: Window) -> Result<(u64, Ending), NodeError> {
        let first = window.next().first_block(self.run.blocks_per_window());
        let next_start_ms = self.ctx.wait_for_block(first, self.run.block_ms()).await?;
        self.ctx.clock.sleep_until(self.run.hparams().timetable.reveal_ms(next_start_ms)).await;
        let ending = self.open_round(window, next_start_ms).await?;
        Ok((self.ctx.now_ms(), ending))
    }

    async fn open_round(&mut self, window: Window, next_start_ms: u64) -> Result<Ending, NodeError> {
        let first = window.next().first_block(self.run.blocks_per_window());
        let roster = self.ctx.roster(first, self.run.hparams().timetable.slots).await?;
        self.check_registered(window, &roster);
        let ending = roster.ending(next_start_ms, &self.ctx.hotkey());
        let patience_ms = self.run.hparams().timetable.gather_ms;
        self.round = Some(Round { window, roster, next_start_ms, object_bytes_max: self.object_bytes_max, patience_ms });
        Ok(ending)
    }

    /// Says so when the chain has given the uid to another hotkey: no validator waits for this node any more.
    fn check_registered(&mut self, window: Window, roster: &Roster) {
        let (uid, hotkey) = (self.ctx.uid, self.ctx.hotkey());
        let registered = roster.member(uid).is_some_and(|member| member.hotkey == hotkey);
        // Windows before the registration, which a new node may follow, are no news.
        if std::mem::replace(&mut self.registered, registered) && !registered {
            let text = format!(
                "uid {uid} does not belong to the hotkey {hotkey} any more at the end of window {window}: its objects will not count"
            );
            self.ctx.warn_of(trouble::NOT_REGISTERED, text);
        }
    }

    /// The round that is being decided.
    ///
    /// # Panics
    /// Before any window has ended: a defect of the driver.
    pub fn round(&self) -> &Round {
        self.round.as_ref().expect("machines follow a window only after look or await_reveal has opened its round")
    }

    /// Reads a slot's manifest at `at_ms` or later; gives the instant at which the read began.
    pub async fn read_manifest(&mut self, slot: u32, at_ms: u64) -> (u64, ManifestRead) {
        self.ctx.clock.sleep_until(at_ms).await;
        let began_ms = self.ctx.now_ms();
        let read = self.round().read_manifest(&self.ctx, &self.run, slot).await;
        if let ManifestRead::Absent { why } = &read
            && !why.is_empty()
        {
            let complaint = format!("the manifest of window {} in slot {slot} does not count: {why}", self.round().window);
            if complaint != self.complaint {
                self.ctx.warn(complaint.clone());
                self.complaint = complaint;
            }
        }
        (began_ms, read)
    }

    /// Fetches and opens the manifest's objects; `false` when they are not to be had within a window's time.
    ///
    /// # Errors
    /// The worker is gone.
    pub async fn gather(&mut self, decided: &Decided, at_hand: HashMap<Uid, Bytes>) -> Result<bool, NodeError> {
        let until_ms = self.ctx.now_ms() + self.run.window_ms();
        let round = self.round().clone();
        let gathered = round.gather(&self.ctx, &decided.manifest, at_hand, self.run.poll_ms(), until_ms).await;
        let Some(gathered) = gathered else { return Ok(false) };
        let expectations: Vec<(Expect, Bytes)> = (decided.manifest.accepted.iter())
            .filter_map(|accepted| {
                let expect = Expect { run_id: self.run.id, uid: accepted.uid, hotkey: accepted.hotkey, window: round.window };
                Some((expect, gathered.objects.get(&accepted.uid)?.clone()))
            })
            .collect();
        let opened = self.worker.run(move |work| {
            let open = |(expect, bytes): (Expect, Bytes)| work.open(&bytes, &expect).map_err(|refusal| (expect.uid, refusal));
            expectations.into_iter().map(open).collect::<Vec<_>>()
        });
        let mut peers = Vec::new();
        for result in opened.await? {
            match result {
                Ok(peer) => peers.push(peer),
                // Whether an object opens follows from its bytes alone, so every node leaves the same ones out.
                Err((uid, refusal)) => self.ctx.note(Entry::Refused {
                    window: round.window,
                    uid,
                    kind: refusal.kind().to_owned(),
                    reason: format!("the manifest lists it, but it does not open: {refusal}"),
                }),
            }
        }
        self.gathered = Some((peers, gathered));
        Ok(true)
    }

    /// The opened objects of the round, in uid order.
    pub fn peers(&self) -> &[Opened] {
        self.gathered.as_ref().map_or(&[], |(peers, _)| peers)
    }

    /// Takes the gathered objects, for a job of the worker.
    pub fn take_peers(&mut self) -> Vec<Opened> {
        self.gathered.as_mut().map(|(peers, _)| std::mem::take(peers)).unwrap_or_default()
    }

    /// Puts the objects back after a job.
    pub fn put_peers(&mut self, peers: Vec<Opened>) {
        if let Some((slot, _)) = &mut self.gathered {
            *slot = peers;
        }
    }

    /// The window's entry for the journal, with what both roles know; clears the window's notes.
    pub fn window_entry(&mut self, window: Window, after: &Position, stepped: bool, decided: Option<&Decided>) -> WindowEntry {
        for switch in self.ctx.bucket.switches() {
            self.ctx.warn(switch.to_string());
        }
        let (_, gathered) = self.gathered.take().unwrap_or_default();
        let manifest = decided.map(|decided| &decided.manifest);
        // What is held back has come as well; that it is not listed is no fault of the gathering.
        let held = manifest.map_or(0, |manifest| manifest.refused.iter().filter(|refused| refused.kind == HELD).count());
        let committed = manifest.map_or(0, |manifest| manifest.commits.len().saturating_sub(held));
        WindowEntry {
            window,
            global_step: after.global_step,
            stepped,
            state_digest: after.theta,
            manifest: decided.map(|decided| decided.digest),
            gathered: gathered.objects.keys().copied().collect(),
            refused: manifest
                .map(|manifest| manifest.refused.iter().map(|r| (r.uid, format!("{}: {}", r.kind, r.reason))).collect())
                .unwrap_or_default(),
            from_copies: gathered.from_copies,
            fetched: gathered.fetched,
            gather_success: if committed == 0 { 0.0 } else { (gathered.objects.len() as f64 / committed as f64).min(1.0) },
            object_bytes: gathered.objects.values().map(|bytes| bytes.len() as u64).sum(),
            training: None,
            held_out_loss: None,
            phases_ms: std::mem::take(&mut self.phases),
            host_bytes: resident_bytes(),
            store_bytes: self.ctx.store_bytes(),
            plan: plan_entry(&self.run),
            health: crate::journal::HealthEntry { device_bytes: self.executor.device_memory(), ..self.ctx.health() },
        }
    }

    /// The shard of `step`; waited for while no place that has it can be reached.
    ///
    /// # Errors
    /// The disk cannot keep it, or what the places have is not the run's.
    pub async fn shard(&self, step: GlobalStep) -> Result<Arc<ShardReader>, NodeError> {
        let mut told = false;
        loop {
            match self.cache.at(step).await {
                Err(error @ CacheError::Unavailable { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        self.ctx.warn_of(trouble::DATA, format!("the data cannot be had, asking again: {error}"));
                    }
                    self.ctx.clock.sleep_until(self.ctx.now_ms() + self.run.block_ms()).await;
                }
                other => return Ok(other?),
            }
        }
    }

    /// The samples assigned to `uid` in `window` over a shard of `n_samples`.
    ///
    /// # Errors
    /// The shard is too small for the run.
    pub fn assignment(&self, uid: Uid, window: Window, n_samples: u64) -> Result<Assignment, NodeError> {
        Ok(recipe::assignment(self.run.hparams(), uid, window, n_samples)?)
    }

    /// Whether miners do not learn in `window`.
    pub fn is_null_round(&self, window: Window) -> bool {
        window.0.saturating_sub(self.run.descriptor.start_window.0) < self.run.hparams().null_rounds
    }
}

/// What a run asks of each window.
pub fn plan_entry(run: &Run) -> PlanEntry {
    let hparams = run.hparams();
    PlanEntry {
        inner_steps: u32::try_from(hparams.inner_steps).unwrap_or(u32::MAX),
        window_ms: run.window_ms(),
        block_ms: run.block_ms(),
        upload_ms: hparams.timetable.upload_window_ms,
        hparams: run.descriptor.hparams_digest,
    }
}

/// Makes the directory of a node, for its owner alone: residual and unrevealed objects are in it.
///
/// # Errors
/// It cannot be made.
pub fn make_dir(dir: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| NodeError::Io { what: format!("the directory {} cannot be made", dir.display()), source })
}

/// Resident memory of this process in bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
