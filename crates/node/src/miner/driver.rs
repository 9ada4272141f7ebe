//! The miner's driver: performs the machine's effects against the real world, one after the other.

use super::forecast::{Upload, Uploads};
use super::machine::{Action, Event, MinerMachine, Outcome};
use crate::conduct::{Conduct, Honest, Moment, Put, Task};
use crate::context::Context;
use crate::decide::{Decided, ManifestRead};
use crate::follow::{FollowAction, Followed};
use crate::journal::{Entry, TrainingEntry, trouble};
use crate::node::{Node, NodeError, NodeSettings};
use crate::position::Position;
use crate::signed;
use crate::state::{PrivateState, StateDigests, StateDir};
use crate::stop::{Drain, Stop};
use crate::workspace::{Compressed, WorkError};
use bytes::Bytes;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use templar_codec::container::VERSION;
use templar_codec::{HEADER_BYTES, Header};
use templar_protocol::messages::Commit;
use templar_protocol::sampler::sample_digest;
use templar_protocol::{Digest, Window, names};
use templar_tensor::Executor;

/// A file of this name in the node's directory asks a running miner to load the newest checkpoint.
pub const RESYNC_REQUEST: &str = "resync.request";
/// The least real time for a put, however late it is in the window.
const PUT_LEAST: Duration = Duration::from_secs(5);

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The object of a window, sealed and durable.
#[derive(Clone)]
struct Sealed {
    window: Window,
    bytes: Bytes,
    digest: Digest,
}

/// A miner that has joined.
pub struct Miner {
    node: Node,
    machine: MinerMachine,
    states: StateDir,
    resync_request: PathBuf,
    drain: Drain,
    uploads: Uploads,
    /// The object whose fate is open: given back to the residual unless a manifest lists it.
    sealed: Option<Sealed>,
    training: Option<TrainingEntry>,
    decided: Option<Box<Decided>>,
    conduct: Box<dyn Conduct>,
}

impl Miner {
    /// Joins the run and takes up the private state that a former process has left.
    ///
    /// # Errors
    /// The run cannot be followed, or the private state is damaged.
    pub async fn join(ctx: Arc<Context>, settings: &NodeSettings, executor: Arc<dyn Executor>) -> Result<(Self, Position), NodeError> {
        let (node, position) = Node::join(ctx, settings, executor).await?;
        let machine = MinerMachine::new(node.run.miner_rules());
        let states = StateDir::open(&settings.dir.join("state"))?;
        let resync_request = settings.dir.join(RESYNC_REQUEST);
        let drain = Drain::new(&settings.dir);
        let uploads = Uploads::new(node.run.hparams().timetable.upload_window_ms);
        let (sealed, training, decided, conduct) = (None, None, None, Box::new(Honest));
        let mut miner = Self { node, machine, states, resync_request, drain, uploads, sealed, training, decided, conduct };
        miner.restore().await?;
        miner.settle_before(&position).await?;
        miner.prune_all(position.window).await;
        Ok((miner, position))
    }

    /// The hyper-parameters of the run that it has joined.
    pub fn hparams(&self) -> &templar_protocol::hparams::Hparams {
        self.node.run.hparams()
    }

    /// The same miner with another conduct than the honest one.
    #[must_use]
    pub fn with_conduct(self, conduct: Box<dyn Conduct>) -> Self {
        Self { conduct, ..self }
    }

    /// Hands the conduct to a job of the worker; it comes back with the job's result.
    fn lend_conduct(&mut self) -> Box<dyn Conduct> {
        std::mem::replace(&mut self.conduct, Box::new(Honest))
    }

    /// Mines until `stop`, or until the end of the window in which a [`Drain`] is asked for: then its object is up and its decision followed.
    ///
    /// # Errors
    /// The chain refuses, the worker is gone or the disk cannot keep the state: nothing that waiting would mend.
    pub async fn run(mut self, position: Position, stop: &Stop) -> Result<(), NodeError> {
        let mut next = self.machine.step(Event::Joined(position));
        while let Some(effect) = next {
            // Between two windows nothing is under way that would be lost.
            if matches!(effect.action, Action::Look(_)) && self.drain.take() {
                break;
            }
            let must_finish = matches!(effect.action, Action::Persist(_) | Action::PutCommit(_) | Action::PutObject { .. });
            let outcome = if must_finish {
                self.perform(effect.action, stop).await?
            } else {
                tokio::select! {
                    biased;
                    () = stop.wait() => break,
                    outcome = self.perform(effect.action, stop) => outcome?,
                }
            };
            if stop.is_set() {
                break;
            }
            next = self.machine.step(Event::Done(effect.id, outcome));
        }
        Ok(())
    }

