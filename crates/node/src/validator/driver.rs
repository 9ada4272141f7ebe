//! The validator's driver: performs the machine's effects against the real world, one after the other.

use super::collect::{Collected, collect, keep_copies};
use super::judge::Judge;
use super::kept_commits::{KEPT_COMMITS_FILE, KeptCommits};
use super::machine::{Action, Event, Outcome, ValidatorMachine};
use super::score::load_judge;
use super::sketches::Sketches;
use super::start::{StartRun, keep_descriptor, start_run};
use super::unpublished::Unpublished;
use crate::context::Context;
use crate::decide::{Decided, ManifestRead};
use crate::follow::{FollowAction, Followed};
use crate::journal::Entry;
use crate::model_dir::{self, MODEL_DIR};
use crate::node::{Node, NodeError, NodeSettings};
use crate::position::Position;
use crate::recipe;
use crate::signed;
use crate::stop::{Drain, Stop};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use templar_chain::Wait;
use templar_data::Tokenizer;
use templar_gauntlet::to_u16;
use templar_model::checkpoint;
use templar_protocol::messages::{CheckpointPointer, MANIFEST_BYTES_MAX};
use templar_protocol::{Digest, Uid, Window, names};
use templar_store::ErrorKind;
use templar_tensor::Executor;

/// A validator that has joined.
pub struct Validator {
    pub(super) node: Node,
    machine: ValidatorMachine,
    pub(super) judge: Judge,
    pub(super) sketches: Sketches,
    pub(super) scores_path: PathBuf,
    pub(super) unpublished: Unpublished,
    commits_path: PathBuf,
    model_dir: PathBuf,
    drain: Drain,
    /// The engine's name.
    pub(super) engine: String,
    tokenizer: Tokenizer,
    held_out: Arc<Vec<u32>>,
    pub(super) collected: Collected,
    /// The miners of the last manifest.
    trusted: BTreeSet<Uid>,
    pub(super) decided: Option<Box<Decided>>,
    held_out_loss: Option<f64>,
}

impl Validator {
    /// Joins the run (after starting it, if `start` says so) and takes up the scores that a former process has left.
    ///
    /// # Errors
    /// The run cannot be started or followed.
    pub async fn join(
        ctx: Arc<Context>,
        settings: &NodeSettings,
        executor: Arc<dyn Executor>,
        start: Option<&StartRun>,
    ) -> Result<(Self, Position), NodeError> {
        if let Some(start) = start {
            crate::join::announce_bucket(&ctx).await?;
            start_run(&ctx, start).await?;
        }
        let engine = super::engine_name(&*executor);
        let (node, position) = Node::join(ctx, settings, executor).await?;
        keep_descriptor(&node.ctx, &node.run).await;
        let machine = ValidatorMachine::new(node.run.validator_rules());
        // Scores belong to a run: another run's windows are other windows.
        let scores_path = settings.dir.join(format!("scores-{}.json", node.run.id.short()));
        let sketches = Sketches::new(&settings.dir, node.run.id);
        let judge = load_judge(&node, &scores_path, &sketches);
        let unpublished = Unpublished::new(&settings.dir, &node.run.id);
        let held_out = held_out_tokens(&node).await?;
        let tokenizer = node.cache.tokenizer().await?;
        let validator = Self {
            node,
            machine,
            judge,
            sketches,
            scores_path,
            unpublished,
            commits_path: settings.dir.join(KEPT_COMMITS_FILE),
            model_dir: settings.dir.join(MODEL_DIR),
            drain: Drain::new(&settings.dir),
            engine,
            tokenizer,
            held_out: held_out.into(),
            collected: Collected::default(),
            trusted: BTreeSet::new(),
            decided: None,
            held_out_loss: None,
        };
        validator.publish_left_over().await;
        validator.prune_all(position.window).await;
        Ok((validator, position))
    }

    /// Validates until `stop`, or until the end of the window in which a [`Drain`] is asked for.
    ///
    /// # Errors
    /// The chain refuses, the worker is gone: nothing that waiting would mend.
    pub async fn run(mut self, position: Position, stop: &Stop) -> Result<(), NodeError> {
        let mut next = self.machine.step(Event::Joined(position));
        while let Some(effect) = next {
            // Between two windows nothing is under way that would be lost.
            if matches!(effect.action, Action::Look(_)) && self.drain.take() {
                break;
            }
            let must_finish = matches!(effect.action, Action::Follow(FollowAction::Publish { .. }) | Action::Checkpoint(_));
            let outcome = if must_finish {
                self.perform(effect.action).await?
            } else {
                tokio::select! {
                    biased;
                    () = stop.wait() => break,
                    outcome = self.perform(effect.action) => outcome?,
                }
            };
            if stop.is_set() {
                break;
            }
            next = self.machine.step(Event::Done(effect.id, outcome));
        }
        Ok(())
    }

