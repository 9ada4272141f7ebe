//! The miner's driver in virtual time: performs the effects of the real machine against the world.
//!
//! What is durable lives in [`Disk`], which outlives the process; everything else is lost when the task is killed.

use crate::attacks;
use crate::lab::{Private, Training};
use crate::phases;
use crate::record::SimEntry;
use crate::scenario::FaultKind;
use crate::seat::{Gathered, Seat};
use crate::store::NodeIndex;
use crate::world::World;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use templar_codec::HEADER_BYTES;
use templar_model::ModelError;
use templar_node::conduct::{Conduct, Honest, Moment, Put};
use templar_node::decide::{Decided, ManifestRead};
use templar_node::follow::{FollowAction, Followed};
use templar_node::join::JoinError;
use templar_node::journal::{Entry, TrainingEntry, trouble};
use templar_node::miner::machine::{Action, Event, MinerMachine, Outcome};
use templar_node::node::NodeError;
use templar_node::position::Position;
use templar_node::signed;
use templar_node::state::StateError;
use templar_node::workspace::WorkError;
use templar_protocol::messages::{Commit, PROTOCOL_VERSION};
use templar_protocol::{Digest, Uid, Window, names};

/// Time of compression and of making the state durable, ms.
const COMPRESS_MS: u64 = 40;
const PERSIST_MS: u64 = 10;

/// A window's sealed object.
#[derive(Clone)]
struct Sealed {
    window: Window,
    bytes: Bytes,
    digest: Digest,
}

/// What a miner's process leaves on disk.
#[derive(Clone, Default)]
pub struct Disk {
    state: Option<(Private, Sealed)>,
}

/// A miner's process.
pub struct Miner {
    seat: Seat,
    disk: Rc<RefCell<Disk>>,
    machine: MinerMachine,
    conduct: Box<dyn Conduct>,
    private: Private,
    /// What a training has made, until compression and persistence take it over.
    trained: Option<(Private, Bytes)>,
    sealed: Option<Sealed>,
    training: Option<TrainingEntry>,
    gathered: Gathered,
    decided: Option<Box<Decided>>,
    /// What ends the process: its name and the sentence.
    fatal: Option<(&'static str, String)>,
}

/// What slow steps are slower by.
const SLOW_STEPS: u64 = 20;

impl Miner {
    /// The process of the node at `index` with slot `uid`.
    pub fn new(world: &Rc<World>, index: NodeIndex, uid: Uid, disk: Rc<RefCell<Disk>>) -> Self {
        let seat = Seat::new(world, index, uid);
        let conduct = match seat.info.attack {
            Some(kind) => attacks::conduct(world, index, kind),
            None => Box::new(Honest),
        };
        let machine = MinerMachine::new(world.run.miner_rules());
        Self {
            seat,
            disk,
            machine,
            conduct,
            private: Private::default(),
            trained: None,
            sealed: None,
            training: None,
            gathered: Gathered::default(),
            decided: None,
            fatal: None,
        }
    }

    /// Why the process cannot take part in the run.
    fn refusal(&self) -> Option<JoinError> {
        if self.seat.suffers(FaultKind::OtherProtocol) {
            return Some(JoinError::Protocol { theirs: PROTOCOL_VERSION, ours: PROTOCOL_VERSION + 1 });
        }
        let keys = || vec!["inner_steps (expected 99, the run has another)".to_owned()];
        self.seat.suffers(FaultKind::OtherHparams).then(|| JoinError::Hparams { keys: keys() })
    }

    fn stop(&self, kind: &str, why: String) {
        self.seat.note(&Entry::Stopped { kind: kind.to_owned(), why });
    }

