//! How long the client waits for what.

use std::time::Duration;

/// Deadlines and pauses. The default suits public networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// To connect to one endpoint.
    pub connect_timeout: Duration,
    /// For one answer.
    pub ask_timeout: Duration,
    /// How long endpoints that do not answer are tried again before a method fails; 0 tries each once.
    pub persistence: Duration,
    /// How long no new block may come before the next endpoint is asked.
    pub stall_after: Duration,
    /// For a transaction to get into a block, and its outcome to be known.
    pub in_block_timeout: Duration,
    /// The first pause after a failure; each further one is twice as long.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            ask_timeout: Duration::from_secs(30),
            persistence: Duration::from_secs(30),
            stall_after: Duration::from_secs(60),
            in_block_timeout: Duration::from_secs(180),
            pause_first: Duration::from_millis(50),
            pause_max: Duration::from_secs(30),
        }
    }
}
