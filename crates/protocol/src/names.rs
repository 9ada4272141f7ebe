//! Names of objects in a node's bucket. They follow from uid and window, so nobody needs to list a peer's bucket.
//!
//! Windows are padded to ten digits so that names sort as numbers do.

use crate::{Digest, Uid, Window};

/// The run descriptor, in the leader's bucket.
pub const RUN: &str = "run.json";
/// The pointer to the newest checkpoint, in a validator's bucket.
pub const CHECKPOINT_LATEST: &str = "checkpoints/latest.json";
/// Folder of the commits.
pub const COMMITS: &str = "commits/";
/// Folder of a miner's own sealed objects.
pub const OBJECTS: &str = "objects/";
/// Folder of a validator's copies of accepted objects.
pub const ACCEPTED: &str = "accepted/";
/// Folder of the manifests.
pub const MANIFESTS: &str = "manifests/";
/// Folder of a validator's score sheets.
pub const SCORES: &str = "scores/";
/// Folder of the checkpoints.
pub const CHECKPOINTS: &str = "checkpoints/";

/// A miner's commit.
pub fn commit(window: Window, uid: Uid) -> String {
    format!("{COMMITS}{window:010}-{uid}.json", window = window.0)
}

/// A miner's sealed object.
pub fn object(window: Window, uid: Uid) -> String {
    format!("{OBJECTS}{window:010}-{uid}.tplr", window = window.0)
}

/// A validator's copy of an accepted object.
pub fn accepted(window: Window, uid: Uid) -> String {
    format!("{ACCEPTED}{window:010}-{uid}.tplr", window = window.0)
}

/// The manifest that the validator of `slot` publishes in its own bucket.
pub fn manifest(window: Window, slot: u32) -> String {
    format!("{MANIFESTS}{window:010}-{slot}.json", window = window.0)
}

/// A validator's score sheet of a window.
pub fn score_sheet(window: Window) -> String {
    format!("{SCORES}{window:010}-sheet.json", window = window.0)
}

/// The scorer's state before a window, which the window's sheet names by digest.
pub fn score_state(window: Window) -> String {
    format!("{SCORES}{window:010}-state.json", window = window.0)
}

/// A checkpoint's file, by its content.
pub fn checkpoint(file: &Digest) -> String {
    format!("{CHECKPOINTS}{file}.safetensors")
}

/// The window in a name made by [`commit`], [`object`], [`accepted`], [`manifest`], [`score_sheet`] or [`score_state`]; none for other names.
pub fn window_of(name: &str) -> Option<Window> {
    let (_, file) = name.rsplit_once('/')?;
    let (digits, _) = file.split_once('-')?;
    if digits.len() < 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_back() {
        for window in [0, 7, 9_999_999_999, 12_345_678_901] {
            for name in
                [commit(Window(window), Uid(3)), object(Window(window), Uid(0)), manifest(Window(window), 1), score_state(Window(window))]
            {
                assert_eq!(window_of(&name), Some(Window(window)), "{name}");
            }
        }
        assert_eq!(window_of(CHECKPOINT_LATEST), None);
        assert_eq!(window_of(&checkpoint(&Digest::default())), None);
    }
}
