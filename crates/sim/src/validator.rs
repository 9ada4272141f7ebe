//! The validator's driver in virtual time: performs the effects of the real machine against the world.

use crate::attacks::{self, Office};
use crate::phases;
use crate::scoring::Scores;
use crate::seat::{Gathered, Seat};
use crate::store::{Got, NodeIndex};
use crate::world::World;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use templar_codec::{Expect, Opened};
use templar_node::decide::{Decided, ManifestRead};
use templar_node::follow::{FollowAction, Followed};
use templar_node::journal::Entry;
use templar_node::position::Position;
use templar_node::round::Round;
use templar_node::signed;
use templar_node::validator::collect::{Collected, check_claims, check_commit, check_committed};
use templar_node::validator::fates::HELD;
use templar_node::validator::machine::{Action, Event, Outcome, ValidatorMachine};
use templar_protocol::messages::{CheckpointPointer, Commit, CommitRead, Manifest, Message, Refused};
use templar_protocol::{Digest, Uid, Window, names};

/// Time to evaluate one miner, and to publish a checkpoint besides its transfer, ms.
const EVALUATE_MS: u64 = 20;
const CHECKPOINT_MS: u64 = 50;

/// What a validator's process leaves on disk.
#[derive(Clone, Default)]
pub struct Disk {
    scores: Option<Scores>,
    /// The commits of the last window that were read in time, and who was refused by then.
    commits: Option<(Window, Vec<CommitRead>, Vec<Refused>)>,
}

/// A miner whose object is on its way.
struct Awaited {
    uid: Uid,
    owner: NodeIndex,
    commit: CommitRead,
}

/// A validator's process.
pub struct Validator {
    seat: Seat,
    disk: Rc<RefCell<Disk>>,
    machine: ValidatorMachine,
    scores: Scores,
    office: Box<dyn Office>,
    collected: Collected,
    trusted: BTreeSet<Uid>,
    gathered: Gathered,
    decided: Option<Box<Decided>>,
    held_out_loss: Option<f64>,
}

impl Validator {
    /// The process of the node at `index` with slot `uid`.
    pub fn new(world: &Rc<World>, index: NodeIndex, uid: Uid, disk: Rc<RefCell<Disk>>) -> Self {
        let seat = Seat::new(world, index, uid);
        let scores = disk.borrow().scores.clone().unwrap_or_else(|| Scores::new(&world.run));
        let office = attacks::office(world, index);
        Self {
            seat,
            disk,
            machine: ValidatorMachine::new(world.run.validator_rules()),
            scores,
            office,
            collected: Collected::default(),
            trusted: BTreeSet::new(),
            gathered: Gathered::default(),
            decided: None,
            held_out_loss: None,
        }
    }

    /// Validates until it is killed.
    pub async fn run(mut self) {
        self.seat.tell(&crate::record::SimEntry::Up { attack: self.seat.info.attack });
        self.seat.note_start("validator");
        let beginning = self.seat.world.beginning();
        if self.seat.index == 0 && self.seat.world.time.now_ms() == self.seat.world.run.descriptor.started_ms {
            self.offer(&beginning).await;
        }
        let position = loop {
            if let Some(position) = self.seat.load_checkpoint().await {
                break position;
            }
            self.seat.sleep_until(self.seat.now_ms() + self.seat.world.run.block_ms()).await;
        };
        let run = self.seat.world.run.id;
        self.seat.note(&Entry::Joined { run, window: position.window, global_step: position.global_step, state_digest: position.theta });
        let mut next = self.machine.step(Event::Joined(position));
        while let Some(effect) = next {
            let (phase, begun_ms) = (phases::of_validator(&effect.action), self.seat.world.time.now_ms());
            let outcome = self.perform(effect.action).await;
            self.seat.add_time(phase, begun_ms);
            next = self.machine.step(Event::Done(effect.id, outcome));
        }
    }