    async fn perform(&mut self, action: Action) -> Result<Outcome, NodeError> {
        let begun = Instant::now();
        let (name, outcome) = match action {
            Action::Look(window) => {
                let (times, ending) = self.node.look(window).await?;
                let commits_kept = KeptCommits::load(&self.commits_path, &self.node.run.id, window).is_some();
                ("look", Outcome::Looked { now_ms: times.now_ms, ending, commits_kept })
            }
            Action::AwaitReveal(window) => {
                let (now_ms, ending) = self.node.await_reveal(window).await?;
                ("await_end", Outcome::Reveal(now_ms, ending))
            }
            Action::Collect { at, upload_ends_ms, until_ms } => ("collect", self.collect(&at, upload_ends_ms, until_ms).await?),
            Action::Follow(action) => return self.follow(action).await,
            Action::Evaluate(at) => ("evaluate", self.evaluate(&at).await?),
            Action::SetWeights(window) => ("weights", self.set_weights(window).await),
            Action::Checkpoint(at) => ("checkpoint", self.checkpoint(at).await?),
            Action::Resync { why } => ("resync", self.resync(why).await),
            Action::Report { window, after, stepped } => {
                self.report(window, after, stepped).await;
                ("report", Outcome::Done)
            }
        };
        self.node.add_time(name, begun);
        Ok(outcome)
    }

    async fn collect(&mut self, at: &Position, upload_ends_ms: u64, until_ms: u64) -> Result<Outcome, NodeError> {
        self.collected = collect(&self.node, at, upload_ends_ms, until_ms, &self.trusted, &self.commits_path).await?;
        let window = at.window;
        for refused in &self.collected.refused {
            let (kind, reason) = (refused.kind.clone(), refused.reason.clone());
            self.node.ctx.note(Entry::Refused { window, uid: refused.uid, kind, reason });
        }
        keep_copies(&self.node.ctx, &self.collected).await;
        Ok(Outcome::Collected { now_ms: self.node.ctx.now_ms(), majority: self.collected.majority() })
    }

    async fn follow(&mut self, action: FollowAction) -> Result<Outcome, NodeError> {
        let begun = Instant::now();
        let (phase, followed) = match action {
            FollowAction::Read { slot, at_ms } => {
                let (began_ms, read) = self.node.read_manifest(slot, at_ms).await;
                ("manifest", Followed::Manifest(began_ms, read))
            }
            FollowAction::Publish { slot, until_ms } => ("publish", self.publish(slot, until_ms).await?),
            FollowAction::Survey(decided) => {
                let majority = self.node.round().survey(&self.node.ctx, &self.node.run, &decided.manifest).await;
                ("survey", Followed::Majority(self.node.ctx.now_ms(), majority))
            }
            FollowAction::Gather(decided) => {
                let here = self.collected.window == decided.manifest.window;
                let at_hand: HashMap<_, _> = if here { self.collected.objects.clone().into_iter().collect() } else { HashMap::new() };
                if !self.node.gather(&decided, at_hand).await? {
                    return Ok(Outcome::Failed("not all objects of the manifest are to be had".into()));
                }
                if !decided.manifest.accepted.is_empty() {
                    self.trusted = decided.manifest.accepted.iter().map(|accepted| accepted.uid).collect();
                }
                self.decided = Some(decided);
                ("gather", Followed::Gathered)
            }
            FollowAction::Apply(_) => {
                let (peers, held_out) = (self.node.take_peers(), self.held_out.clone());
                let job = self.node.worker.run(move |work| (work.aggregate(&peers), work.losses(&held_out)));
                let (theta, losses) = job.await?;
                self.held_out_loss = match losses {
                    Ok(losses) if !losses.is_empty() => Some(losses.iter().sum::<f64>() / losses.len() as f64),
                    Ok(_) => None,
                    Err(error) => {
                        self.node.ctx.warn(format!("the held-out loss could not be measured: {error}"));
                        None
                    }
                };
                ("apply", Followed::Applied(theta))
            }
            FollowAction::SettleVoid => ("apply", Followed::Settled),
        };
        self.node.add_time(phase, begun);
        Ok(Outcome::Followed(followed))
    }