    /// Mines until it is killed or has lost its slot.
    pub async fn run(mut self) {
        self.seat.tell(&SimEntry::Up { attack: self.seat.info.attack });
        self.seat.note_start("miner");
        if let Some(error) = self.refusal() {
            let error = NodeError::from(error);
            return self.stop(trouble::of_node(&error), error.to_string());
        }
        let Some(position) = self.join().await else { return };
        let run = self.seat.world.run.id;
        self.seat.note(&Entry::Joined { run, window: position.window, global_step: position.global_step, state_digest: position.theta });
        let mut next = self.machine.step(Event::Joined(position));
        while let Some(effect) = next {
            if matches!(effect.action, Action::Look(_)) && !self.seat.is_registered() {
                let why = format!("uid {} belongs to another hotkey now", self.seat.uid);
                return self.stop(trouble::NOT_REGISTERED, why);
            }
            let (phase, begun_ms) = (phases::of_miner(&effect.action), self.seat.world.time.now_ms());
            let outcome = self.perform(effect.action).await;
            self.seat.add_time(phase, begun_ms);
            if let Some((kind, why)) = self.fatal.take() {
                return self.stop(kind, why);
            }
            next = self.machine.step(Event::Done(effect.id, outcome));
        }
    }

    /// Loads what the disk has and the newest checkpoint, asking until there is one.
    async fn join(&mut self) -> Option<Position> {
        let mut told = false;
        loop {
            if let Some(position) = self.load_all().await {
                return Some(position);
            }
            if !std::mem::replace(&mut told, true) {
                self.seat.warn_of(trouble::NO_RUN, "no validator has published a run that can be read; waiting for one");
            }
            let pause_ms = self.seat.world.run.block_ms();
            self.seat.sleep_until(self.seat.now_ms() + pause_ms).await;
        }
    }

    async fn load_all(&mut self) -> Option<Position> {
        let position = self.seat.load_checkpoint().await?;
        match self.disk.borrow().state.clone() {
            Some((private, sealed)) => (self.private, self.sealed) = (private, Some(sealed)),
            None => (self.private, self.sealed) = (Private::default(), None),
        }
        self.settle_before(&position).await;
        Some(position)
    }

    /// Settles an object whose window lies before the checkpoint, by that window's own manifest.
    async fn settle_before(&mut self, position: &Position) {
        let Some(window) = self.sealed.as_ref().map(|sealed| sealed.window).filter(|window| *window < position.window) else { return };
        if position.window.0 - window.0 > self.seat.world.run.hparams().retention.objects_windows {
            self.sealed = None;
            return;
        }
        let ending = self.seat.look(window).2;
        for slot in 0..ending.map_or(0, |ending| ending.slots) {
            match self.seat.read_manifest(slot, 0).await.1 {
                ManifestRead::Found(found) => return self.settle(Some(&found)),
                ManifestRead::Absent { .. } | ManifestRead::Unreachable { .. } => {}
            }
        }
        self.settle(None);
    }

    async fn perform(&mut self, action: Action) -> Outcome {
        match action {
            Action::Look(window) => {
                self.seat.reach_chain().await;
                let (now_ms, start_ms, ending) = self.seat.look(window);
                let sealed = self.sealed.as_ref().is_some_and(|sealed| sealed.window == window);
                Outcome::Looked { now_ms, start_ms, ending, sealed }
            }
            Action::Train { at, stop_at_ms } => self.train(at, stop_at_ms).await,
            Action::Compress(at) => self.compress(at).await,
            Action::Persist(at) => self.persist(at).await,
            Action::PutCommit(window) => self.put_commit(window).await,
            Action::AwaitReveal(window) => {
                let (now_ms, ending) = self.seat.await_reveal(window).await;
                Outcome::Reveal(now_ms, ending)
            }
            Action::PutObject { window, until_ms } => self.put_object(window, until_ms).await,
            Action::Follow(action) => self.follow(action).await,
            Action::Resync { why } => self.resync(why).await,
            Action::Report { window, after, stepped } => {
                self.report(window, &after, stepped);
                Outcome::Done
            }
        }
    }