    async fn perform(&mut self, action: Action, stop: &Stop) -> Result<Outcome, NodeError> {
        let phase = Instant::now();
        let (name, outcome) = match action {
            Action::Look(window) => ("look", self.look(window).await?),
            Action::Train { at, stop_at_ms } => ("train", self.train(at, stop_at_ms, stop).await?),
            Action::Compress(at) => ("compress", self.compress(at).await?),
            Action::Persist(at) => ("persist", self.persist(at).await?),
            Action::PutCommit(window) => ("commit", self.put_commit(window).await),
            Action::AwaitReveal(window) => {
                let (now_ms, ending) = self.node.await_reveal(window).await?;
                ("await_end", Outcome::Reveal(now_ms, ending))
            }
            Action::PutObject { window, until_ms } => ("upload", self.put_object(window, until_ms).await),
            Action::Follow(action) => return self.follow(action).await,
            Action::Resync { why } => ("resync", self.resync(why).await),
            Action::Report { window, after, stepped } => {
                self.report(window, after, stepped).await;
                ("report", Outcome::Done)
            }
        };
        self.node.add_time(name, phase);
        Ok(outcome)
    }

    async fn look(&mut self, window: Window) -> Result<Outcome, NodeError> {
        if std::fs::remove_file(&self.resync_request).is_ok() {
            return Ok(Outcome::Failed("the operator asked for a resync".into()));
        }
        let (times, ending) = self.node.look(window).await?;
        let sealed = self.sealed.as_ref().is_some_and(|sealed| sealed.window == window);
        Ok(Outcome::Looked { now_ms: times.now_ms, start_ms: times.start_ms, ending, sealed })
    }

    async fn train(&mut self, at: Position, stop_at_ms: u64, stop: &Stop) -> Result<Outcome, NodeError> {
        let reader = self.node.shard(at.global_step).await?;
        let assignment = self.node.assignment(self.node.ctx.uid, at.window, reader.n_samples())?;
        let null_round = self.node.is_null_round(at.window);
        let (clock, stop) = (self.node.ctx.clock.clone(), stop.clone());
        if !null_round {
            self.node.begin_profile(at.window).await;
        }
        let begun = Instant::now();
        let task = Task { at: &at, uid: self.node.ctx.uid, assignment: &assignment, n_samples: reader.n_samples() };
        let chosen = self.conduct.rows(&task);
        let mut conduct = self.lend_conduct();
        let job = self.node.worker.run(move |work| {
            let rows = move |step: u32| {
                let assigned = || assignment.step(step as usize);
                let rows = chosen.as_ref().map_or_else(assigned, |chosen| chosen.get(step as usize).map_or(&[], Vec::as_slice));
                if rows.is_empty() || null_round {
                    return Ok(None);
                }
                reader.samples(rows).map(Some).map_err(|error| WorkError::Data(error.to_string()))
            };
            let begun = conduct.start(&at, work.theta()).map_or(Ok(()), |start| work.load_other(&start));
            (begun.and_then(|()| work.train(at.global_step, rows, || clock.now_ms() >= stop_at_ms || stop.is_set())), conduct)
        });
        let (trained, conduct) = job.await?;
        self.conduct = conduct;
        self.node.end_profile();
        let report = match trained {
            Ok(report) => report,
            Err(error) => return Ok(self.failed("training", at.window, &error)),
        };
        let seconds = begun.elapsed().as_secs_f64().max(1e-3);
        self.training = Some(TrainingEntry {
            steps: report.steps,
            entry_loss: report.entry_loss,
            last_loss: report.last_loss,
            tokens: report.tokens,
            tokens_s: report.tokens as f64 / seconds,
            gradient_norm: report.gradient_norm,
            learning_rate: report.learning_rate,
            data_wait_ms: ms(report.data_wait),
            restore_ms: ms(report.restore),
            ..TrainingEntry::default()
        });
        // A null round has no steps and still shows the network that the miner is there.
        Ok(Outcome::Trained(if null_round || self.conduct.sends_untrained() { report.steps.max(1) } else { report.steps }))
    }

    /// Says what kept the engine from its work, and gives the outcome.
    fn failed(&self, what: &str, window: Window, error: &WorkError) -> Outcome {
        self.node.ctx.warn_of(trouble::of_work(error), format!("{what} of window {window} failed: {error}"));
        Outcome::Failed(error.to_string())
    }