    async fn perform(&mut self, action: Action) -> Outcome {
        match action {
            Action::Look(window) => {
                self.seat.reach_chain().await;
                let (now_ms, _, ending) = self.seat.look(window);
                let commits_kept = self.disk.borrow().commits.as_ref().is_some_and(|(of, ..)| *of == window);
                Outcome::Looked { now_ms, ending, commits_kept }
            }
            Action::AwaitReveal(window) => {
                let (now_ms, ending) = self.seat.await_reveal(window).await;
                Outcome::Reveal(now_ms, ending)
            }
            Action::Collect { at, upload_ends_ms, until_ms } => self.collect(&at, upload_ends_ms, until_ms).await,
            Action::Follow(action) => self.follow(action).await,
            Action::Evaluate(at) => self.evaluate(&at).await,
            Action::SetWeights(window) => self.set_weights(window),
            Action::Checkpoint(at) => {
                self.seat.sleep_until(self.seat.now_ms() + CHECKPOINT_MS).await;
                self.offer(&at).await
            }
            Action::Resync { why } => self.resync(why).await,
            Action::Report { window, after, stepped } => {
                self.report(window, &after, stepped);
                Outcome::Done
            }
        }
    }

    async fn collect(&mut self, at: &Position, upload_ends_ms: u64, until_ms: u64) -> Outcome {
        self.collected = Collected { window: at.window, ..Collected::default() };
        let round = self.seat.round();
        let kept = self.disk.borrow().commits.clone().filter(|(of, ..)| *of == at.window);
        match kept {
            Some((_, commits, refused)) => (self.collected.commits, self.collected.refused) = (commits, refused),
            None => {
                self.read_commits(&round).await;
                let Collected { commits, refused, .. } = &self.collected;
                self.disk.borrow_mut().commits = Some((at.window, commits.clone(), refused.clone()));
            }
        }
        let awaited = self.awaited(&round);
        let fetched = self.fetch(&round, awaited, upload_ends_ms, until_ms).await;
        self.check(at, &round, fetched);
        self.collected.refused.sort_by_key(|refused| refused.uid);
        for refused in &self.collected.refused {
            let (kind, reason) = (refused.kind.clone(), refused.reason.clone());
            self.seat.note(&Entry::Refused { window: at.window, uid: refused.uid, kind, reason });
        }
        self.keep_copies(at.window).await;
        Outcome::Collected { now_ms: self.seat.now_ms(), majority: self.collected.majority() }
    }

    /// All commits at once, for at most a quarter of the upload window.
    async fn read_commits(&mut self, round: &Round) {
        let world = self.seat.world.clone();
        let patience_ms = world.time.now_ms() + world.run.hparams().timetable.upload_window_ms / 4;
        let mut answered_ms = world.time.now_ms();
        for member in round.roster.miners.iter().filter(|member| member.hotkey != self.seat.hotkey()) {
            let Some(owner) = self.seat.node_of(&member.hotkey) else { continue };
            let (ready_ms, got) = world.get(self.seat.index, owner, &names::commit(round.window, member.uid), Commit::BYTES_MAX);
            answered_ms = answered_ms.max(ready_ms.min(patience_ms));
            let read = match got {
                _ if ready_ms > patience_ms => Err(("unreachable", "its commit did not arrive in time".to_owned())),
                Got::Failed(why) => Err(("unreachable", format!("its commit cannot be read: {why}"))),
                Got::TooLarge => Err(("bad-commit", "its commit is larger than any commit".to_owned())),
                Got::Absent => Err(match world.store.borrow().visible_since_ms(owner, &names::object(round.window, member.uid)) {
                    Some(since_ms) if since_ms <= ready_ms => {
                        ("not-committed", "it published an object without having committed to it before the window's end".to_owned())
                    }
                    _ => ("absent", "it has neither a commit nor an object".to_owned()),
                }),
                Got::Found(bytes) => check_commit(&bytes, &world.run.id, member, round.window),
            };
            match read {
                Ok(commit) if commit.object_bytes <= round.object_bytes_max => {
                    let read = CommitRead { uid: member.uid, object: commit.object, object_bytes: commit.object_bytes };
                    self.collected.commits.push(read);
                }
                Ok(commit) => {
                    let why =
                        format!("its commit announces {} bytes, objects have at most {}", commit.object_bytes, round.object_bytes_max);
                    self.collected.refuse(member.uid, "oversized", why);
                }
                // A validator without a slot that does not mine is no news.
                Err(("absent", _)) if member.permit => {}
                Err((kind, why)) => self.collected.refuse(member.uid, kind, why),
            }
        }
        self.seat.until(answered_ms).await;
    }

