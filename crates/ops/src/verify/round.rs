//! The manifests behind a sheet: the one that decided its window, and those before it back to a checkpoint.

use super::Case;
use std::collections::BTreeMap;
use templar_chain::{At, Chain};
use templar_node::context::peer_url;
use templar_node::roster::Roster;
use templar_protocol::messages::{CheckpointPointer, Manifest};
use templar_protocol::{AccountId, Digest, Window, names};
use templar_store::{Bucket, BucketConfig};

/// Windows that are looked through for a checkpoint, at most.
const WINDOWS_MAX: u64 = 256;
/// Slots of a window that are asked for, at most: a run has a few.
const SLOTS_MAX: u32 = 16;
/// Other validators that are asked, at most.
const OTHERS_MAX: usize = 64;

/// A manifest with its digest and signer.
pub(super) struct Decided {
    /// The manifest.
    pub manifest: Manifest,
    /// Who signed it.
    pub signer: AccountId,
}

/// What decided a window, and from where it can be replayed.
pub(super) struct Round {
    /// The manifest that decided the window.
    pub decided: Decided,
    /// Buckets that may have manifests and copies: the validator's own first.
    pub buckets: Vec<Bucket>,
    /// The checkpoint from which the window can be reached, if there is one.
    pub start: Result<Start, String>,
}

/// A checkpoint, and the manifests from it to the window, oldest first, without the window's own.
pub(super) struct Start {
    /// The checkpoint.
    pub pointer: CheckpointPointer,
    /// The bucket that has it.
    pub bucket: Bucket,
    /// The manifests between.
    pub manifests: Vec<Manifest>,
}

/// Finds the manifest that the sheet names and the way to it; `Err` says why not.
pub(super) async fn find(case: &Case<'_>) -> Result<Round, String> {
    let buckets = buckets(case).await;
    let at = manifests(case, &buckets, case.window()).await;
    let digest = case.sheet.manifest;
    let decided = at.into_iter().find(|(found, _)| *found == digest).map(|(_, decided)| decided);
    let decided = decided.ok_or_else(|| {
        let help = if case.inputs.chain.is_none() { "; if another validator published it, --chain finds its bucket" } else { "" };
        format!("the manifest {} of window {} is in no bucket that could be read{help}", digest.short(), case.window())
    })?;
    let start = start(case, &buckets, &decided.manifest).await;
    Ok(Round { decided, buckets, start })
}

/// The buckets of the validator, of those that are known, and of those that the chain knows.
async fn buckets(case: &Case<'_>) -> Vec<Bucket> {
    let mut buckets = vec![case.inputs.bucket.clone()];
    buckets.extend(case.inputs.others.iter().cloned());
    if let Some(chain) = &case.inputs.chain {
        buckets.extend(on_chain(case, &**chain).await);
    }
    let mut seen = std::collections::BTreeSet::new();
    buckets.retain(|bucket| seen.insert(bucket.url().to_string()));
    buckets.truncate(OTHERS_MAX + 1);
    buckets
}

async fn on_chain(case: &Case<'_>, chain: &dyn Chain) -> Vec<Bucket> {
    let netuid = case.run.netuid;
    let (Ok(metagraph), Ok(commitments)) = (chain.metagraph(netuid, At::Best).await, chain.commitments(netuid, At::Best).await) else {
        return vec![];
    };
    let url = |hotkey: &AccountId| commitments.get(hotkey).and_then(|commitment| peer_url(&commitment.data));
    let roster = Roster::new(&metagraph, u32::MAX, url);
    let urls = roster.validators.iter().filter_map(|member| member.bucket.clone());
    urls.filter_map(|url| Bucket::open(&BucketConfig::anonymous(url), &case.inputs.http).ok()).collect()
}

/// The well-formed manifests of `window` in the buckets, by digest.
async fn manifests(case: &Case<'_>, buckets: &[Bucket], window: Window) -> BTreeMap<Digest, Decided> {
    let mut found = BTreeMap::new();
    for bucket in buckets {
        for slot in 0..case.run.hparams.timetable.slots.min(SLOTS_MAX) {
            let Ok(Some(opened)) = case.read::<Manifest>(bucket, &names::manifest(window, slot)).await else { continue };
            let manifest = opened.message;
            if manifest.run == case.run_id && manifest.window == window && manifest.check().is_ok() {
                found.insert(opened.digest, Decided { manifest, signer: opened.signer });
            }
        }
    }
    found
}

/// The manifest of `window` with `digest`.
pub(super) async fn by_digest(case: &Case<'_>, buckets: &[Bucket], window: Window, digest: Digest) -> Option<Manifest> {
    manifests(case, buckets, window).await.remove(&digest).map(|decided| decided.manifest)
}

/// The newest checkpoint not after the window from which its manifests lead to it.
async fn start(case: &Case<'_>, buckets: &[Bucket], last: &Manifest) -> Result<Start, String> {
    let (window, mut wanted) = (case.window(), last.previous);
    let mut between: Vec<Manifest> = Vec::new();
    for back in 0..WINDOWS_MAX {
        let Some(at) = window.0.checked_sub(back).map(Window) else { break };
        for bucket in buckets {
            let Ok(Some(opened)) = case.read::<CheckpointPointer>(bucket, &names::checkpoint_pointer(at)).await else { continue };
            let pointer = opened.message;
            // It stands where the chain of manifests has arrived, or it is another history's.
            if pointer.run == case.run_id && pointer.next_window == at && pointer.manifest == wanted {
                between.reverse();
                return Ok(Start { pointer, bucket: bucket.clone(), manifests: between });
            }
        }
        // One window further back: its manifest, if the chain of digests leads through it; a void window has none.
        let Some(before) = at.0.checked_sub(1).map(Window).filter(|before| *before >= case.run.start_window) else { break };
        if let Some(digest) = wanted
            && let Some(decided) = manifests(case, buckets, before).await.remove(&digest)
        {
            wanted = decided.manifest.previous;
            between.push(decided.manifest);
        }
    }
    Err(format!(
        "there is no checkpoint from which the manifests lead to window {window}: older checkpoints and manifests are deleted after the run's retention"
    ))
}
