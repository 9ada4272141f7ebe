//! The way to a window: θ from the newest checkpoint before it, manifest by manifest, and the objects of the windows before.
//!
//! Forward, because the window itself may not be decided yet. A manifest counts when it names the manifest before and the θ that was reached, so a
//! false turn cannot be taken unseen; where manifests go on and none continues, one is missing, and that is said.

use super::{Case, sketch};
use crate::bench::Bench;
use crate::sheets::{read_sheet, read_signed};
use crate::verify::replay::{self, Stopped, run_job};
use templar_gauntlet::native::rules::LikenessRules;
use templar_gauntlet::{Gallery, ScoreSheet};
use templar_node::worker::Worker;
use templar_node::workspace::Workspace;
use templar_protocol::messages::{Accepted, CheckpointPointer, Manifest, RunDescriptor};
use templar_protocol::{Digest, Window, names};
use templar_store::Bucket;

/// Windows that are looked through for a checkpoint, at most.
const WINDOWS_MAX: u64 = 256;
/// Slots of a window that are asked for, at most.
const SLOTS_MAX: u32 = 16;

/// Where the way has led.
pub(super) struct Trail {
    /// θ at the window's start; the workspace holds it.
    pub theta: Digest,
    /// The last manifest that was applied.
    pub last: Option<Manifest>,
    /// From where and over how many windows, for people.
    pub said: String,
}

/// Brings the workspace to the θ at the start of `window`.
pub(super) async fn follow(
    buckets: &[Bucket],
    worker: &Worker<Workspace>,
    run: &RunDescriptor,
    run_id: Digest,
    window: Window,
) -> Result<Trail, Stopped> {
    let none = || Stopped::Missing(format!("no validator that is known offers a checkpoint of window {window} or before"));
    let (pointer, bucket) = checkpoint(buckets, run_id, window, run.start_window).await.ok_or_else(none)?;
    replay::load(worker, &pointer, bucket).await?;
    let (mut theta, mut previous, mut last, mut applied) = (pointer.theta, pointer.manifest, None, 0u64);
    for at in (pointer.next_window.0..window.0).map(Window) {
        let found = manifests(buckets, run_id, at, run.hparams.timetable.slots).await;
        // A window without a manifest was void, and θ stayed.
        let Some((first, _)) = found.first() else { continue };
        let next = found.iter().find(|(manifest, _)| manifest.previous == previous && manifest.theta_before == theta);
        let Some((manifest, digest)) = next else {
            let why = format!("the manifest of window {} follows one that is in no bucket that is known", first.window);
            return Err(Stopped::Missing(why));
        };
        let objects = replay::objects(worker, run_id, at, &manifest.accepted, buckets).await?;
        theta = run_job(worker, move |work| work.aggregate(&objects.opened)).await?;
        (previous, last, applied) = (Some(*digest), Some(manifest.clone()), applied + 1);
    }
    let said = format!("reached from the checkpoint of window {} over {applied} manifests", pointer.next_window);
    Ok(Trail { theta, last, said })
}

/// The newest checkpoint that is not after `window`.
async fn checkpoint(buckets: &[Bucket], run: Digest, window: Window, start: Window) -> Option<(CheckpointPointer, &Bucket)> {
    let fits = |pointer: &CheckpointPointer| pointer.run == run && pointer.next_window <= window;
    for bucket in buckets {
        if let Ok(Some(opened)) = read_signed::<CheckpointPointer>(bucket, names::CHECKPOINT_LATEST).await
            && fits(&opened.message)
        {
            return Some((opened.message, bucket));
        }
    }
    for at in (start.0.max(window.0.saturating_sub(WINDOWS_MAX))..=window.0).rev().map(Window) {
        for bucket in buckets {
            if let Ok(Some(opened)) = read_signed::<CheckpointPointer>(bucket, &names::checkpoint_pointer(at)).await
                && fits(&opened.message)
            {
                return Some((opened.message, bucket));
            }
        }
    }
    None
}

/// The well-formed manifests of `window`, lower slots first, with their digests.
async fn manifests(buckets: &[Bucket], run: Digest, window: Window, slots: u32) -> Vec<(Manifest, Digest)> {
    let mut found: Vec<(Manifest, Digest)> = Vec::new();
    for slot in 0..slots.min(SLOTS_MAX) {
        for bucket in buckets {
            let Ok(Some(opened)) = read_signed::<Manifest>(bucket, &names::manifest(window, slot)).await else { continue };
            let manifest = opened.message;
            if manifest.run == run && manifest.window == window && manifest.check().is_ok() {
                found.push((manifest, opened.digest));
            }
        }
    }
    found
}

/// The objects that the validator of `sheet` has judged; none when the window's manifest is not to be had.
pub(super) async fn judged(buckets: &[Bucket], run: Digest, sheet: &ScoreSheet, slots: u32) -> Option<Vec<Accepted>> {
    let found = manifests(buckets, run, sheet.window(), slots).await;
    let (manifest, _) = found.iter().find(|(_, digest)| *digest == sheet.manifest)?;
    Some(replay::judged(sheet, manifest))
}

/// The objects of up to `windows` windows before the object's own, as far as they are still there.
pub(super) async fn gallery(case: &Case<'_>, bench: &Bench, rules: &LikenessRules, windows: u64) -> Gallery {
    let (buckets, run) = (&case.inputs.buckets, case.run_id);
    let slots = case.run.hparams.timetable.slots;
    let first = case.run.start_window.0.max(case.window().0.saturating_sub(windows));
    let mut gallery = Gallery::new();
    for window in (first..case.window().0).map(Window) {
        let sheet = read_sheet(&buckets[0], &names::score_sheet(window)).await.ok().flatten().map(|(sheet, _)| sheet);
        let listed = match sheet.filter(|sheet| sheet.run == run && sheet.window() == window) {
            Some(sheet) => judged(buckets, run, &sheet, slots).await,
            None => manifests(buckets, run, window, slots).await.into_iter().next().map(|(manifest, _)| manifest.accepted),
        };
        let Some(listed) = listed else { continue };
        let Ok(objects) = replay::objects(&bench.worker, run, window, &listed, buckets).await else { continue };
        let sketched = run_job(&bench.worker, move |work| objects.opened.iter().map(|object| sketch(work, object, &run)).collect());
        if let Ok(sent) = sketched.await {
            gallery.keep(rules, window, sent);
        }
    }
    gallery
}