    /// Publishes this validator's manifest, unless one is there already: a restart must not decide a window a second time.
    async fn publish(&mut self, slot: u32, until_ms: u64) -> Result<Followed, NodeError> {
        let ctx = self.node.ctx.clone();
        let began_ms = ctx.now_ms();
        let held = self.judge.scorer.held();
        let opened = self.collected.hold(&held, self.node.run.hparams().minimum_peers);
        let (clip_norms, opened) = self.node.worker.run(move |work| (work.clip_norms(&opened), opened)).await?;
        let manifest = self.collected.manifest(&self.node.run, self.machine.position(), slot, &opened, clip_norms);
        let window = manifest.window;
        let bytes = match signed::sign(&manifest, &*ctx.key) {
            Ok(bytes) if bytes.len() as u64 <= MANIFEST_BYTES_MAX && ctx.now_ms() < until_ms => bytes,
            Ok(_) => return Ok(Followed::Manifest(began_ms, ManifestRead::Absent { why: "there was no time left to publish".into() })),
            Err(error) => return Ok(Followed::Manifest(began_ms, ManifestRead::Absent { why: error.to_string() })),
        };
        match ctx.bucket.put_if_absent(&names::manifest(window, slot), bytes.into()).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // Whether it was written is found out by reading it.
            Err(error) => ctx.warn(format!("publishing the manifest of window {window} failed: {error}")),
        }
        let (began_ms, read) = self.node.read_manifest(slot, 0).await;
        if let ManifestRead::Found(decided) = &read {
            // What counts is what is there: a former process may have published before it was killed.
            let accepted = decided.manifest.accepted.iter().map(|accepted| accepted.uid).collect();
            ctx.note(Entry::Published { window, slot, accepted, manifest: decided.digest });
        }
        Ok(Followed::Manifest(began_ms, read))
    }

    async fn set_weights(&mut self, window: Window) -> Outcome {
        let ctx = &self.node.ctx;
        let weighed = self.judge.scorer.weights();
        let weights = weighed.nonzero();
        let encoded = to_u16(&weights);
        if encoded.is_empty() {
            ctx.warn(format!("no weights were set after window {window}: {}", weighed.reason));
            return Outcome::Failed(weighed.reason);
        }
        match ctx.chain.put_weights(&*ctx.key, ctx.netuid, &encoded, 0, Wait::InBlock).await {
            Ok(report) => {
                ctx.note(Entry::Weights { window, block: report.tx.block, weights: weights.into_iter().collect() });
                Outcome::Done
            }
            Err(error) => {
                ctx.warn(format!("the weights of window {window} were not set: {error}"));
                Outcome::Failed(error.to_string())
            }
        }
    }

    async fn checkpoint(&mut self, at: Position) -> Result<Outcome, NodeError> {
        let config = recipe::llama(self.node.run.hparams(), Some(self.tokenizer.eos()))?;
        let (dir, tokenizer) = (self.model_dir.clone(), self.tokenizer.clone());
        let job = self.node.worker.run(move |work| {
            let saved = model_dir::save(&dir, &config, &tokenizer, work.specs(), work.theta(), &at);
            let file = checkpoint::encode(work.specs(), work.theta(), &checkpoint::Metadata::new());
            (saved, file, work.digest().clone())
        });
        let (saved, file, theta) = job.await?;
        if let Err(error) = saved {
            self.node.ctx.warn(format!("the model could not be written to {}: {error}", self.model_dir.display()));
        }
        let file = file?;
        let pointer = CheckpointPointer {
            run: self.node.run.id,
            next_window: at.window,
            global_step: at.global_step,
            file: Digest::of(&file),
            file_bytes: file.len() as u64,
            theta: theta.root,
            theta_parts: theta.parts,
            manifest: at.manifest,
        };
        let ctx = &self.node.ctx;
        let put = async {
            let envelope = bytes::Bytes::from(signed::sign(&pointer, &*ctx.key).map_err(|error| error.to_string())?);
            // Whoever replays an older window finds the θ before it by the pointer that keeps its name.
            let kept = names::checkpoint_pointer(pointer.next_window);
            ctx.bucket.put(&names::checkpoint(&pointer.file), file.into()).await.map_err(|error| error.to_string())?;
            ctx.bucket.put(&kept, envelope.clone()).await.map_err(|error| error.to_string())?;
            ctx.bucket.put(names::CHECKPOINT_LATEST, envelope).await.map_err(|error| error.to_string())
        };
        Ok(match put.await {
            Ok(()) => {
                let CheckpointPointer { next_window, global_step, theta: state_digest, file_bytes, .. } = pointer;
                ctx.note(Entry::Checkpoint { next_window, global_step, state_digest, file_bytes });
                self.prune_checkpoints(&pointer.file).await;
                Outcome::Done
            }
            Err(why) => {
                ctx.warn(format!("the checkpoint of window {} was not published: {why}", at.window));
                Outcome::Failed(why)
            }
        })
    }

    /// Keeps the newest checkpoints, as many as the retention says.
    async fn prune_checkpoints(&self, newest: &Digest) {
        let keep = usize::try_from(self.node.run.hparams().retention.checkpoints).unwrap_or(usize::MAX).max(1);
        let newest = names::checkpoint(newest);
        let Ok(mut files) = self.node.ctx.bucket.list(names::CHECKPOINTS).await else { return };
        let pointers = files.iter().rev().filter(|file| names::window_of(&file.key).is_some());
        for pointer in pointers.skip(keep) {
            let _ = self.node.ctx.bucket.delete(&pointer.key).await;
        }
        files.retain(|file| file.key.ends_with(".safetensors") && file.key != newest);
        files.sort_by_key(|file| std::cmp::Reverse(file.last_modified_ms));
        for file in files.into_iter().skip(keep - 1) {
            // What stays is deleted after the next checkpoint.
            let _ = self.node.ctx.bucket.delete(&file.key).await;
        }
    }

    async fn resync(&mut self, why: String) -> Outcome {
        let ctx = &self.node.ctx;
        ctx.note(Entry::Resync { why });
        // A checkpoint that does not help would be loaded in a tight loop without this.
        ctx.clock.sleep_until(ctx.now_ms() + self.node.run.block_ms()).await;
        match self.node.load_checkpoint().await {
            Ok(position) => Outcome::Loaded(position),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    async fn report(&mut self, window: Window, after: Position, stepped: bool) {
        self.node.write_profile(window, "evaluation").await;
        let decided = self.decided.take().filter(|decided| decided.manifest.window == window);
        let mut entry = self.node.window_entry(window, &after, stepped, decided.as_deref());
        entry.held_out_loss = self.held_out_loss.take();
        self.node.ctx.note(Entry::Window(Box::new(entry)));
        let retention = &self.node.run.hparams().retention;
        let bucket = &self.node.ctx.bucket;
        // What cannot be deleted now is deleted at the next start.
        if let Some(old) = window.0.checked_sub(retention.accepted_windows) {
            for member in &self.node.round().roster.miners {
                let _ = bucket.delete(&names::accepted(Window(old), member.uid)).await;
            }
        }
        // A sheet can be computed again as long as the objects that it speaks of are there.
        if let Some(old) = window.0.checked_sub(retention.accepted_windows) {
            let _ = bucket.delete(&names::score_sheet(Window(old))).await;
            let _ = bucket.delete(&names::score_state(Window(old))).await;
        }
        if let Some(old) = window.0.checked_sub(retention.manifests_windows) {
            for slot in 0..self.node.run.hparams().timetable.slots {
                let _ = bucket.delete(&names::manifest(Window(old), slot)).await;
            }
        }
    }

    /// Deletes what former processes have left beyond the retention.
    async fn prune_all(&self, window: Window) {
        let retention = &self.node.run.hparams().retention;
        let folders = [
            (names::ACCEPTED, retention.accepted_windows),
            (names::SCORES, retention.accepted_windows),
            (names::MANIFESTS, retention.manifests_windows),
        ];
        for (folder, windows) in folders {
            let oldest = window.0.saturating_sub(windows);
            let keep = |name: &str| names::window_of(name).is_none_or(|of| of.0 >= oldest);
            if let Err(error) = self.node.ctx.bucket.prune(folder, keep).await {
                self.node.ctx.warn(format!("old objects below {folder} stay in the bucket: {error}"));
            }
        }
    }
}

/// The held-out tokens on which the loss is reported: whole sequences, spread evenly over the held-out text.
async fn held_out_tokens(node: &Node) -> Result<Vec<u32>, NodeError> {
    let hparams = node.run.hparams();
    let file = tokio::time::timeout(Duration::from_secs(600), node.cache.held_out()).await;
    let file =
        file.map_err(|_| NodeError::Join(crate::join::JoinError::Data("the held-out text did not arrive in 10 minutes".into())))??;
    let seq_len = hparams.sequence_length as u64;
    let all = file.n_tokens() / seq_len;
    let sequences = all.min(hparams.evaluation.held_out_sequences as u64);
    let mut tokens = vec![0; usize::try_from(sequences * seq_len).unwrap_or(0)];
    for (index, sequence) in tokens.chunks_exact_mut(hparams.sequence_length).enumerate() {
        let start = index as u64 * all / sequences * seq_len;
        file.read(start, sequence).map_err(|error| crate::workspace::WorkError::Data(error.to_string()))?;
    }
    Ok(tokens)
}
