//! The network side of a window's decision, shared by both roles: reading manifests, surveying θ, gathering objects.

use crate::context::{Context, SMALL_REQUEST};
use crate::decide::{Decided, ManifestRead};
use crate::journal::FetchEntry;
use crate::roster::{Member, Roster};
use crate::run::Run;
use crate::signed;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use templar_codec::container::seal_holds;
use templar_codec::{HEADER_BYTES, Header};
use templar_protocol::messages::{Accepted, MANIFEST_BYTES_MAX, Manifest};
use templar_protocol::{AccountId, Digest, Uid, Window, names};
use templar_store::{Bucket, ErrorKind, StoreError};

/// Downloads at once.
const DOWNLOADS_MAX: usize = 8;
/// Every download has at least this long, however little of the window is left.
const DOWNLOAD_LEAST: Duration = Duration::from_secs(2);

/// One window at its end: who decides it and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The window.
    pub window: Window,
    /// Validators and miners, as of the first block after the window.
    pub roster: Roster,
    /// T(w+1).
    pub next_start_ms: u64,
    /// The largest object that a miner of this run can send, in bytes.
    pub object_bytes_max: u64,
    /// How long a peer has to deliver before a validator's copy is asked for, in ms.
    pub patience_ms: u64,
}

impl Round {
    /// Reads the manifest of `slot` once. The caller has waited until it may be there.
    pub async fn read_manifest(&self, ctx: &Context, run: &Run, slot: u32) -> ManifestRead {
        let Some(publisher) = self.roster.publisher(slot) else {
            return ManifestRead::Absent { why: format!("there is no validator for slot {slot}") };
        };
        let Some(bucket) = ctx.bucket_of(publisher) else {
            return ManifestRead::Absent { why: format!("the validator with uid {} has committed no bucket", publisher.uid) };
        };
        let deadline = ctx.deadline(0, SMALL_REQUEST);
        match bucket.get_if_exists(&names::manifest(self.window, slot), MANIFEST_BYTES_MAX, deadline).await {
            Ok(None) => ManifestRead::Absent { why: String::new() },
            Ok(Some(bytes)) => match self.check_manifest(run, publisher, slot, &bytes) {
                Ok(decided) => ManifestRead::Found(Box::new(decided)),
                Err(why) => ManifestRead::Absent { why },
            },
            // The store answered, and finally: waiting would not change it.
            Err(error) if matches!(error.kind(), ErrorKind::TooLarge { .. } | ErrorKind::Denied | ErrorKind::Invalid) => {
                ManifestRead::Absent { why: error.to_string() }
            }
            Err(error) => ManifestRead::Unreachable { why: error.to_string() },
        }
    }

    /// The manifest in `bytes`, as it was read from the bucket of `publisher`.
    ///
    /// # Errors
    /// A sentence: signature, signer, run, window, slot or form is wrong.
    pub fn check_manifest(&self, run: &Run, publisher: &Member, slot: u32, bytes: &[u8]) -> Result<Decided, String> {
        let opened = signed::open::<Manifest>(bytes).map_err(|error| error.to_string())?;
        let manifest = opened.message;
        if opened.signer != publisher.hotkey {
            return Err(format!("it is signed by {}, not by the validator of slot {slot}", opened.signer));
        }
        if manifest.run != run.id || manifest.window != self.window || manifest.slot != slot {
            return Err("it is of another run, window or slot".into());
        }
        manifest.check()?;
        if manifest.accepted.iter().any(|accepted| accepted.object_bytes > self.object_bytes_max) {
            return Err(format!("it accepts an object of more than {} bytes, which no miner of this run can send", self.object_bytes_max));
        }
        Ok(Decided { manifest, digest: opened.digest })
    }

    /// The θ that the majority (by stake, at least one share each) of the manifest's committed objects starts from; none without a majority.
    pub async fn survey(&self, ctx: &Context, run: &Run, manifest: &Manifest) -> Option<Digest> {
        let reads = manifest.commits.iter().filter_map(|commit| {
            let member = self.roster.member(commit.uid)?;
            let bucket = ctx.bucket_of(member)?;
            let key = names::object(self.window, commit.uid);
            let (hotkey, share) = (member.hotkey, u128::from(member.stake.max(1)));
            Some(async move {
                let bytes = bucket.get_range(&key, 0..HEADER_BYTES as u64, ctx.deadline(0, SMALL_REQUEST)).await.ok()?;
                claimed_theta(&bytes, &run.id, &hotkey, self.window).map(|theta| (theta, share))
            })
        });
        let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(DOWNLOADS_MAX);
        let mut shares: BTreeMap<Digest, u128> = BTreeMap::new();
        while let Some(read) = reads.next().await {
            if let Some((theta, share)) = read {
                *shares.entry(theta).or_default() += share;
            }
        }
        majority(&shares)
    }