    /// The miners whose objects the commits announce.
    fn awaited(&self, round: &Round) -> Vec<Awaited> {
        let find = |commit: &CommitRead| {
            let owner = self.seat.node_of(&round.roster.member(commit.uid)?.hotkey)?;
            Some(Awaited { uid: commit.uid, owner, commit: commit.clone() })
        };
        self.collected.commits.iter().filter_map(find).collect()
    }

    /// Asks for the objects until all are there or their time is over.
    async fn fetch(&mut self, round: &Round, awaited: Vec<Awaited>, upload_ends_ms: u64, until_ms: u64) -> Vec<(Awaited, Bytes)> {
        let world = self.seat.world.clone();
        let (mut missing, mut fetched, mut arrived_ms) = (awaited, Vec::new(), world.time.now_ms());
        let until_world_ms = until_ms.saturating_add_signed(-self.seat.skew_ms());
        loop {
            let asked_ms = self.seat.now_ms();
            let mut again = Vec::new();
            for peer in missing.drain(..) {
                let key = names::object(round.window, peer.uid);
                let (ready_ms, got) = world.get(self.seat.index, peer.owner, &key, peer.commit.object_bytes);
                let (kind, why) = match got {
                    Got::Found(bytes) if ready_ms <= until_world_ms => {
                        arrived_ms = arrived_ms.max(ready_ms);
                        fetched.push((peer, bytes));
                        continue;
                    }
                    Got::Found(_) => {
                        arrived_ms = arrived_ms.max(until_world_ms);
                        ("unreachable", "its object did not arrive before downloads were given up".to_owned())
                    }
                    Got::Absent if asked_ms < upload_ends_ms => {
                        again.push(peer);
                        continue;
                    }
                    Got::Absent => ("late", "its object was not there when the upload window ended".to_owned()),
                    Got::TooLarge => {
                        ("oversized", format!("its object is larger than the {} bytes of its commit", peer.commit.object_bytes))
                    }
                    Got::Failed(_) if asked_ms < until_ms => {
                        again.push(peer);
                        continue;
                    }
                    Got::Failed(why) => ("unreachable", format!("its object cannot be read: {why}")),
                };
                self.collected.refuse(peer.uid, kind, why);
            }
            if again.is_empty() {
                break;
            }
            missing = again;
            let wake_ms = asked_ms + world.run.poll_ms();
            self.seat.sleep_until(if asked_ms < upload_ends_ms { wake_ms.min(upload_ends_ms) } else { wake_ms }).await;
        }
        self.seat.until(arrived_ms).await;
        fetched
    }

