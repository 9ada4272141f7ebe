//! θ of a window, from a checkpoint and the manifests after it, with every digest on the way checked.

use super::round::{Round, Start};
use std::time::Duration;
use templar_codec::{Expect, Opened, Refusal};
use templar_gauntlet::{Fate, ScoreSheet};
use templar_model::checkpoint;
use templar_node::worker::Worker;
use templar_node::workspace::Workspace;
use templar_protocol::messages::{Accepted, CheckpointPointer, Manifest};
use templar_protocol::{Digest, ThetaDigest, Uid, Window, names};
use templar_store::{Bucket, Deadline};

/// Longest answer to a request for an object; a second more for each MiB.
const REQUEST_S: u64 = 60;

/// Why θ could not be reached.
pub(crate) enum Stopped {
    /// Something is gone.
    Missing(String),
    /// Something is not what it is called.
    False(String),
}

/// The sealed objects of a manifest, opened; those that do not open are told apart, as every node leaves them out.
pub(crate) struct Objects {
    /// What opened, in the manifest's order.
    pub opened: Vec<Opened>,
    /// What did not, and why.
    pub refused: Vec<(Uid, Refusal)>,
}

fn deadline(bytes: u64) -> Deadline {
    Deadline::within(Duration::from_secs(REQUEST_S + bytes / (1 << 20)))
}

/// Brings θ of `worker` to the start of the round's window; says from where and over how many windows.
pub(super) async fn replay(worker: &Worker<Workspace>, run: Digest, round: &Round, start: &Start) -> Result<String, Stopped> {
    load(worker, &start.pointer, &start.bucket).await?;
    let mut theta = start.pointer.theta;
    for manifest in &start.manifests {
        if manifest.theta_before != theta {
            let (names, is) = (manifest.theta_before.short(), theta.short());
            return Err(Stopped::False(format!("the manifest of window {} starts from θ {names}, replayed it is {is}", manifest.window)));
        }
        let objects = objects(worker, run, manifest.window, &manifest.accepted, &round.buckets).await?;
        theta = run_job(worker, move |work| work.aggregate(&objects.opened)).await?;
    }
    let said = round.decided.manifest.theta_before;
    if said != theta {
        return Err(Stopped::False(format!("the manifest names θ {}, replayed it is {}", said.short(), theta.short())));
    }
    Ok(format!(
        "θ {} replayed from the checkpoint of window {} over {} manifests",
        theta.short(),
        start.pointer.next_window,
        start.manifests.len()
    ))
}

/// Puts the θ of a checkpoint in `bucket` into the workspace, after its file and its θ have the digests that `pointer` names.
pub(crate) async fn load(worker: &Worker<Workspace>, pointer: &CheckpointPointer, bucket: &Bucket) -> Result<(), Stopped> {
    let specs = run_job(worker, |work| work.specs().to_vec()).await?;
    let most = checkpoint::encoded_bytes_max(&specs);
    if pointer.file_bytes > most {
        return Err(Stopped::False(format!("the checkpoint claims {} bytes, the model has at most {most}", pointer.file_bytes)));
    }
    let name = names::checkpoint(&pointer.file);
    let bytes = bucket.get(&name, pointer.file_bytes, deadline(pointer.file_bytes)).await;
    let bytes = bytes.map_err(|error| Stopped::Missing(format!("the checkpoint cannot be read: {error}")))?;
    let loaded = checkpoint::decode(&specs, &bytes).map_err(|error| Stopped::False(format!("the checkpoint is damaged: {error}")))?;
    if loaded.digest != pointer.file || ThetaDigest::of(&specs, &loaded.tensors).root != pointer.theta {
        return Err(Stopped::False("the checkpoint's file or θ has another digest than its pointer names".into()));
    }
    let set = run_job(worker, move |work| work.set_theta(loaded.tensors)).await?;
    set.map(|_| ()).map_err(|error| Stopped::False(error.to_string()))
}

/// The objects of `window` in `listed`, from the copies that validators keep.
pub(crate) async fn objects(
    worker: &Worker<Workspace>,
    run: Digest,
    window: Window,
    listed: &[Accepted],
    buckets: &[Bucket],
) -> Result<Objects, Stopped> {
    let most = run_job(worker, |work| templar_codec::max_object_bytes(work.layout()) as u64).await?;
    let mut sealed = Vec::with_capacity(listed.len());
    for accepted in listed {
        let (uid, size) = (accepted.uid, accepted.object_bytes);
        if size > most {
            return Err(Stopped::False(format!("uid {uid}: {size} bytes, an object of this run has at most {most}")));
        }
        let gone = || Stopped::Missing(format!("the object of uid {uid} in window {window} is in no validator's bucket any more"));
        let bytes = copy(accepted, window, buckets).await.ok_or_else(gone)?;
        sealed.push((Expect { run_id: run, uid, hotkey: accepted.hotkey, window }, bytes));
    }
    run_job(worker, move |work| {
        let mut objects = Objects { opened: vec![], refused: vec![] };
        for (expect, bytes) in sealed {
            match work.open(&bytes, &expect) {
                Ok(opened) => objects.opened.push(opened),
                Err(refusal) => objects.refused.push((expect.uid, refusal)),
            }
        }
        objects
    })
    .await
}

/// The objects that a sheet's validator has judged: those that `manifest` lists, then those that it holds back.
pub(crate) fn judged(sheet: &ScoreSheet, manifest: &Manifest) -> Vec<Accepted> {
    let held = sheet.observation.members.iter().filter_map(|member| {
        let Fate::Held { object } = member.fate else { return None };
        let commit = manifest.commits.iter().find(|commit| commit.uid == member.uid && commit.object == object)?;
        Some(Accepted { uid: member.uid, hotkey: member.hotkey, object, object_bytes: commit.object_bytes })
    });
    manifest.accepted.iter().cloned().chain(held).collect()
}

async fn copy(accepted: &Accepted, window: Window, buckets: &[Bucket]) -> Option<bytes::Bytes> {
    for bucket in buckets {
        let read = bucket.get(&names::accepted(window, accepted.uid), accepted.object_bytes, deadline(accepted.object_bytes)).await;
        if let Ok(bytes) = read
            && Digest::of(&bytes) == accepted.object
        {
            return Some(bytes);
        }
    }
    None
}

pub(crate) async fn run_job<R: Send + 'static>(
    worker: &Worker<Workspace>,
    job: impl FnOnce(&mut Workspace) -> R + Send + 'static,
) -> Result<R, Stopped> {
    worker.run(job).await.map_err(|error| Stopped::Missing(error.to_string()))
}
