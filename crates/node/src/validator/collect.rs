//! Collecting a window's objects: commits first, then what they announce, each within its time and bounds.
//!
//! Only a commit that was read before anything was revealed counts. Every object is checked against its commit, its seal, the model's
//! shapes, the assigned samples and θ; one peer's fault leaves every other peer's result as it is.

use super::fates::HELD;
use super::kept_commits::KeptCommits;
use crate::context::Context;
use crate::journal::FetchEntry;
use crate::node::{Node, NodeError};
use crate::position::Position;
use crate::roster::Member;
use crate::round::{fetch_exact, majority};
use crate::run::Run;
use crate::signed;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use templar_codec::{Expect, Header, Opened, max_object_bytes};
use templar_data::ShardReader;
use templar_gauntlet::Arrival;
use templar_protocol::messages::{Accepted, Commit, CommitRead, Manifest, Message, REASON_CHARS_MAX, Refused};
use templar_protocol::sampler::sample_digest;
use templar_protocol::{AccountId, Digest, Uid, Window, names};
use templar_store::{Bucket, Deadline, ErrorKind, StoreError};

/// Requests at once.
const REQUESTS_MAX: usize = 64;
/// The least real time for reading a commit.
const COMMIT_LEAST: Duration = Duration::from_millis(500);

/// What a validator holds of a window before it is decided.
#[derive(Debug, Default)]
pub struct Collected {
    /// The window.
    pub window: Window,
    /// The commits read in time, by rising uid.
    pub commits: Vec<CommitRead>,
    /// Who does not take part, and why, by rising uid.
    pub refused: Vec<Refused>,
    /// The objects that may be accepted, by uid.
    pub objects: BTreeMap<Uid, Bytes>,
    /// When the requests began that brought them, Unix ms.
    pub found_ms: BTreeMap<Uid, u64>,
    /// How they came, those too that were refused once they were here.
    pub fetched: BTreeMap<Uid, FetchEntry>,
    /// The same, opened.
    pub opened: Vec<Opened>,
    /// Stake (at least 1 each) behind each θ that the objects start from.
    pub theta_shares: BTreeMap<Digest, u128>,
}

impl Collected {
    /// The θ that the majority of the objects starts from.
    pub fn majority(&self) -> Option<Digest> {
        majority(&self.theta_shares)
    }

    /// Of the objects, those to be applied; the others, whose miners `held` names with its reasons, are held back and noted as such. Where
    /// fewer than `minimum_peers` (at least one) would be left, nothing is held.
    pub fn hold(&mut self, held: &BTreeMap<AccountId, String>, minimum_peers: usize) -> Vec<Opened> {
        let opened = std::mem::take(&mut self.opened);
        let (back, kept): (Vec<Opened>, Vec<Opened>) = opened.into_iter().partition(|peer| held.contains_key(&peer.header().hotkey));
        if kept.len() < minimum_peers.max(1) {
            let mut all: Vec<Opened> = back.into_iter().chain(kept).collect();
            all.sort_by_key(|peer| peer.header().uid);
            return all;
        }
        for peer in &back {
            let reason = held.get(&peer.header().hotkey).cloned().unwrap_or_default();
            self.refuse(peer.header().uid, HELD, reason);
        }
        self.refused.sort_by_key(|refused| refused.uid);
        kept
    }

    /// The manifest of what was collected at `at`, for `slot`; `opened` are the objects to be applied, `clip_norms` theirs. With fewer than
    /// `minimum_peers` objects it accepts none.
    pub fn manifest(&self, run: &Run, at: &Position, slot: u32, opened: &[Opened], clip_norms: Vec<f32>) -> Manifest {
        let enough = opened.len() >= run.hparams().minimum_peers;
        let accepted = opened.iter().filter(|_| enough).filter_map(|peer| {
            let uid = peer.header().uid;
            let commit = self.commits.iter().find(|commit| commit.uid == uid)?;
            Some(Accepted { uid, hotkey: peer.header().hotkey, object: commit.object, object_bytes: commit.object_bytes })
        });
        Manifest {
            run: run.id,
            window: at.window,
            slot,
            global_step: at.global_step,
            theta_before: at.theta,
            accepted: accepted.collect(),
            clip_norms: if enough && !opened.is_empty() { clip_norms } else { vec![] },
            commits: self.commits.clone(),
            refused: self.refused.clone(),
            previous: at.manifest,
        }
    }

    /// The objects of `window` that reached this validator and were found right, by rising uid; none when it has collected another window.
    pub fn arrivals(&self, window: Window) -> Vec<Arrival> {
        let objects = self.objects.iter().filter(|_| self.window == window);
        let arrival = |(uid, bytes): (&Uid, &Bytes)| {
            Some(Arrival { uid: *uid, object_bytes: bytes.len() as u64, found_ms: *self.found_ms.get(uid)? })
        };
        objects.filter_map(arrival).collect()
    }

