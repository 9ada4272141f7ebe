//! What the operating system says of this machine, read once; a value of its own, so that checks can be shown any machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Limits and sizes of a host. Nothing is known where the system does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Memory in all, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that programs could have now, bytes.
    pub available_bytes: Option<u64>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Files that this process may have open.
    pub open_files: Option<u64>,
    /// Memory that this process may lock, bytes; `u64::MAX` without a limit.
    pub locked_bytes: Option<u64>,
    /// Free bytes where the node's directory is, or would be.
    pub disk_free_bytes: Option<u64>,
    /// Whether a service keeps the clock in time.
    pub clock_kept: Option<bool>,
    /// One-minute load average.
    pub load: Option<f64>,
}

impl Machine {
    /// This machine, with the disk that holds `dir`.
    pub fn of_this_host(dir: Option<&Path>) -> Self {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").ok();
        Self {
            memory_bytes: kib_of(&memory, "MemTotal:"),
            available_bytes: kib_of(&memory, "MemAvailable:"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            open_files: limit_of(&limits, "Max open files"),
            locked_bytes: limit_of(&limits, "Max locked memory"),
            disk_free_bytes: dir.and_then(free_bytes),
            clock_kept: clock_kept(),
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

/// A value in KiB of `/proc/meminfo`, in bytes.
fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

/// The soft limit in `/proc/self/limits`.
fn limit_of(text: &str, key: &str) -> Option<u64> {
    let soft = text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// Free bytes on the file system of `path`, or of the nearest folder above that exists.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = if path.is_absolute() { path.to_owned() } else { std::env::current_dir().ok()?.join(path) };
    let there: PathBuf = path.ancestors().find(|path| path.exists())?.to_owned();
    let stat = rustix::fs::statvfs(&there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What systemd's and chrony's marks say; `None` where neither is at home.
fn clock_kept() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() || Path::new("/run/chrony/chronyd.pid").exists() {
        return Some(true);
    }
    Path::new("/run/systemd/system").exists().then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tables_are_read() {
        let memory = "MemTotal:       16316412 kB\nMemFree: 1 kB\nMemAvailable:   12000000 kB\n";
        assert_eq!(kib_of(memory, "MemTotal:"), Some(16_316_412 * 1024));
        assert_eq!(kib_of(memory, "SwapTotal:"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units
\
                      Max locked memory         unlimited            unlimited            bytes
\
                      Max open files            1024                 524288               files
";
        assert_eq!(limit_of(limits, "Max open files"), Some(1024));
        assert_eq!(limit_of(limits, "Max locked memory"), Some(u64::MAX));
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(&dir.path().join("not/yet")).is_some_and(|bytes| bytes > 0));
    }
}