    fn check(&mut self, at: &Position, round: &Round, mut fetched: Vec<(Awaited, Bytes)>) {
        let world = self.seat.world.clone();
        fetched.sort_by_key(|(peer, _)| peer.uid);
        for (peer, bytes) in fetched {
            let uid = peer.uid;
            let Some(member) = round.roster.member(uid) else { continue };
            if let Err((kind, why)) = check_committed(&peer.commit, &bytes) {
                self.collected.refuse(uid, kind, why);
                continue;
            }
            let expect = Expect { run_id: world.run.id, uid, hotkey: member.hotkey, window: at.window };
            let opened = world.lab.borrow_mut().open(&bytes, &expect);
            let opened = match opened {
                Ok(opened) => opened,
                Err(refusal) => {
                    self.collected.refuse(uid, refusal.kind(), refusal.to_string());
                    continue;
                }
            };
            let known = self.trusted.is_empty() || self.trusted.contains(&uid);
            *self.collected.theta_shares.entry(opened.header().theta).or_default() += u128::from(member.stake) + u128::from(known);
            match check_claims(opened.header(), at, || world.lab.borrow_mut().assigned(uid, at.window)) {
                Err((kind, why)) => self.collected.refuse(uid, kind, why),
                Ok(()) => {
                    self.collected.objects.insert(uid, bytes);
                    self.collected.opened.push(opened);
                }
            }
        }
    }

    async fn keep_copies(&self, window: Window) {
        let world = &self.seat.world;
        let mut kept_ms = world.time.now_ms();
        for (uid, bytes) in &self.collected.objects {
            let put = world.store.borrow_mut().put(self.seat.index, &names::accepted(window, *uid), bytes.clone(), world.time.now_ms());
            kept_ms = kept_ms.max(put.unwrap_or_else(|given_up_ms| given_up_ms));
        }
        self.seat.until(kept_ms).await;
    }

    async fn follow(&mut self, action: FollowAction) -> Outcome {
        let followed = match action {
            FollowAction::Read { slot, at_ms } => {
                let (began_ms, read) = self.seat.read_manifest(slot, at_ms).await;
                Followed::Manifest(began_ms, read)
            }
            FollowAction::Publish { slot, until_ms } => self.publish(slot, until_ms).await,
            FollowAction::Survey(decided) => {
                let theta = self.seat.survey(&decided.manifest).await;
                Followed::Majority(self.seat.now_ms(), theta)
            }
            FollowAction::Gather(decided) => {
                let here = self.collected.window == decided.manifest.window;
                let at_hand = if here { self.collected.objects.clone() } else { BTreeMap::new() };
                match self.seat.gather(&decided, &at_hand).await {
                    Some(gathered) => self.gathered = gathered,
                    None => return Outcome::Failed("not all objects of the manifest are to be had".into()),
                }
                if !decided.manifest.accepted.is_empty() {
                    self.trusted = decided.manifest.accepted.iter().map(|accepted| accepted.uid).collect();
                }
                self.decided = Some(decided);
                Followed::Gathered
            }
            FollowAction::Apply(_) => {
                let at = *self.machine.position();
                let mut lab = self.seat.world.lab.borrow_mut();
                let theta = match lab.aggregate(&at.theta, at.window, &self.gathered.peers) {
                    Ok(theta) => theta,
                    Err(why) => return Outcome::Failed(why),
                };
                self.held_out_loss = lab.held_out_loss(&theta, at.window);
                Followed::Applied(theta)
            }
            FollowAction::SettleVoid => Followed::Settled,
        };
        Outcome::Followed(followed)
    }

    async fn publish(&mut self, slot: u32, until_ms: u64) -> Followed {
        let world = self.seat.world.clone();
        let began_ms = self.seat.now_ms();
        let absent = |why: &str| Followed::Manifest(began_ms, ManifestRead::Absent { why: why.into() });
        let held = self.scores.held();
        let opened = self.collected.hold(&held, world.run.hparams().minimum_peers);
        let clip_norms = world.lab.borrow().clip_norms(&opened);
        let mut manifest = self.collected.manifest(&world.run, self.machine.position(), slot, &opened, clip_norms);
        if !self.office.publish(&mut manifest) {
            return absent("it withholds its manifest");
        }
        if self.seat.now_ms() >= until_ms {
            return absent("there was no time left to publish");
        }
        let window = manifest.window;
        let bytes = signed::sign(&manifest, &*self.seat.info.key).expect("a manifest is plain numbers and digests");
        let put =
            world.store.borrow_mut().put_if_absent(self.seat.index, &names::manifest(window, slot), bytes.into(), world.time.now_ms());
        self.seat.until(put.unwrap_or_else(|given_up_ms| given_up_ms)).await;
        let (began_ms, read) = self.seat.read_manifest(slot, 0).await;
        if let ManifestRead::Found(decided) = &read {
            let accepted = decided.manifest.accepted.iter().map(|accepted| accepted.uid).collect();
            self.seat.note(&Entry::Published { window, slot, accepted, manifest: decided.digest });
        }
        Followed::Manifest(began_ms, read)
    }

