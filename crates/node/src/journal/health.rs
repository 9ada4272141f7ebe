//! What a window found of the machine and of the run's demands: the facts by which trouble is told apart later, when they are gone.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use templar_protocol::Digest;

/// What the run asks of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanEntry {
    /// Inner steps of a window.
    pub inner_steps: u32,
    /// Nominal length of a window, ms.
    pub window_ms: u64,
    /// Nominal length of a block, ms.
    pub block_ms: u64,
    /// Time from a window's end within which its objects must be there, ms.
    pub upload_ms: u64,
    /// Digest of the run's hyper-parameters.
    pub hparams: Digest,
}

/// The node's surroundings at the end of a window. What the system does not say is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthEntry {
    /// Bytes that this user may still write where the node's directory is.
    pub disk_free_bytes: Option<u64>,
    /// Host memory that programs could still have, bytes.
    pub memory_free_bytes: Option<u64>,
    /// Most bytes of one device's memory that were in use at a time since the start, and most that may be.
    pub device_bytes: Option<[u64; 2]>,
    /// Least and most of the node's clock less the timestamp of the newest block, over the times at which the chain was asked, ms.
    pub chain_age_ms: Option<[i64; 2]>,
    /// Requests to buckets since the process started: all, those that failed, and those of them by which a store asked for fewer.
    pub requests: [u64; 3],
}

impl HealthEntry {
    /// What the system says of the machine; the rest is null.
    pub fn of_host(dir: &Path) -> Self {
        Self { disk_free_bytes: disk_free_bytes(dir), memory_free_bytes: memory_free_bytes(), ..Self::default() }
    }
}

/// Bytes that this user may still write on the file system of `path`.
pub fn disk_free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn memory_free_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}