    async fn compress(&mut self, at: Position) -> Result<Outcome, NodeError> {
        let reader = self.node.shard(at.global_step).await?;
        let assignment = self.node.assignment(self.node.ctx.uid, at.window, reader.n_samples())?;
        let null_round = self.node.is_null_round(at.window);
        let ids = match reader.ids(assignment.pool()) {
            Ok(ids) => ids,
            Err(error) => return Ok(Outcome::Failed(error.to_string())),
        };
        let header = Header {
            run_id: self.node.run.id,
            uid: self.node.ctx.uid,
            hotkey: self.node.ctx.hotkey(),
            window: at.window,
            global_step: at.global_step,
            theta: at.theta,
            sample_digest: sample_digest(&ids),
            sample_count: ids.len() as u64,
            version: VERSION,
            payload_digest: Digest::default(),
            payload_bytes: 0,
        };
        let key = self.node.ctx.key.clone();
        let mut conduct = self.lend_conduct();
        let job = self.node.worker.run(move |work| {
            let compressed = work.compress(header, null_round, &*key, &mut *conduct);
            (compressed.map(|compressed| (compressed, work.residual_state())), conduct)
        });
        let (compressed, conduct) = job.await?;
        self.conduct = conduct;
        let (Compressed { object: bytes, offload }, residual) = match compressed {
            Ok(done) => done,
            Err(error) => return Ok(self.failed("compression", at.window, &error)),
        };
        if let Some(training) = &mut self.training {
            training.residual_norm = residual.norm;
            training.residual_largest = f64::from(residual.largest);
            training.residual_not_finite = residual.not_finite;
            training.object_bytes = bytes.len() as u64;
            training.offload_ms = ms(offload);
        }
        if residual.not_finite > 0 {
            let why = format!(
                "{} values of the residual are not finite after window {}: stop the miner, remove its state directory and start it again; \
                 if it comes back, the memory may be faulty",
                residual.not_finite, at.window
            );
            self.node.ctx.warn(why);
        }
        let digest = Digest::of(&bytes);
        self.sealed = Some(Sealed { window: at.window, bytes: bytes.into(), digest });
        self.foresee(at.window);
        Ok(Outcome::Done)
    }

    /// Warns when the object that was just sealed would not be up in time, going by the uploads before.
    fn foresee(&self, window: Window) {
        let bytes = self.sealed.as_ref().map_or(0, |sealed| sealed.bytes.len() as u64);
        if let Some(why) = self.uploads.forecast(bytes).and_then(|forecast| forecast.warning()) {
            self.node.ctx.warn(format!("the object of window {window} {why}"));
        }
    }

    async fn persist(&mut self, at: Position) -> Result<Outcome, NodeError> {
        let object = self.sealed.as_ref().map(|sealed| sealed.bytes.to_vec()).unwrap_or_default();
        let (run, states) = (self.node.run.id, self.states.clone());
        let job = self.node.worker.run(move |work| -> Result<StateDigests, NodeError> {
            let (residual, moments) = work.private()?;
            let state = PrivateState { run, window: at.window, global_step: at.global_step, residual, moments, object };
            Ok(states.save(work.specs(), state)?)
        });
        let digests = job.await??;
        self.note_state("saved", at.window, at.global_step, &digests);
        Ok(Outcome::Done)
    }

    fn note_state(&self, what: &str, window: Window, global_step: templar_protocol::GlobalStep, digests: &StateDigests) {
        let StateDigests { residual, moments, .. } = *digests;
        self.node.ctx.note(Entry::State { what: what.into(), window, residual, moments, global_step });
    }

    /// The instant of a put in the course of `window`.
    fn moment(&self, window: Window, next_start_ms: u64) -> Moment {
        Moment { window, now_ms: self.node.ctx.now_ms(), next_start_ms, timetable: self.node.run.hparams().timetable }
    }

    /// T(w+1) as far as it is known before the window's end.
    async fn expected_end_ms(&self, window: Window) -> u64 {
        let (blocks, block_ms) = (self.node.run.blocks_per_window(), self.node.run.block_ms());
        let times = self.node.ctx.window_times(window, blocks, block_ms).await;
        times.map_or_else(|_| self.node.ctx.now_ms(), |times| times.next_start_ms.unwrap_or(times.start_ms + self.node.run.window_ms()))
    }