    /// Trains, and compresses in the same go: the lab is shared, so a training cannot lie half done in it. The time of each is kept apart.
    async fn train(&mut self, at: Position, stop_at_ms: u64) -> Outcome {
        let world = self.seat.world.clone();
        if let Some(error) = self.cannot_train().await {
            return self.failed(at.window, &error);
        }
        let step_ms = self.seat.info.step_ms.max(1) * if self.seat.suffers(FaultKind::SlowSteps) { SLOW_STEPS } else { 1 };
        let (began_ms, time_ms) = (self.seat.now_ms(), stop_at_ms.saturating_sub(self.seat.now_ms()));
        let training = Training {
            at,
            uid: self.seat.uid,
            run_id: world.run.id,
            key: &*self.seat.info.key,
            private: self.private.clone(),
            steps_max: u32::try_from(time_ms.div_ceil(step_ms)).unwrap_or(u32::MAX),
        };
        let trained = world.lab.borrow_mut().train(training, &mut *self.conduct);
        let trained = match trained {
            Ok(trained) => trained,
            Err(error) => return self.failed(at.window, &error),
        };
        let report = trained.report;
        self.seat.sleep_until(began_ms + u64::from(report.steps) * step_ms).await;
        world.record.borrow_mut().effort(at.window, self.seat.index).steps = report.steps;
        self.training = Some(TrainingEntry {
            steps: report.steps,
            entry_loss: report.entry_loss,
            last_loss: report.last_loss,
            tokens: report.tokens,
            tokens_s: report.tokens as f64 / (f64::from(report.steps) * step_ms as f64 / 1e3).max(1e-3),
            gradient_norm: report.gradient_norm,
            learning_rate: report.learning_rate,
            object_bytes: trained.object.len() as u64,
            ..TrainingEntry::default()
        });
        self.trained = Some((trained.private, trained.object.into()));
        Outcome::Trained(if self.conduct.sends_untrained() { report.steps.max(1) } else { report.steps })
    }

    /// Waits for data; gives what keeps the device from training.
    async fn cannot_train(&mut self) -> Option<WorkError> {
        if self.seat.suffers(FaultKind::NoData) {
            self.seat.warn_of(trouble::DATA, "the data cannot be had, asking again: no place of the data set can be reached");
        }
        while self.seat.suffers(FaultKind::NoData) {
            self.seat.sleep_until(self.seat.now_ms() + self.seat.world.run.block_ms()).await;
        }
        if self.seat.suffers(FaultKind::Diverges) {
            return Some(WorkError::NotFinite { step: 0, loss: f64::INFINITY, gradient_norm: f64::INFINITY });
        }
        let reason = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1073741824 bytes".to_owned();
        let full = self.seat.suffers(FaultKind::MemoryFull);
        full.then(|| ModelError::from(templar_tensor::Error::Device { device: "simulated".into(), reason }).into())
    }

    /// Says what kept the engine from its work, and gives the outcome.
    fn failed(&self, window: Window, error: &WorkError) -> Outcome {
        self.seat.warn_of(trouble::of_work(error), format!("training of window {window} failed: {error}"));
        Outcome::Failed(error.to_string())
    }

    async fn compress(&mut self, at: Position) -> Outcome {
        let Some((private, bytes)) = self.trained.take() else { return Outcome::Failed("nothing was trained".into()) };
        self.seat.sleep_until(self.seat.now_ms() + COMPRESS_MS).await;
        self.private = private;
        let digest = Digest::of(&bytes);
        self.sealed = Some(Sealed { window: at.window, bytes, digest });
        Outcome::Done
    }

    async fn persist(&mut self, _at: Position) -> Outcome {
        self.seat.sleep_until(self.seat.now_ms() + PERSIST_MS).await;
        if self.seat.suffers(FaultKind::DiskFull) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let error = NodeError::from(StateError::Io { what: "saved", path: "state/current".into(), source });
            self.fatal = Some((trouble::of_node(&error), error.to_string()));
            return Outcome::Failed(error.to_string());
        }
        self.disk.borrow_mut().state = self.sealed.clone().map(|sealed| (self.private.clone(), sealed));
        Outcome::Done
    }

