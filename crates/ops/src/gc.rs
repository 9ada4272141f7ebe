//! What may go from a bucket that has become too large. Pure.
//!
//! Nodes delete what is past its retention by themselves; this is for what they have left behind, and for quotas that are tighter than the retention. What
//! always holds: nothing of the newest windows goes; nothing without a window in its name goes, but for the doctor's probes; checkpoints never go, because
//! pointer and file belong together; of two objects, the older one goes first.

use crate::probe::PROBES;
use serde::Serialize;
use templar_protocol::{Window, names};
use templar_store::ObjectInfo;

/// What a miner puts.
const OF_MINERS: [&str; 2] = [names::COMMITS, names::OBJECTS];
/// What a validator puts besides. Others catch up and verify by it.
const OF_VALIDATORS: [&str; 3] = [names::ACCEPTED, names::MANIFESTS, names::SCORES];

/// The bounds of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// The newest windows of which everything stays.
    pub keep_windows: u64,
    /// The size that is wanted, bytes; without one everything that may go goes.
    pub bytes_max: Option<u64>,
    /// Whether a validator's copies, manifests and score sheets may go, too.
    pub validator: bool,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The keys, in the order in which they go.
    pub delete: Vec<String>,
    /// Bytes that become free.
    pub freed_bytes: u64,
    /// Bytes that stay.
    pub kept_bytes: u64,
    /// Bytes that stay beyond the quota; 0 when it is met.
    pub over_bytes: u64,
}

/// What goes of `objects` under `quota`.
pub fn plan(objects: &[ObjectInfo], quota: &Quota) -> Plan {
    let newest = objects.iter().filter_map(|object| names::window_of(&object.key)).max().unwrap_or(Window(0));
    let folders = || OF_MINERS.iter().chain(OF_VALIDATORS.iter().filter(|_| quota.validator));
    let may_go = |object: &&ObjectInfo| match names::window_of(&object.key) {
        Some(window) => folders().any(|folder| object.key.starts_with(folder)) && window.0.saturating_add(quota.keep_windows) <= newest.0,
        None => object.key.starts_with(PROBES),
    };
    let mut candidates: Vec<&ObjectInfo> = objects.iter().filter(may_go).collect();
    candidates.sort_by_key(|object| (names::window_of(&object.key), object.last_modified_ms, object.key.clone()));
    let mut plan = Plan { kept_bytes: objects.iter().map(|object| object.size_bytes).sum(), ..Plan::default() };
    for object in candidates {
        if quota.bytes_max.is_some_and(|most| plan.kept_bytes <= most) {
            break;
        }
        plan.delete.push(object.key.clone());
        plan.freed_bytes += object.size_bytes;
        plan.kept_bytes -= object.size_bytes;
    }
    plan.over_bytes = quota.bytes_max.map_or(0, |most| plan.kept_bytes.saturating_sub(most));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_protocol::Uid;

    fn object(key: String, size_bytes: u64) -> ObjectInfo {
        ObjectInfo { key, size_bytes, last_modified_ms: 0, etag: None }
    }

    /// Ten windows of a miner's objects, of 100 bytes each, with what else lies in a bucket.
    fn bucket() -> Vec<ObjectInfo> {
        let mut all: Vec<ObjectInfo> = (0..10).map(|window| object(names::object(Window(window), Uid(1)), 100)).collect();
        all.extend((0..10).map(|window| object(names::accepted(Window(window), Uid(1)), 100)));
        all.push(object(names::RUN.into(), 50));
        all.push(object(names::checkpoint_pointer(Window(1)), 50));
        all.push(object("doctor/probe-1".into(), 10));
        all
    }

    #[test]
    fn the_oldest_go_until_the_quota_is_met() {
        let quota = Quota { keep_windows: 4, bytes_max: Some(1900), validator: false };
        let plan = plan(&bucket(), &quota);
        assert_eq!(plan.delete, ["doctor/probe-1".to_owned(), names::object(Window(0), Uid(1)), names::object(Window(1), Uid(1))]);
        assert_eq!((plan.freed_bytes, plan.kept_bytes, plan.over_bytes), (210, 1900, 0));
    }

    #[test]
    fn without_a_quota_everything_old_goes_and_nothing_else() {
        let plan_of = |validator| plan(&bucket(), &Quota { keep_windows: 4, bytes_max: None, validator }).delete;
        assert_eq!(plan_of(false).len(), 1 + 6, "windows 0 to 5 and the probe");
        let both = plan_of(true);
        assert_eq!(both.len(), 1 + 12);
        assert!(!both.iter().any(|key| key.starts_with(names::CHECKPOINTS) || key == names::RUN));
    }

    #[test]
    fn a_quota_that_cannot_be_met_is_said() {
        let plan = plan(&bucket(), &Quota { keep_windows: 8, bytes_max: Some(0), validator: false });
        assert_eq!((plan.delete.len(), plan.over_bytes), (1 + 2, 2110 - 210));
    }

    proptest! {
        #[test]
        fn the_newest_windows_stay_whatever_the_quota(windows in proptest::collection::vec(0u64..1000, 1..60), keep in 1u64..50, most in proptest::option::of(0u64..5000)) {
            let all: Vec<ObjectInfo> = windows.iter().map(|window| object(names::object(Window(*window), Uid(1)), 100)).collect();
            let newest = *windows.iter().max().unwrap();
            let found = plan(&all, &Quota { keep_windows: keep, bytes_max: most, validator: true });
            for key in &found.delete {
                prop_assert!(names::window_of(key).unwrap().0 + keep <= newest);
            }
            prop_assert_eq!(found.kept_bytes + found.freed_bytes, 100 * all.len() as u64);
        }
    }
}
