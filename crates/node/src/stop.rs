//! The wish to stop: set once by a signal, seen by everything that waits or computes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// A file of this name in a node's directory asks a running node to end after the window that it is in.
pub const DRAIN_REQUEST: &str = "drain.request";

/// A wish that can be awaited and asked for; clones share it.
#[derive(Clone, Debug)]
pub struct Stop {
    wish: Arc<watch::Sender<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { wish: Arc::new(watch::Sender::new(false)) }
    }
}

impl Stop {
    /// Asks for the stop.
    pub fn set(&self) {
        self.wish.send_replace(true);
    }

    /// Whether it was asked for.
    pub fn is_set(&self) -> bool {
        *self.wish.borrow()
    }

    /// Returns when it is asked for.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.wish.subscribe().wait_for(|stop| *stop).await;
    }
}

/// The wish to end between two windows, made by another process: a file that is taken away when it is fulfilled.
#[derive(Clone, Debug)]
pub struct Drain {
    request: PathBuf,
}

impl Drain {
    /// Watches for a request in the node's directory `dir`. One that was made to a former process must be gone: [`Drain::forget`].
    pub fn new(dir: &Path) -> Self {
        Self { request: dir.join(DRAIN_REQUEST) }
    }

    /// Takes away a request that was made to a former process; for whoever has just locked the directory.
    pub fn forget(dir: &Path) {
        // There is none in most cases.
        let _ = std::fs::remove_file(dir.join(DRAIN_REQUEST));
    }

    /// Whether it is asked for; the request is fulfilled by that.
    pub fn take(&self) -> bool {
        std::fs::remove_file(&self.request).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_asked_for_once_and_an_old_request_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DRAIN_REQUEST), b"").unwrap();
        Drain::forget(dir.path());
        let drain = Drain::new(dir.path());
        assert!(!drain.take());
        std::fs::write(dir.path().join(DRAIN_REQUEST), b"").unwrap();
        assert!(drain.take() && !drain.take());
    }

    #[tokio::test]
    async fn a_wish_reaches_clones_before_and_after() {
        let stop = Stop::default();
        let clone = stop.clone();
        assert!(!clone.is_set());
        stop.set();
        clone.wait().await;
        assert!(clone.is_set());
    }
}