    async fn put_commit(&mut self, window: Window) -> Outcome {
        let moment = self.moment(window, self.expected_end_ms(window).await);
        let at_ms = self.conduct.commit_at_ms(moment);
        if at_ms > moment.now_ms {
            self.node.ctx.clock.sleep_until(at_ms).await;
        }
        let ctx = &self.node.ctx;
        let Some(sealed) = self.sealed.as_ref().filter(|sealed| sealed.window == window) else {
            return Outcome::Failed("there is no object to commit to".into());
        };
        let commit = Commit { run: self.node.run.id, uid: ctx.uid, window, object: sealed.digest, object_bytes: sealed.bytes.len() as u64 };
        let put = match signed::sign(&commit, &*ctx.key) {
            Ok(bytes) => ctx
                .bucket
                .put(&names::commit(window, ctx.uid), bytes.into())
                .await
                .map_err(|error| (trouble::of_put(error.kind()), error.to_string())),
            Err(error) => Err(("", error.to_string())),
        };
        match put {
            Ok(()) => Outcome::Done,
            Err((kind, why)) => {
                ctx.warn_of(kind, format!("the commit of window {window} was not put, so its object will not count: {why}"));
                Outcome::Failed(why)
            }
        }
    }

    async fn put_object(&mut self, window: Window, until_ms: u64) -> Outcome {
        let timetable = self.node.run.hparams().timetable;
        let moment = self.moment(window, until_ms.saturating_sub(timetable.upload_window_ms));
        let Some(sealed) = self.sealed.as_ref().filter(|sealed| sealed.window == window) else {
            return Outcome::Failed("there is no object to put".into());
        };
        let puts = self.conduct.puts(moment, &sealed.bytes);
        let object_bytes = sealed.bytes.len() as u64;
        let ctx = &self.node.ctx;
        let (begun, mut put) = (Instant::now(), Ok(()));
        for Put { at_ms, bytes } in puts {
            if at_ms > moment.now_ms {
                ctx.clock.sleep_until(at_ms).await;
            }
            put = ctx.bucket.put_by(&names::object(window, ctx.uid), bytes, ctx.deadline(until_ms, PUT_LEAST)).await;
        }
        if let Some(training) = &mut self.training {
            let margin_ms = i64::try_from(until_ms).unwrap_or(i64::MAX) - i64::try_from(ctx.now_ms()).unwrap_or(i64::MAX);
            training.upload_margin_ms = put.is_ok().then_some(margin_ms);
        }
        // What virtual time gives away for nothing says nothing about a link.
        if !ctx.clock.is_virtual() {
            let left_ms = until_ms.saturating_sub(moment.now_ms);
            self.uploads.note(Upload { bytes: object_bytes, took_ms: ms(begun.elapsed()), left_ms, done: put.is_ok() });
        }
        match put {
            Ok(()) => Outcome::Done,
            Err(error) => {
                ctx.warn_of(trouble::of_put(error.kind()), format!("the object of window {window} was not put: {error}"));
                Outcome::Failed(error.to_string())
            }
        }
    }

    async fn follow(&mut self, action: FollowAction) -> Result<Outcome, NodeError> {
        let begun = Instant::now();
        let (phase, followed) = match action {
            FollowAction::Read { slot, at_ms } => {
                let (began_ms, read) = self.node.read_manifest(slot, at_ms).await;
                ("manifest", Followed::Manifest(began_ms, read))
            }
            FollowAction::Survey(decided) => {
                let majority = self.node.round().survey(&self.node.ctx, &self.node.run, &decided.manifest).await;
                ("survey", Followed::Majority(self.node.ctx.now_ms(), majority))
            }
            FollowAction::Gather(decided) => {
                let own = self.sealed.iter().filter(|sealed| sealed.window == decided.manifest.window);
                let at_hand: HashMap<_, _> = own.map(|sealed| (self.node.ctx.uid, sealed.bytes.clone())).collect();
                if !self.node.gather(&decided, at_hand).await? {
                    return Ok(Outcome::Failed("not all objects of the manifest are to be had".into()));
                }
                ("gather", Followed::Gathered)
            }
            FollowAction::Apply(decided) => {
                let peers = self.node.take_peers();
                self.conduct.gathered(decided.manifest.window, &peers);
                let theta = self.node.worker.run(move |work| work.aggregate(&peers)).await?;
                self.settle(Some(&decided)).await?;
                self.decided = Some(decided);
                ("apply", Followed::Applied(theta))
            }
            FollowAction::SettleVoid => {
                self.settle(None).await?;
                ("apply", Followed::Settled)
            }
            FollowAction::Publish { .. } => return Ok(Outcome::Failed("a miner has no slot to publish in".into())),
        };
        self.node.add_time(phase, begun);
        Ok(Outcome::Followed(followed))
    }

