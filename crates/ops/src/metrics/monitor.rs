//! The fields of `templar monitor --once --json`.

use super::{Field, Group};

/// All groups, in the order of the page.
pub const GROUPS: &[Group] = &[
    Group {
        id: "monitor",
        about: "All nodes at one instant.",
        fields: &[
            Field { name: "window", meaning: "the newest window that any node has ended" },
            Field { name: "window_ms", meaning: "nominal length of a window" },
            Field { name: "since_ms", meaning: "time since that window's entry was written; null where the nodes' time is virtual" },
            Field { name: "nodes", meaning: "the nodes, in the order in which they were named (below)" },
        ],
        after: "",
    },
    Group {
        id: "monitor.nodes",
        about: "A node, by its newest window.",
        fields: &[
            Field { name: "name", meaning: "the name of its directory, or the URL of its bucket" },
            Field { name: "role", meaning: "`miner` or `validator`; empty where no start was seen" },
            Field { name: "uid", meaning: "its uid" },
            Field { name: "running", meaning: "whether a process holds its directory; null for nodes elsewhere" },
            Field { name: "window", meaning: "its newest window; one that stays behind the others' is `catching-up`" },
            Field { name: "step", meaning: "outer steps in its θ" },
            Field { name: "loss", meaning: "held-out loss of a validator, else the loss of the last inner step" },
            Field {
                name: "tokens_s",
                meaning: "tokens per second of training; the alert `training-rate` compares it with the windows before",
            },
            Field { name: "steps", meaning: "inner steps `[taken, planned]`; fewer than planned is the alert `inner-steps`" },
            Field {
                name: "upload_margin_ms",
                meaning: "time that was left of the upload window at the last upload; negative: late, and the object counted for nothing",
            },
            Field {
                name: "phases_ms",
                meaning: "time of each phase of the window, by [name](../journal.md#window); `train` should be most of it",
            },
            Field { name: "gathered", meaning: "uids of the objects that were gathered" },
            Field { name: "refused", meaning: "why others were not: uid → `kind: sentence`" },
            Field { name: "peers", meaning: "each peer over the last 50 windows (below)" },
            Field { name: "gather_success", meaning: "share of the announced objects that were gathered, 0 to 1; null in a void window" },
            Field {
                name: "score",
                meaning: "the last gradient score that a validator measured: share of the loss that the update removes, −1 to 1",
            },
            Field { name: "weight", meaning: "the share of weight that a validator gives, 0 to 1" },
            Field { name: "rank", meaning: "its rank by that, from 1 on" },
            Field { name: "host_bytes", meaning: "resident memory of the process" },
            Field { name: "device_bytes", meaning: "of the device that has least left: most in use since the start, and most that may be" },
            Field { name: "disk_free_bytes", meaning: "free bytes where its directory is" },
            Field { name: "bandwidth_bytes_s", meaning: "bytes per second `[from, to]` buckets over the last window" },
            Field { name: "verdict", meaning: "the verdict of [the diagnosis](diagnose.md): a cause, or `healthy`" },
            Field { name: "alerts", meaning: "the alerts that hold (below)" },
        ],
        after: "",
    },
    Group {
        id: "monitor.nodes.peers",
        about: "A peer over the node's last 50 windows that a manifest decided. `windows` is the sum of `gathered`, `late`, `missing` and `refused`.",
        fields: &[
            Field { name: "uid", meaning: "the peer; the node itself is among them" },
            Field { name: "windows", meaning: "windows in which anything is told of it" },
            Field { name: "gathered", meaning: "those in which its object was gathered" },
            Field { name: "copied", meaning: "those of them in which a validator's copy replaced what its own bucket did not give" },
            Field { name: "late", meaning: "those in which its object came after the upload window" },
            Field { name: "missing", meaning: "those in which there was no object, or none that could be read" },
            Field { name: "refused", meaning: "those in which its object was refused for another reason, or held back" },
            Field { name: "kinds", meaning: "how often each [kind](../journal.md#refused) of refusal was told" },
            Field { name: "last_refusal", meaning: "`window` and `why` of the last one; null where there was none" },
            Field { name: "in_newest", meaning: "whether the newest window that tells of it gathered its object" },
            Field { name: "success", meaning: "`gathered` as a share of `windows`, 0 to 1" },
            Field { name: "object_bytes", meaning: "median size of its objects; null where none was fetched" },
            Field { name: "fetch_ms", meaning: "time that fetching one took: `[median, greatest]`" },
            Field {
                name: "margin_ms",
                meaning: "least time that was left of the upload window when its object was found; validators alone know it",
            },
            Field {
                name: "likeness",
                meaning: "greatest likeness of its objects to others' that a validator has judged, −1 to 1; null where nothing was alike",
            },
        ],
        after: "",
    },
    Group {
        id: "monitor.nodes.alerts",
        about: "An alert that holds; `templar alerts check --json` and the sinks have the same fields.",
        fields: &[
            Field { name: "event", meaning: "`raised` or `cleared`, for sinks; null here" },
            Field { name: "alert", meaning: "its id" },
            Field { name: "level", meaning: "`warning` or `critical`; `quiet` when it was cleared" },
            Field { name: "node", meaning: "the node's name" },
            Field { name: "uid", meaning: "the node's uid" },
            Field { name: "window", meaning: "the node's newest window" },
            Field { name: "value", meaning: "what was measured; null where it is no number" },
            Field { name: "measures", meaning: "what that is, with its unit" },
            Field { name: "thresholds", meaning: "`warn`, `critical` and `room` as they apply" },
            Field { name: "meaning", meaning: "what it means" },
            Field { name: "cause", meaning: "`id`, `sentence` and `remedy` of the diagnosis" },
        ],
        after: "",
    },
];
