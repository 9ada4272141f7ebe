//! The wish to stop: set once by a signal, seen by everything that waits or computes.

use std::sync::Arc;
use tokio::sync::watch;

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

#[cfg(test)]
mod tests {
    use super::*;

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