    /// Fetches the manifest's objects: from `at_hand`, from the peers, or from a validator's copies. Gives them in uid order with those that
    /// came from copies; `None` when some object is nowhere to be had before `until_ms`.
    pub async fn gather(
        &self,
        ctx: &Context,
        manifest: &Manifest,
        mut at_hand: HashMap<Uid, Bytes>,
        poll_ms: u64,
        until_ms: u64,
    ) -> Option<Gathered> {
        let mut gathered = Gathered::default();
        for accepted in &manifest.accepted {
            if let Some(bytes) = at_hand.remove(&accepted.uid).filter(|bytes| Digest::of(bytes) == accepted.object) {
                gathered.objects.insert(accepted.uid, bytes);
            }
        }
        loop {
            let missing = manifest.accepted.iter().filter(|accepted| !gathered.objects.contains_key(&accepted.uid));
            let fetches: Vec<_> = missing
                .map(|accepted| async move {
                    let begun = Instant::now();
                    (accepted.uid, self.fetch_accepted(ctx, accepted, until_ms).await, begun.elapsed())
                })
                .collect();
            let mut fetches = futures::stream::iter(fetches).buffer_unordered(DOWNLOADS_MAX);
            while let Some((uid, found, took)) = fetches.next().await {
                let Some((bytes, copied)) = found else { continue };
                let fetch_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                gathered.fetched.insert(uid, FetchEntry { object_bytes: bytes.len() as u64, fetch_ms, margin_ms: None });
                gathered.objects.insert(uid, bytes);
                if copied {
                    gathered.from_copies.push(uid);
                }
            }
            if gathered.objects.len() == manifest.accepted.len() {
                gathered.from_copies.sort_unstable();
                return Some(gathered);
            }
            if ctx.now_ms() >= until_ms {
                return None;
            }
            ctx.clock.sleep_until(ctx.now_ms() + poll_ms).await;
        }
    }

    async fn fetch_accepted(&self, ctx: &Context, accepted: &Accepted, until_ms: u64) -> Option<(Bytes, bool)> {
        let uid = accepted.uid;
        let peer = self.roster.member(uid).filter(|member| member.hotkey == accepted.hotkey);
        if let Some(bucket) = peer.and_then(|member| ctx.bucket_of(member)) {
            // A peer that drips bytes must not hold up everybody: there are copies.
            let patience_ms = until_ms.min(ctx.now_ms() + self.patience_ms);
            let fetched = fetch_exact(ctx, &bucket, &names::object(self.window, uid), accepted.object_bytes, patience_ms).await;
            if let Ok(bytes) = fetched
                && Digest::of(&bytes) == accepted.object
            {
                return Some((bytes, false));
            }
        }
        for validator in &self.roster.validators {
            let Some(bucket) = ctx.bucket_of(validator) else { continue };
            let fetched = fetch_exact(ctx, &bucket, &names::accepted(self.window, uid), accepted.object_bytes, until_ms).await;
            if let Ok(bytes) = fetched
                && Digest::of(&bytes) == accepted.object
            {
                return Some((bytes, true));
            }
        }
        None
    }
}

/// The objects of a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// The sealed objects by uid.
    pub objects: BTreeMap<Uid, Bytes>,
    /// Those that a validator's copy replaced.
    pub from_copies: Vec<Uid>,
    /// How those came that were not at hand.
    pub fetched: BTreeMap<Uid, FetchEntry>,
}

/// Fetches an object that must have exactly `bytes` bytes; a larger one is refused before it is read.
///
/// # Errors
/// As the store says; an object of another size is [`ErrorKind::Invalid`] or `TooLarge`.
pub async fn fetch_exact(ctx: &Context, bucket: &Bucket, key: &str, bytes: u64, until_ms: u64) -> Result<Bytes, StoreError> {
    bucket.get(key, bytes, ctx.deadline(until_ms, DOWNLOAD_LEAST)).await
}

/// The θ that the header in `bytes` starts from, if it is sealed by `hotkey` for this run and window.
pub fn claimed_theta(bytes: &[u8], run: &Digest, hotkey: &AccountId, window: Window) -> Option<Digest> {
    let header = Header::parse(bytes).ok().filter(|_| seal_holds(bytes) == Ok(true))?;
    (header.hotkey == *hotkey && header.run_id == *run && header.window == window).then_some(header.theta)
}

/// The key with more than half of all shares.
pub fn majority(shares: &BTreeMap<Digest, u128>) -> Option<Digest> {
    let total: u128 = shares.values().sum();
    shares.iter().find(|(_, share)| **share * 2 > total).map(|(theta, _)| *theta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|x| Digest::of(x));
        assert_eq!(majority(&BTreeMap::from([(a, 2), (b, 1), (c, 1)])), None);
        assert_eq!(majority(&BTreeMap::from([(a, 3), (b, 1), (c, 1)])), Some(a));
        assert_eq!(majority(&BTreeMap::new()), None);
    }
}