    fn moment(&self, window: Window, next_start_ms: u64) -> Moment {
        Moment { window, now_ms: self.seat.now_ms(), next_start_ms, timetable: self.seat.world.run.hparams().timetable }
    }

    /// T(w+1), nominal until it is there.
    fn end_ms(&self, window: Window) -> u64 {
        let world = &self.seat.world;
        world.block_ms(window.next().first_block(world.run.blocks_per_window()))
    }

    async fn put_commit(&mut self, window: Window) -> Outcome {
        let end_ms = self.end_ms(window);
        let at_ms = self.conduct.commit_at_ms(self.moment(window, end_ms));
        self.seat.sleep_until(at_ms).await;
        let Some(sealed) = self.sealed.as_ref().filter(|sealed| sealed.window == window) else {
            return Outcome::Failed("there is no object to commit to".into());
        };
        let (world, uid) = (&self.seat.world, self.seat.uid);
        let commit = Commit { run: world.run.id, uid, window, object: sealed.digest, object_bytes: sealed.bytes.len() as u64 };
        let bytes = signed::sign(&commit, &*self.seat.info.key).expect("a commit is plain numbers and digests");
        let put = world.store.borrow_mut().put(self.seat.index, &names::commit(window, uid), bytes.into(), world.time.now_ms());
        match put {
            Ok(visible_ms) => {
                self.seat.until(visible_ms).await;
                // Another node's clock may be ahead by the largest error.
                let in_time = visible_ms + world.scenario.network.skew_ms <= world.run.hparams().timetable.reveal_ms(end_ms);
                world.record.borrow_mut().effort(window, self.seat.index).committed = in_time;
                let commit_ms = visible_ms as i64 - end_ms as i64;
                self.seat.tell(&SimEntry::Put { window, commit_ms, object_ms: None });
                Outcome::Done
            }
            Err(given_up_ms) => {
                self.seat.until(given_up_ms).await;
                self.seat.warn_of(self.put_trouble(), format!("the commit of window {window} was not put, so its object will not count"));
                Outcome::Failed("the bucket did not answer".into())
            }
        }
    }

    async fn put_object(&mut self, window: Window, until_ms: u64) -> Outcome {
        let world = self.seat.world.clone();
        let moment = self.moment(window, until_ms.saturating_sub(world.run.hparams().timetable.upload_window_ms));
        let Some(sealed) = self.sealed.clone().filter(|sealed| sealed.window == window) else {
            return Outcome::Failed("there is no object to put".into());
        };
        let key = names::object(window, self.seat.uid);
        let mut outcome = Outcome::Done;
        for Put { at_ms, bytes } in self.conduct.puts(moment, &sealed.bytes) {
            self.seat.sleep_until(at_ms).await;
            let alternate = attacks::alternate(self.seat.info.attack, &bytes);
            let put = world.store.borrow_mut().put_two_faced(self.seat.index, &key, bytes, alternate, world.time.now_ms());
            match put {
                Ok(visible_ms) => {
                    self.seat.until(visible_ms).await;
                    let mut record = world.record.borrow_mut();
                    record.effort(window, self.seat.index).delivered |= visible_ms + world.scenario.network.skew_ms <= until_ms;
                    if let Some(training) = &mut self.training {
                        training.upload_margin_ms = Some(until_ms as i64 - visible_ms as i64);
                    }
                }
                Err(given_up_ms) => {
                    self.seat.until(given_up_ms).await;
                    self.seat.warn_of(self.put_trouble(), format!("the object of window {window} was not put"));
                    outcome = Outcome::Failed("the bucket did not answer".into());
                }
            }
        }
        outcome
    }