    /// Notes that `uid` does not take part, and why.
    pub fn refuse(&mut self, uid: Uid, kind: &str, reason: impl Into<String>) {
        let reason = reason.into().chars().take(REASON_CHARS_MAX).collect();
        self.refused.push(Refused { uid, kind: kind.to_owned(), reason });
    }
}

/// A miner whose object is on its way.
struct Awaited {
    member: Member,
    bucket: Bucket,
    commit: CommitRead,
}

/// Collects the window of `at`: objects that have not appeared by `upload_ends_ms` are late, downloads end at `until_ms`. `trusted` are the
/// miners of the last manifest; their objects (all, when there is none) tell which θ the network is at. The commits are kept in the file
/// `kept`; those that a former process read in time for this window count as read.
///
/// # Errors
/// The worker is gone or the data cannot be had; never a peer's fault.
pub async fn collect(
    node: &Node,
    at: &Position,
    upload_ends_ms: u64,
    until_ms: u64,
    trusted: &BTreeSet<Uid>,
    kept: &Path,
) -> Result<Collected, NodeError> {
    let mut collected = Collected { window: at.window, ..Collected::default() };
    let bytes_max = node.worker.run(|work| max_object_bytes(work.layout()) as u64).await?;
    match KeptCommits::load(kept, &node.run.id, at.window) {
        Some(known) => (collected.commits, collected.refused) = (known.commits, known.refused),
        None => {
            read_commits(node, &mut collected, bytes_max).await;
            let Collected { commits, refused, .. } = &collected;
            let known = KeptCommits { run: node.run.id, window: at.window, commits: commits.clone(), refused: refused.clone() };
            if let Err(error) = known.save(kept) {
                node.ctx.warn(format!("the commits of window {} could not be kept in {}: {error}", at.window, kept.display()));
            }
        }
    }
    let awaited = awaited(node, &collected.commits);
    let fetched = fetch(node, &mut collected, awaited, upload_ends_ms, until_ms).await;
    check(node, &mut collected, at, fetched, trusted).await?;
    collected.refused.sort_by_key(|refused| refused.uid);
    Ok(collected)
}

async fn read_commits(node: &Node, collected: &mut Collected, bytes_max: u64) {
    let (ctx, round) = (&node.ctx, node.round());
    // A bucket that does not answer must not cost the window: everybody waits for the manifest.
    let deadline = ctx.deadline(0, Duration::from_millis(node.run.hparams().timetable.upload_window_ms / 4).max(COMMIT_LEAST));
    let reads = round.roster.miners.iter().filter(|member| member.hotkey != ctx.hotkey()).map(|member| async move {
        let bucket = ctx.bucket_of(member);
        let commit = match &bucket {
            None => Err(("no-bucket", "it has committed no bucket that this node may read".to_owned())),
            Some(bucket) => read_commit(bucket, &node.run.id, member, round.window, deadline).await,
        };
        (member, commit)
    });
    let mut reads: Vec<_> = futures::stream::iter(reads).buffer_unordered(REQUESTS_MAX).collect().await;
    reads.sort_by_key(|(member, _)| member.uid);
    for (member, commit) in reads {
        match commit {
            Ok(commit) if commit.object_bytes <= bytes_max => {
                let read = CommitRead { uid: member.uid, object: commit.object, object_bytes: commit.object_bytes };
                collected.commits.push(read);
            }
            Ok(commit) => {
                let why = format!("its commit announces {} bytes; an object of this run has at most {bytes_max}", commit.object_bytes);
                collected.refuse(member.uid, "oversized", why);
            }
            // A validator without a slot that does not mine is no news.
            Err(("absent" | "no-bucket", _)) if member.permit => {}
            Err((kind, why)) => collected.refuse(member.uid, kind, why),
        }
    }
}

/// The miners whose objects `commits` announce.
fn awaited(node: &Node, commits: &[CommitRead]) -> Vec<Awaited> {
    let find = |commit: &CommitRead| {
        let member = node.round().roster.member(commit.uid)?;
        Some(Awaited { member: member.clone(), bucket: node.ctx.bucket_of(member)?, commit: commit.clone() })
    };
    commits.iter().filter_map(find).collect()
}

async fn read_commit(
    bucket: &Bucket,
    run: &Digest,
    member: &Member,
    window: Window,
    deadline: Deadline,
) -> Result<Commit, (&'static str, String)> {
    let read = bucket.get_if_exists(&names::commit(window, member.uid), Commit::BYTES_MAX, deadline).await;
    let Some(bytes) = read.map_err(|error| ("unreachable", format!("its commit cannot be read: {error}")))? else {
        // The object is asked about only to name the reason; it does not count either way.
        return Err(match bucket.head(&names::object(window, member.uid), deadline).await {
            Ok(_) => ("not-committed", "it published an object without having committed to it before the window's end".to_owned()),
            Err(_) => ("absent", "it has neither a commit nor an object".to_owned()),
        });
    };
    check_commit(&bytes, run, member, window)
}