    /// Gives the sealed object back to the residual unless the window's manifest lists it.
    async fn settle(&mut self, decided: Option<&Decided>) -> Result<(), NodeError> {
        let window = decided.map_or_else(|| self.node.round().window, |decided| decided.manifest.window);
        let Some(sealed) = self.sealed.take_if(|sealed| sealed.window <= window) else { return Ok(()) };
        let listed = decided.is_some_and(|decided| {
            decided.manifest.window == sealed.window && decided.manifest.accepted.iter().any(|accepted| accepted.object == sealed.digest)
        });
        if listed || sealed.bytes.len() <= HEADER_BYTES {
            return Ok(());
        }
        let bytes = sealed.bytes;
        if let Err(refusal) = self.node.worker.run(move |work| work.give_back(&bytes[HEADER_BYTES..])).await? {
            self.node.ctx.warn(format!("the object of window {window} could not be given back to the residual: {refusal}"));
        }
        Ok(())
    }

    /// Takes up the private state on disk; without one, starts with an empty residual.
    async fn restore(&mut self) -> Result<(), NodeError> {
        let (run, states) = (self.node.run.id, self.states.clone());
        let loaded = self.node.worker.run(move |work| states.load(work.specs(), &run)).await??;
        let Some((state, digests)) = loaded else {
            self.sealed = None;
            return Ok(self.node.worker.run(|work| work.forget()).await??);
        };
        self.note_state("loaded", state.window, state.global_step, &digests);
        self.sealed = Some(Sealed { window: state.window, digest: digests.object, bytes: state.object.into() });
        self.node.worker.run(move |work| work.restore(state.residual, state.moments)).await??;
        Ok(())
    }

    /// Settles an object whose window lies before the checkpoint that was loaded, by that window's own manifest.
    async fn settle_before(&mut self, position: &Position) -> Result<(), NodeError> {
        let Some(window) = self.sealed.as_ref().map(|sealed| sealed.window).filter(|window| *window < position.window) else {
            return Ok(());
        };
        if position.window.0 - window.0 > self.node.run.hparams().retention.manifests_windows {
            // Nobody keeps that manifest: giving back what may have been aggregated would send it twice.
            self.sealed = None;
            return Ok(());
        }
        let ending = self.node.look(window).await?.1;
        let (slots, mut slot) = (ending.map_or(0, |ending| ending.slots), 0);
        while slot < slots {
            match self.node.read_manifest(slot, 0).await.1 {
                ManifestRead::Found(found) => return self.settle(Some(&found)).await,
                ManifestRead::Absent { .. } => slot += 1,
                ManifestRead::Unreachable { .. } => {
                    let ctx = &self.node.ctx;
                    ctx.clock.sleep_until(ctx.now_ms() + self.node.run.block_ms()).await;
                }
            }
        }
        self.settle(None).await
    }

    async fn resync(&mut self, why: String) -> Outcome {
        let ctx = &self.node.ctx;
        ctx.note(Entry::Resync { why });
        // A checkpoint that does not help would be loaded in a tight loop without this.
        ctx.clock.sleep_until(ctx.now_ms() + self.node.run.block_ms()).await;
        // As after a restart: what diverged in memory, moments included, must not survive.
        match self.load_all().await {
            Ok(position) => Outcome::Loaded(position),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    async fn load_all(&mut self) -> Result<Position, NodeError> {
        let position = self.node.load_checkpoint().await?;
        self.restore().await?;
        self.settle_before(&position).await?;
        Ok(position)
    }

    async fn report(&mut self, window: Window, after: Position, stepped: bool) {
        self.node.write_profile(window, "training").await;
        let decided = self.decided.take().filter(|decided| decided.manifest.window == window);
        let mut entry = self.node.window_entry(window, &after, stepped, decided.as_deref());
        entry.training = self.training.take();
        self.node.ctx.note(Entry::Window(Box::new(entry)));
        let keep = self.node.run.hparams().retention.objects_windows;
        if let Some(old) = window.0.checked_sub(keep) {
            let (bucket, uid) = (&self.node.ctx.bucket, self.node.ctx.uid);
            for name in [names::commit(Window(old), uid), names::object(Window(old), uid)] {
                // What cannot be deleted now is deleted at the next start.
                let _ = bucket.delete(&name).await;
            }
        }
    }

    /// Deletes what former processes have left beyond the retention.
    async fn prune_all(&self, window: Window) {
        let oldest = window.0.saturating_sub(self.node.run.hparams().retention.objects_windows);
        for folder in [names::COMMITS, names::OBJECTS] {
            let keep = |name: &str| names::window_of(name).is_none_or(|of| of.0 >= oldest);
            if let Err(error) = self.node.ctx.bucket.prune(folder, keep).await {
                self.node.ctx.warn(format!("old objects below {folder} stay in the bucket: {error}"));
            }
        }
    }
}