    async fn evaluate(&mut self, at: &Position) -> Outcome {
        let world = self.seat.world.clone();
        let Some(decided) = self.decided.clone() else { return Outcome::Failed("there is no decision to evaluate".into()) };
        let block = at.window.next().first_block(world.run.blocks_per_window());
        let hash = crate::world::now(templar_chain::Chain::block_hash(&world.chain, block)).ok().flatten();
        let seed = Digest(hash.map_or(decided.digest.0, |hash| hash.0));
        let round = self.seat.round();
        let mut peers = std::mem::take(&mut self.gathered.peers);
        let applied = peers.len();
        peers.extend(self.held_objects(&decided.manifest, &round));
        let (members, survey) = self.scores.look(self.seat.index, &world, &round, &decided.manifest, &self.collected, &peers);
        let chosen = self.scores.choose(&seed, &members, &survey);
        let measured = world.lab.borrow_mut().evaluate(&at.theta, at.window, seed, (&peers, applied), &chosen);
        self.seat.sleep_until(self.seat.now_ms() + EVALUATE_MS * chosen.len() as u64).await;
        peers.truncate(applied);
        self.gathered.peers = peers;
        let measurements = match measured.as_ref() {
            Ok(measurements) => measurements,
            Err(why) => return Outcome::Failed(why.clone()),
        };
        match self.scores.observe(&self.seat, at.window, members, survey, measurements) {
            Ok(()) => {
                self.disk.borrow_mut().scores = Some(self.scores.clone());
                Outcome::Done
            }
            Err(why) => {
                self.seat.warn(format!("window {} was not scored: {why}", at.window));
                Outcome::Failed(why)
            }
        }
    }

    /// The objects that the manifest holds back, as this validator has them.
    fn held_objects(&self, manifest: &Manifest, round: &Round) -> Vec<Opened> {
        let world = &self.seat.world;
        let held = manifest.refused.iter().filter(|refused| refused.kind == HELD && self.collected.window == round.window);
        held.filter_map(|refused| {
            let hotkey = round.roster.member(refused.uid)?.hotkey;
            let expect = Expect { run_id: world.run.id, uid: refused.uid, hotkey, window: round.window };
            world.lab.borrow_mut().open(self.collected.objects.get(&refused.uid)?, &expect).ok()
        })
        .collect()
    }

    fn set_weights(&mut self, window: Window) -> Outcome {
        let world = &self.seat.world;
        let weights = self.office.weights(self.scores.weights(), &world.weights());
        let encoded = templar_gauntlet::to_u16(&weights);
        if encoded.is_empty() {
            return Outcome::Failed("there is no weight to set".into());
        }
        match world.put_weights(&*self.seat.info.key, &encoded) {
            Ok(block) => {
                self.seat.note(&Entry::Weights { window, block, weights: weights.into_iter().collect() });
                Outcome::Done
            }
            Err(why) => {
                self.seat.warn(format!("the weights of window {window} were not set: {why}"));
                Outcome::Failed(why)
            }
        }
    }