/// The commit in `bytes`, as it was read from the bucket of `member`.
///
/// # Errors
/// A stable kind and a sentence: it is not signed by the member, or of another run, uid or window.
pub fn check_commit(bytes: &[u8], run: &Digest, member: &Member, window: Window) -> Result<Commit, (&'static str, String)> {
    let opened = signed::open::<Commit>(bytes).map_err(|error| ("bad-commit", error.to_string()))?;
    let commit = opened.message;
    if opened.signer != member.hotkey {
        return Err(("bad-commit", format!("its commit is signed by {}, the uid belongs to {}", opened.signer, member.hotkey)));
    }
    if commit.run != *run || commit.uid != member.uid || commit.window != window {
        return Err(("bad-commit", "its commit is of another run, uid or window".to_owned()));
    }
    Ok(commit)
}

/// An answer to one request for an object, with the instant at which it was asked and the time that it took.
type Answer = (Awaited, u64, Duration, Result<Bytes, StoreError>);

fn ask(ctx: &Context, window: Window, peer: Awaited, until_ms: u64) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let asked_ms = ctx.now_ms();
        let (key, begun) = (names::object(window, peer.member.uid), Instant::now());
        let result = fetch_exact(ctx, &peer.bucket, &key, peer.commit.object_bytes, until_ms).await;
        (peer, asked_ms, begun.elapsed(), result)
    })
}

/// Waits for the objects, until all are there or their time is over. A slow peer does not hold up the asking for others.
async fn fetch(node: &Node, collected: &mut Collected, awaited: Vec<Awaited>, upload_ends_ms: u64, until_ms: u64) -> Vec<(Awaited, Bytes)> {
    let (ctx, window, poll_ms) = (&*node.ctx, collected.window, node.run.poll_ms());
    let mut fetched = Vec::new();
    let mut missing = awaited;
    let mut asks: FuturesUnordered<BoxFuture<'_, Answer>> = FuturesUnordered::new();
    loop {
        asks.extend(missing.drain(..).map(|peer| ask(ctx, window, peer, until_ms)));
        // While requests are under way only real time passes, so that paced time never overtakes an answer.
        let tick = tokio::time::sleep(Duration::from_millis(poll_ms));
        tokio::pin!(tick);
        loop {
            tokio::select! {
                biased;
                answer = asks.next() => {
                    let Some((peer, asked_ms, took, result)) = answer else { break };
                    match sort_answer(collected, &peer, asked_ms, result, upload_ends_ms, until_ms) {
                        Some(Ok(bytes)) => {
                            collected.found_ms.insert(peer.member.uid, asked_ms);
                            collected.fetched.insert(peer.member.uid, fetch_entry(bytes.len(), took, upload_ends_ms, asked_ms));
                            fetched.push((peer, bytes));
                        }
                        Some(Err(())) => missing.push(peer),
                        None => {}
                    }
                }
                () = &mut tick, if !missing.is_empty() => break,
            }
        }
        if asks.is_empty() && missing.is_empty() {
            return fetched;
        }
        if asks.is_empty() {
            let (now_ms, wake_ms) = (ctx.now_ms(), ctx.now_ms() + poll_ms);
            ctx.clock.sleep_until(if now_ms < upload_ends_ms { wake_ms.min(upload_ends_ms) } else { wake_ms }).await;
        }
    }
}

fn fetch_entry(object_bytes: usize, took: Duration, upload_ends_ms: u64, asked_ms: u64) -> FetchEntry {
    let margin_ms = i64::try_from(i128::from(upload_ends_ms) - i128::from(asked_ms)).ok();
    FetchEntry { object_bytes: object_bytes as u64, fetch_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX), margin_ms }
}

/// The object, `Err` when it is to be asked for again, or `None` when it is refused.
fn sort_answer(
    collected: &mut Collected,
    peer: &Awaited,
    asked_ms: u64,
    result: Result<Bytes, StoreError>,
    upload_ends_ms: u64,
    until_ms: u64,
) -> Option<Result<Bytes, ()>> {
    let uid = peer.member.uid;
    let (kind, why) = match result {
        Ok(bytes) => return Some(Ok(bytes)),
        Err(error) if error.is_not_found() && asked_ms < upload_ends_ms => return Some(Err(())),
        Err(error) if error.is_not_found() => ("late", "its object was not there when the upload window ended".to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::TooLarge { .. }) => {
            ("oversized", format!("its object is larger than the {} bytes of its commit", peer.commit.object_bytes))
        }
        Err(error) if error.is_retryable() && asked_ms < until_ms => return Some(Err(())),
        Err(error) => ("unreachable", format!("its object cannot be read: {error}")),
    };
    collected.refuse(uid, kind, why);
    None
}

