//! What nodes publish about a run and its windows (design: native protocol).
//!
//! Each message travels in a [`Signed`] envelope: the exact text that was signed, the key and the signature. The text is parsed
//! only after the signature has been checked, so no canonical form of JSON is needed. Making and opening envelopes needs
//! keys and therefore lives beside them, in the wallet crate's users; this module knows shapes and bounds only.

use crate::hparams::Hparams;
use crate::{AccountId, Digest, GlobalStep, Netuid, Uid, Window};
use serde::{Deserialize, Serialize};

/// The protocol's version; nodes of another version do not join.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest run descriptor, commit or checkpoint pointer that is read, in bytes.
pub const SMALL_MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// The largest manifest that is read, in bytes: 256 entries with a reason each and the norms of 100,000 parameters.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// The longest reason that is kept from a message, in characters.
pub const REASON_CHARS_MAX: usize = 300;

/// A text with the key that signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The message, as JSON text, exactly as it was signed.
    pub body: String,
    /// The signer's hotkey.
    pub signer: AccountId,
    /// The sr25519 signature, 128 hexadecimal digits.
    pub signature: String,
}

/// A message with a signing context of its own, so that no signature can be used for another kind.
pub trait Message: Serialize + for<'de> Deserialize<'de> {
    /// The context under which the message is signed.
    const CONTEXT: &'static [u8];
    /// The largest envelope that is read, in bytes.
    const BYTES_MAX: u64 = SMALL_MESSAGE_BYTES_MAX;
}

/// Where the data set of a run is, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataReference {
    /// blake3 of the data manifest (names, sizes and digests of shards and tokenizer).
    pub manifest: Digest,
    /// Buckets that hold the data set, in order of preference.
    pub places: Vec<String>,
}

/// All that a joiner needs to know of a run; signed by the leader that started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDescriptor {
    /// [`PROTOCOL_VERSION`] of the run.
    pub protocol: u32,
    /// The subnet.
    pub netuid: Netuid,
    /// All hyper-parameters, the model among them.
    pub hparams: Hparams,
    /// Their digest, which nodes compare before they join.
    pub hparams_digest: Digest,
    /// Digest of the tokenizer.
    pub tokenizer: Digest,
    /// The data set.
    pub data: DataReference,
    /// Digest of checkpoint 0's file: the initial θ, loaded by everybody and never drawn anew.
    pub initial_checkpoint: Digest,
    /// Digest of the initial θ.
    pub initial_theta: Digest,
    /// The first window that is trained.
    pub start_window: Window,
    /// Unix time at which the run was started, in ms; makes two runs of the same settings different.
    pub started_ms: u64,
}

impl Message for RunDescriptor {
    const CONTEXT: &'static [u8] = b"templar run descriptor 1";
}

/// A miner's word, before the window ends, on which object it will reveal after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The miner's uid.
    pub uid: Uid,
    /// The window that was trained.
    pub window: Window,
    /// blake3 of the whole sealed object.
    pub object: Digest,
    /// Its size in bytes.
    pub object_bytes: u64,
}

impl Message for Commit {
    const CONTEXT: &'static [u8] = b"templar commit 1";
}

/// A commit as the leader read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitRead {
    /// The miner's uid.
    pub uid: Uid,
    /// The digest that it announced.
    pub object: Digest,
    /// The size that it announced, in bytes.
    pub object_bytes: u64,
}

/// An object that belongs to the round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey in this window.
    pub hotkey: AccountId,
    /// blake3 of the sealed object.
    pub object: Digest,
    /// Its size in bytes.
    pub object_bytes: u64,
}

/// Why a miner is not in the round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The miner's uid.
    pub uid: Uid,
    /// A stable kind, for example `late`.
    pub kind: String,
    /// A sentence for people.
    pub reason: String,
}