    fn put_trouble(&self) -> &'static str {
        if self.seat.suffers(FaultKind::Denied) { trouble::PUT_DENIED } else { trouble::PUT_FAILED }
    }

    async fn follow(&mut self, action: FollowAction) -> Outcome {
        let followed = match action {
            FollowAction::Read { slot, at_ms } => {
                let (began_ms, read) = self.seat.read_manifest(slot, at_ms).await;
                Followed::Manifest(began_ms, read)
            }
            FollowAction::Survey(decided) => {
                let theta = self.seat.survey(&decided.manifest).await;
                Followed::Majority(self.seat.now_ms(), theta)
            }
            FollowAction::Gather(decided) => {
                let own = self.sealed.iter().filter(|sealed| sealed.window == decided.manifest.window);
                let at_hand: BTreeMap<Uid, Bytes> = own.map(|sealed| (self.seat.uid, sealed.bytes.clone())).collect();
                match self.seat.gather(&decided, &at_hand).await {
                    Some(gathered) => self.gathered = gathered,
                    None => return Outcome::Failed("not all objects of the manifest are to be had".into()),
                }
                Followed::Gathered
            }
            FollowAction::Apply(decided) => {
                let at = *self.machine.position();
                self.conduct.gathered(at.window, &self.gathered.peers);
                let stepped = self.seat.world.lab.borrow_mut().aggregate(&at.theta, at.window, &self.gathered.peers);
                let theta = match stepped {
                    Ok(theta) => theta,
                    Err(why) => return Outcome::Failed(why),
                };
                self.settle(Some(&decided));
                self.decided = Some(decided);
                Followed::Applied(theta)
            }
            FollowAction::SettleVoid => {
                self.settle(None);
                Followed::Settled
            }
            FollowAction::Publish { .. } => return Outcome::Failed("a miner has no slot to publish in".into()),
        };
        Outcome::Followed(followed)
    }

    /// Gives the sealed object back to the residual unless the window's manifest lists it.
    fn settle(&mut self, decided: Option<&Decided>) {
        let window = decided.map_or_else(|| self.seat.round().window, |decided| decided.manifest.window);
        let Some(sealed) = self.sealed.take_if(|sealed| sealed.window <= window) else { return };
        let listed = decided.is_some_and(|decided| {
            decided.manifest.window == sealed.window && decided.manifest.accepted.iter().any(|accepted| accepted.object == sealed.digest)
        });
        if !listed && sealed.bytes.len() > HEADER_BYTES {
            self.seat.world.lab.borrow().give_back(&mut self.private, &sealed.bytes[HEADER_BYTES..]);
        }
    }

    async fn resync(&mut self, why: String) -> Outcome {
        self.seat.note(&Entry::Resync { why });
        *self.seat.world.record.borrow_mut().resyncs.entry(self.seat.index).or_default() += 1;
        let pause_ms = self.seat.world.run.block_ms();
        self.seat.sleep_until(self.seat.now_ms() + pause_ms).await;
        match self.load_all().await {
            Some(position) => Outcome::Loaded(position),
            None => Outcome::Failed("no validator offers a checkpoint".into()),
        }
    }

    fn report(&mut self, window: Window, after: &Position, stepped: bool) {
        let decided = self.decided.take().filter(|decided| decided.manifest.window == window);
        let gathered = std::mem::take(&mut self.gathered);
        let mut entry = self.seat.window_entry(window, after, stepped, decided.as_deref(), &gathered);
        entry.training = self.training.take();
        self.seat.note(&Entry::Window(Box::new(entry)));
        if let Some(old) = window.0.checked_sub(self.seat.world.run.hparams().retention.objects_windows) {
            let mut store = self.seat.world.store.borrow_mut();
            store.delete(self.seat.index, &names::commit(Window(old), self.seat.uid));
            store.delete(self.seat.index, &names::object(Window(old), self.seat.uid));
        }
    }
}