async fn check(
    node: &Node,
    collected: &mut Collected,
    at: &Position,
    fetched: Vec<(Awaited, Bytes)>,
    trusted: &BTreeSet<Uid>,
) -> Result<(), NodeError> {
    let mut by_uid: HashMap<Uid, (Awaited, Bytes)> = HashMap::new();
    let mut to_open = Vec::new();
    for (peer, bytes) in fetched {
        let uid = peer.member.uid;
        if let Err((kind, why)) = check_committed(&peer.commit, &bytes) {
            collected.refuse(uid, kind, why);
        } else {
            let expect = Expect { run_id: node.run.id, uid, hotkey: peer.member.hotkey, window: at.window };
            to_open.push((expect, bytes.clone()));
            by_uid.insert(uid, (peer, bytes));
        }
    }
    to_open.sort_by_key(|(expect, _)| expect.uid);
    let opening = node.worker.run(move |work| {
        let open = |(expect, bytes): (Expect, Bytes)| (expect.uid, work.open(&bytes, &expect));
        to_open.into_iter().map(open).collect::<Vec<_>>()
    });
    let opened = opening.await?;
    let reader = node.shard(at.global_step).await?;
    for (uid, result) in opened {
        let Some((peer, bytes)) = by_uid.remove(&uid) else { continue };
        let opened = match result {
            Ok(opened) => opened,
            Err(refusal) => {
                collected.refuse(uid, refusal.kind(), refusal.to_string());
                continue;
            }
        };
        // Who has never been aggregated says nothing about the network's θ: keys are cheap.
        let known = trusted.is_empty() || trusted.contains(&uid);
        *collected.theta_shares.entry(opened.header().theta).or_default() += u128::from(peer.member.stake) + u128::from(known);
        match check_header(node, at, &reader, &opened)? {
            Err((kind, why)) => collected.refuse(uid, kind, why),
            Ok(()) => {
                collected.objects.insert(uid, bytes);
                collected.opened.push(opened);
            }
        }
    }
    Ok(())
}

/// Whether `bytes`, of which no more were read than announced, are what `commit` has announced.
///
/// # Errors
/// A stable kind and a sentence.
pub fn check_committed(commit: &CommitRead, bytes: &[u8]) -> Result<(), (&'static str, String)> {
    if (bytes.len() as u64) < commit.object_bytes {
        return Err(("truncated", format!("its object has {} bytes, its commit announces {}", bytes.len(), commit.object_bytes)));
    }
    if Digest::of(bytes) != commit.object {
        return Err(("not-as-committed", "its object has another digest than its commit announced".to_owned()));
    }
    Ok(())
}

/// Whether an object starts from our θ and names the samples that were assigned, whose ids are `assigned`.
///
/// # Errors
/// A stable kind and a sentence.
pub fn check_claims(header: &Header, at: &Position, assigned: impl FnOnce() -> ([u8; 16], u64)) -> Result<(), (&'static str, String)> {
    if header.theta != at.theta {
        let why = format!("it starts from θ {}, the network is at {}: it must resync", header.theta.short(), at.theta.short());
        return Err(("desynchronised", why));
    }
    if (header.sample_digest, header.sample_count) != assigned() {
        return Err(("wrong-samples", "the samples that it names are not the ones assigned to it".to_owned()));
    }
    Ok(())
}

/// Whether the object starts from our θ and names the samples that were assigned.
fn check_header(
    node: &Node,
    at: &Position,
    reader: &Arc<ShardReader>,
    opened: &Opened,
) -> Result<Result<(), (&'static str, String)>, NodeError> {
    let header = opened.header();
    let assignment = node.assignment(header.uid, at.window, reader.n_samples())?;
    let ids = reader.ids(assignment.pool()).map_err(|error| crate::workspace::WorkError::Data(error.to_string()))?;
    Ok(check_claims(header, at, || (sample_digest(&ids), ids.len() as u64)))
}

/// Keeps a copy of every object that may be accepted, in the validator's own bucket.
pub async fn keep_copies(ctx: &Context, collected: &Collected) {
    let puts = collected
        .objects
        .iter()
        .map(|(uid, bytes)| async move { (*uid, ctx.bucket.put(&names::accepted(collected.window, *uid), bytes.clone()).await) });
    let mut puts = futures::stream::iter(puts).buffer_unordered(REQUESTS_MAX);
    while let Some((uid, put)) = puts.next().await {
        if let Err(error) = put {
            ctx.warn(format!("the copy of uid {uid}'s object of window {} could not be kept: {error}", collected.window));
        }
    }
}