/// The decision on a window: which objects everybody aggregates, in uid order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The window decided.
    pub window: Window,
    /// 0 for the leader, r for its r-th successor.
    pub slot: u32,
    /// Outer steps applied before this window's.
    pub global_step: GlobalStep,
    /// Digest of θ at the window's start, to which the objects are applied.
    pub theta_before: Digest,
    /// The objects to aggregate, by rising uid. Empty: the window is void and θ stays.
    pub accepted: Vec<Accepted>,
    /// The lower-median norm of each parameter over the accepted objects: the clipping threshold.
    pub clip_norms: Vec<f32>,
    /// The commits that the publisher had read in time.
    pub commits: Vec<CommitRead>,
    /// Who is not in the round, and why.
    pub refused: Vec<Refused>,
    /// Digest of the previous decided manifest; none for the first.
    pub previous: Option<Digest>,
}

impl Message for Manifest {
    const CONTEXT: &'static [u8] = b"templar manifest 1";
    const BYTES_MAX: u64 = MANIFEST_BYTES_MAX;
}

impl Manifest {
    /// Whether the manifest is well formed: rising uids, bounded lists.
    pub fn check(&self) -> Result<(), &'static str> {
        const NEURONS_MAX: usize = 4096;
        if self.accepted.len() > NEURONS_MAX || self.commits.len() > NEURONS_MAX || self.refused.len() > NEURONS_MAX {
            return Err("it lists more neurons than a subnet has");
        }
        if !self.accepted.windows(2).all(|pair| pair[0].uid < pair[1].uid) {
            return Err("its accepted uids do not rise");
        }
        if self
            .accepted
            .iter()
            .any(|a| !self.commits.iter().any(|c| c.uid == a.uid && c.object == a.object && c.object_bytes == a.object_bytes))
        {
            return Err("it accepts an object that nobody committed");
        }
        if self.clip_norms.iter().any(|norm| !norm.is_finite() || *norm < 0.0) {
            return Err("a clipping norm is not a finite number");
        }
        Ok(())
    }
}

/// A checkpoint that the leader offers: content-addressed θ with its place in the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointPointer {
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The first window that is trained from this θ.
    pub next_window: Window,
    /// Outer steps applied.
    pub global_step: GlobalStep,
    /// blake3 of the checkpoint's file, which is also its name.
    pub file: Digest,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Digest of θ.
    pub theta: Digest,
    /// Digests of the single parameters, so that a difference can be named.
    pub theta_parts: Vec<Digest>,
    /// Digest of the last manifest applied; none at the start.
    pub manifest: Option<Digest>,
}

impl Message for CheckpointPointer {
    const CONTEXT: &'static [u8] = b"templar checkpoint 1";
    const BYTES_MAX: u64 = 16 << 20;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(uids: &[u16]) -> Manifest {
        let entry =
            |&uid: &u16| Accepted { uid: Uid(uid), hotkey: AccountId::default(), object: Digest::of(&[uid as u8]), object_bytes: 9 };
        let accepted: Vec<Accepted> = uids.iter().map(entry).collect();
        let commits = accepted.iter().map(|a| CommitRead { uid: a.uid, object: a.object, object_bytes: a.object_bytes }).collect();
        Manifest {
            run: Digest::default(),
            window: Window(3),
            slot: 0,
            global_step: GlobalStep(1),
            theta_before: Digest::default(),
            accepted,
            clip_norms: vec![1.0],
            commits,
            refused: vec![],
            previous: None,
        }
    }

    #[test]
    fn manifests_must_rise_and_be_committed() {
        assert_eq!(manifest(&[1, 4, 9]).check(), Ok(()));
        assert!(manifest(&[4, 1]).check().is_err());
        assert!(manifest(&[4, 4]).check().is_err());
        let mut uncommitted = manifest(&[1, 2]);
        uncommitted.commits[1].object = Digest::default();
        assert!(uncommitted.check().is_err());
        let mut wild = manifest(&[1]);
        wild.clip_norms[0] = f32::NAN;
        assert!(wild.check().is_err());
    }
}