    /// Offers θ of `at` as the newest checkpoint.
    async fn offer(&mut self, at: &Position) -> Outcome {
        let world = self.seat.world.clone();
        let (file_bytes, theta_parts) = {
            let lab = world.lab.borrow();
            (lab.theta_bytes(), lab.parts(&at.theta))
        };
        let pointer = CheckpointPointer {
            run: world.run.id,
            next_window: at.window,
            global_step: at.global_step,
            file: at.theta,
            file_bytes,
            theta: at.theta,
            theta_parts,
            manifest: at.manifest,
        };
        let bytes = signed::sign(&pointer, &*self.seat.info.key).expect("a pointer is plain numbers and digests");
        let put = world.store.borrow_mut().put(self.seat.index, names::CHECKPOINT_LATEST, bytes.into(), world.time.now_ms());
        match put {
            Ok(visible_ms) => {
                self.seat.until(visible_ms).await;
                world.checkpoints.borrow_mut().insert(self.seat.index, at.theta);
                let (next_window, global_step, state_digest) = (at.window, at.global_step, at.theta);
                self.seat.note(&Entry::Checkpoint { next_window, global_step, state_digest, file_bytes });
                Outcome::Done
            }
            Err(given_up_ms) => {
                self.seat.until(given_up_ms).await;
                Outcome::Failed("the bucket did not answer".into())
            }
        }
    }

    async fn resync(&mut self, why: String) -> Outcome {
        self.seat.note(&Entry::Resync { why });
        *self.seat.world.record.borrow_mut().resyncs.entry(self.seat.index).or_default() += 1;
        self.seat.sleep_until(self.seat.now_ms() + self.seat.world.run.block_ms()).await;
        match self.seat.load_checkpoint().await {
            Some(position) => Outcome::Loaded(position),
            None => Outcome::Failed("no validator offers a checkpoint".into()),
        }
    }

    fn report(&mut self, window: Window, after: &Position, stepped: bool) {
        let world = self.seat.world.clone();
        let decided = self.decided.take().filter(|decided| decided.manifest.window == window);
        let gathered = std::mem::take(&mut self.gathered);
        let mut entry = self.seat.window_entry(window, after, stepped, decided.as_deref(), &gathered);
        entry.held_out_loss = self.held_out_loss.take();
        self.remember(window, decided.as_deref(), entry.held_out_loss);
        self.seat.note(&Entry::Window(Box::new(entry)));
        let retention = &world.run.hparams().retention;
        let mut store = world.store.borrow_mut();
        if let Some(old) = window.0.checked_sub(retention.accepted_windows) {
            for member in &self.seat.round().roster.miners {
                store.delete(self.seat.index, &names::accepted(Window(old), member.uid));
            }
        }
        if let Some(old) = window.0.checked_sub(retention.manifests_windows) {
            (0..world.run.hparams().timetable.slots).for_each(|slot| store.delete(self.seat.index, &names::manifest(Window(old), slot)));
        }
        drop(store);
        world.forget(window);
    }

    /// The facts of a window for the report.
    fn remember(&self, window: Window, decided: Option<&Decided>, loss: Option<f64>) {
        let mut record = self.seat.world.record.borrow_mut();
        if let Some(loss) = loss {
            record.losses.entry(self.seat.index).or_default().insert(window.0, loss);
        }
        match decided {
            Some(decided) => {
                let accepted = decided.manifest.accepted.iter().filter_map(|accepted| self.seat.node_of(&accepted.hotkey)).collect();
                record.accepted.insert(window.0, accepted);
                if self.seat.index == 0 {
                    for refused in &decided.manifest.refused {
                        let member = self.seat.round().roster.member(refused.uid).map(|member| member.hotkey);
                        if let Some(miner) = member.and_then(|hotkey| self.seat.node_of(&hotkey)) {
                            *record.refusals.entry(miner).or_default().entry(refused.kind.clone()).or_default() += 1;
                        }
                    }
                }
            }
            None => drop(record.void.insert(window.0)),
        }
    }
}
