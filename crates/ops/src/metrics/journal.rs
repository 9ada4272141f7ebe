//! The entries of the journal: each event, each field, what it means.

use super::{Field, Group};

/// All groups of fields, in the order of the page.
pub const GROUPS: &[Group] = &[
    Group {
        id: "started",
        about: "The process is up.",
        fields: &[
            Field { name: "role", meaning: "`miner` or `validator`" },
            Field { name: "version", meaning: "the binary's version" },
            Field { name: "hotkey", meaning: "its hotkey" },
            Field { name: "uid", meaning: "its uid on the subnet" },
            Field { name: "threads", meaning: "worker threads" },
        ],
        after: "",
    },
    Group {
        id: "joined",
        about: "The node has the run, the data and a checkpoint.",
        fields: &[
            Field { name: "run", meaning: "digest of the run descriptor; every message and object names it" },
            Field { name: "window", meaning: "the window it begins with" },
            Field { name: "global_step", meaning: "outer steps in its θ" },
            Field { name: "state_digest", meaning: "digest of its θ" },
        ],
        after: "",
    },
    Group {
        id: "state",
        about: "A miner's private state was made durable, or loaded after a start.",
        fields: &[
            Field { name: "what", meaning: "`saved` or `loaded`" },
            Field { name: "window", meaning: "the window whose training it holds" },
            Field { name: "residual", meaning: "digest of the residual's file" },
            Field { name: "moments", meaning: "digest of the file with the optimiser's moments and step" },
            Field { name: "global_step", meaning: "outer steps before the window, which is the learning rate's position" },
        ],
        after: "",
    },
    Group {
        id: "window",
        about: "A window is over on this node.",
        fields: &[
            Field { name: "window", meaning: "its number" },
            Field { name: "global_step", meaning: "outer steps after it" },
            Field { name: "stepped", meaning: "whether θ took a step in it" },
            Field { name: "state_digest", meaning: "digest of θ after it" },
            Field { name: "manifest", meaning: "digest of the manifest that decided it; null when the window was void" },
            Field { name: "gathered", meaning: "uids of the objects that the manifest lists, by rising uid" },
            Field { name: "refused", meaning: "why others are not in it: uid → `kind: sentence`, as the manifest says" },
            Field { name: "from_copies", meaning: "uids whose object came from a validator's copy, because the peer's bucket did not give it" },
            Field { name: "fetched", meaning: "how the objects came over the network, by uid, also those that were refused once they were here (below); left out where none came" },
            Field { name: "gather_success", meaning: "objects gathered, as a share of the commits that the manifest names, those of held objects left out, 0 to 1; 0 without any commit" },
            Field { name: "object_bytes", meaning: "bytes of the gathered objects together" },
            Field { name: "training", meaning: "the fields below; null for validators, and for miners that did not train" },
            Field { name: "held_out_loss", meaning: "validators: mean loss on the held-out text after the outer step; null for miners and for void windows" },
            Field { name: "phases_ms", meaning: "time of each phase in ms, by name (below)" },
            Field { name: "host_bytes", meaning: "resident memory of the process, bytes; 0 where the system does not say" },
            Field { name: "store_bytes", meaning: "bytes received from and sent to buckets since the process started: `[down, up]`; the data set is not counted" },
            Field { name: "plan", meaning: "what the run asks of a window, below" },
            Field { name: "health", meaning: "the surroundings at the window's end, below" },
        ],
        after: "",
    },
    Group {
        id: "window.fetched",
        about: "`fetched`, for each uid:",
        fields: &[
            Field { name: "object_bytes", meaning: "size of the object" },
            Field { name: "fetch_ms", meaning: "time of the request that brought it" },
            Field { name: "margin_ms", meaning: "validators: time from the instant at which it was asked for, and was there, to the end of the upload window; null for others, and negative where it came late" },
        ],
        after: "",
    },
    Group {
        id: "window.plan",
        about: "`plan`:",
        fields: &[
            Field { name: "inner_steps", meaning: "inner steps of a window" },
            Field { name: "window_ms", meaning: "nominal length of a window" },
            Field { name: "block_ms", meaning: "nominal length of a block" },
            Field { name: "upload_ms", meaning: "time from a window's end within which its objects must be there" },
            Field { name: "hparams", meaning: "digest of the run's hyper-parameters" },
        ],
        after: "",
    },
    Group {
        id: "window.health",
        about: "`health`; what the system does not say is null:",
        fields: &[
            Field { name: "disk_free_bytes", meaning: "bytes that this user may still write where the node's directory is" },
            Field { name: "memory_free_bytes", meaning: "host memory that programs could still have" },
            Field { name: "device_bytes", meaning: "of the device that has least left: most bytes in use at a time since the start, and most that may be" },
            Field { name: "chain_age_ms", meaning: "least and most of the node's clock less the newest block's timestamp, over the times at which the chain was asked: a negative one is a clock that is behind, a least one that stays large a clock that is ahead, or an endpoint that lags" },
            Field { name: "requests", meaning: "requests to buckets since the process started, each attempt counted: `[all, failed, throttled]`; throttled is what a store answered with 429 or 503" },
        ],
        after: "",
    },
    Group {
        id: "window.training",
        about: "`training`:",
        fields: &[
            Field { name: "steps", meaning: "inner steps taken; 0 in a null round" },
            Field { name: "entry_loss", meaning: "loss of the first inner step, before its update: that of the window's θ on one batch" },
            Field { name: "last_loss", meaning: "loss of the last inner step, before its update" },
            Field { name: "tokens", meaning: "tokens read" },
            Field { name: "tokens_s", meaning: "tokens per second of training" },
            Field { name: "gradient_norm", meaning: "mean over the steps of the gradient's L2 norm, before clipping" },
            Field { name: "residual_norm", meaning: "L2 norm of the residual that stays after compression, of its finite values" },
            Field { name: "residual_largest", meaning: "the largest magnitude in it" },
            Field { name: "residual_not_finite", meaning: "values in it that are not finite; any is a fault, and warned of" },
            Field { name: "object_bytes", meaning: "size of the sealed object" },
            Field { name: "upload_margin_ms", meaning: "time from the object's upload to the end of the upload window, ms; negative: late; null: not uploaded" },
            Field { name: "learning_rate", meaning: "of the last inner step" },
            Field { name: "data_wait_ms", meaning: "time that inner steps waited for their batches, which a thread reads ahead" },
            Field { name: "offload_ms", meaning: "time to bring the optimiser's moments to host memory; 0 without `--offload-moments`. Part of the phase `compress`, most of it while compression works" },
            Field { name: "restore_ms", meaning: "time to bring them back to the devices before the first step; 0 without `--offload-moments`. Part of the phase `train`" },
        ],
        after: "",
    },
    Group {
        id: "window.phases_ms",
        about: "Names in `phases_ms`; a node has those of its own role:",
        fields: &[
            Field { name: "look", meaning: "reading clock and chain at the start of a window" },
            Field { name: "train", meaning: "miner: inner steps, and waiting for the shard if it is not at hand" },
            Field { name: "compress", meaning: "miner: residual, payload and seal" },
            Field { name: "persist", meaning: "miner: the state's way to disk" },
            Field { name: "commit", meaning: "miner: putting the commit" },
            Field { name: "await_end", meaning: "waiting for the window's end and the reveal" },
            Field { name: "upload", meaning: "miner: putting the object" },
            Field { name: "collect", meaning: "validator: commits, objects, checks, copies; much of it is waiting for objects" },
            Field { name: "publish", meaning: "validator: making, signing and putting the manifest" },
            Field { name: "manifest", meaning: "waiting for a manifest and reading it" },
            Field { name: "survey", meaning: "asking the objects for their θ, when a manifest names another than ours" },
            Field { name: "gather", meaning: "fetching and opening the manifest's objects" },
            Field { name: "evaluate", meaning: "validator: losses before and after each update, scores" },
            Field { name: "apply", meaning: "aggregation, outer step, digest; for validators also the held-out loss" },
            Field { name: "weights", meaning: "validator: setting weights" },
            Field { name: "checkpoint", meaning: "validator: writing and publishing a checkpoint" },
            Field { name: "resync", meaning: "loading a checkpoint" },
            Field { name: "report", meaning: "of the window before: writing its entry and deleting old objects" },
        ],
        after: "With `--profile-windows`, each of these phases is also a span of the window's profile ([engines](engine.md#profile-a-node)).",
    },
    Group {
        id: "refused",
        about: "A validator did not accept a peer's object, or a node could not open one that a manifest lists.",
        fields: &[
            Field { name: "window", meaning: "the window" },
            Field { name: "uid", meaning: "whose object" },
            Field { name: "kind", meaning: "a stable word (below)" },
            Field { name: "reason", meaning: "a sentence with the numbers, at most some 300 characters" },
        ],
        after: "| kind | meaning |
|---|---|
| `absent` | neither commit nor object |
| `no-bucket` | no bucket committed on the chain, or none that this node may reach |
| `unreachable` | commit or object could not be read for reasons of the network |
| `not-committed` | an object without a commit before the window's end |
| `bad-commit` | the commit is signed by another key, of another run, uid or window, or no commit at all |
| `late` | the object was not there when the upload window ended |
| `oversized` | the commit announces more than any object of this run may have, or the object has more than the commit announces |
| `truncated` | fewer bytes than the commit, or the header, announces |
| `not-as-committed` | another digest than the commit announces |
| `desynchronised` | it starts from another θ: its miner must resync |
| `held` | nothing is wrong with the object, but its miner's updates have not helped of late: measured, not applied |
| `wrong-samples` | the samples it names are not those assigned to it |
| `bad-magic`, `bad-version`, `malformed-header` | no container, or one that this binary does not read |
| `wrong-run`, `wrong-window`, `wrong-uid`, `wrong-hotkey` | an object of another run, window or node |
| `bad-seal` | the signature does not hold: signed by another key, or changed afterwards |
| `bad-digest` | the payload is not the one that was signed |
| `malformed` | a section of the payload is not the one encoding of valid content |
| `held` | in manifests only: the object is right and is measured, but not applied, because its miner's updates have not helped of late ([scoring](scoring.md#who-is-held-back)) |
| `unopened` | in judgements only: a manifest lists it, and it does not open |",
    },
    Group {
        id: "published",
        about: "A validator's manifest is in its bucket.",
        fields: &[
            Field { name: "window", meaning: "the window decided" },
            Field { name: "slot", meaning: "this validator's slot; 0 leads" },
            Field { name: "accepted", meaning: "uids listed" },
            Field { name: "manifest", meaning: "digest of the manifest" },
        ],
        after: "",
    },
    Group {
        id: "evaluated",
        about: "A miner as a validator measured it in a window.",
        fields: &[
            Field { name: "window", meaning: "the window" },
            Field { name: "uid", meaning: "the miner" },
            Field { name: "own_loss", meaning: "mean loss on its own samples, `[before, after]` its update" },
            Field { name: "random_loss", meaning: "mean loss on random samples, `[before, after]`" },
            Field { name: "gradient_score", meaning: "share of the loss on random samples that the update removes, −1 to 1" },
            Field { name: "standard_error", meaning: "standard error of the score over the samples" },
            Field { name: "advantage", meaning: "share of the pairs of an own and a random sequence in which the own one gained more, 0 to 1; 0.5 without training on own data" },
            Field { name: "quality", meaning: "mean gradient score in units of the common level of its windows" },
            Field { name: "quality_error", meaning: "standard error of `quality`; 0 where it is not known" },
            Field { name: "credit", meaning: "a factor of the weight: share of the recent windows with work of its own, 0 to 1 ([scoring](scoring.md))" },
            Field { name: "work", meaning: "a factor of the weight: the mark of own data, 0 to 1" },
            Field { name: "standing", meaning: "a factor of the weight: what offences have left, 0 to 1" },
            Field { name: "weight", meaning: "the share it would get now, 0 to 1" },
            Field { name: "own", meaning: "losses of each own sequence, `before` and `after`, nats per token; `NaN` and `inf` are texts" },
            Field { name: "random", meaning: "losses of each random sequence, as of `own`" },
            Field { name: "checks", meaning: "every comparison that decided something: `name`, `observed`, `required`, `passed`, `reason`" },
            Field { name: "penalties", meaning: "offences of this window in order: `kind`, `factor`, standing `before` and `after`, `reason`" },
            Field { name: "reason", meaning: "what the measurement has shown, in words" },
            Field { name: "weight_reason", meaning: "where the weight comes from, in words" },
        ],
        after: "",
    },
    Group {
        id: "judged",
        about: "A member that was not measured in a window, as a validator judged it.",
        fields: &[
            Field { name: "window", meaning: "the window" },
            Field { name: "judgement", meaning: "`uid`, `hotkey`, `fate` (`accepted`, `held`, `omitted`, `absent`, `unreachable`, or the kind of refusal), `credit` (null: the window is left out for it), `random`, `own` and `advantage` (null: not measured), `checks` and `penalties` as above, `standing`, `reason`" },
        ],
        after: "",
    },
    Group {
        id: "scored",
        about: "A validator has scored a window. `templar explain` reads nothing else of the journal ([explain](explain.md)).",
        fields: &[
            Field { name: "window", meaning: "the window" },
            Field { name: "published", meaning: "digest of the sheet as it was published; null when it could not be" },
            Field { name: "sheet", meaning: "the whole [score sheet](scoring.md#the-score-sheet), with at most the 1024 pairs of objects that are most alike" },
        ],
        after: "",
    },
    Group {
        id: "weights",
        about: "Weights were put on the chain.",
        fields: &[
            Field { name: "window", meaning: "the window after which" },
            Field { name: "block", meaning: "the block that holds them" },
            Field { name: "weights", meaning: "uid → share; they sum to 1" },
        ],
        after: "",
    },
    Group {
        id: "checkpoint",
        about: "A checkpoint was published by this validator, or loaded by this node.",
        fields: &[
            Field { name: "next_window", meaning: "the first window that is trained from it" },
            Field { name: "global_step", meaning: "outer steps in it" },
            Field { name: "state_digest", meaning: "digest of its θ" },
            Field { name: "file_bytes", meaning: "size of the file" },
        ],
        after: "",
    },
    Group {
        id: "reorganised",
        about: "Blocks that were the chain's best are so no longer: another branch took their place. The node goes by the new ones.",
        fields: &[
            Field { name: "from", meaning: "the first block that is another one now" },
            Field { name: "depth", meaning: "how many blocks were replaced" },
            Field { name: "old", meaning: "the hash of the first one as it was" },
            Field { name: "new", meaning: "its hash as it is" },
        ],
        after: "",
    },
    Group {
        id: "resync",
        about: "θ is loaded again from a checkpoint.",
        fields: &[
            Field { name: "why", meaning: "a sentence" },
        ],
        after: "",
    },
    Group {
        id: "warning",
        about: "Something that an operator should know, after which the node goes on.",
        fields: &[
            Field { name: "kind", meaning: "a stable name where the trouble has one (below); left out where it has none" },
            Field { name: "text", meaning: "what failed, why, and what the node does about it" },
        ],
        after: "| kind | meaning |
|---|---|
| `chain-unreachable` | the chain does not answer; asked again |
| `not-registered` | the uid belongs to another hotkey now, or the hotkey has none |
| `protocol`, `hyper-parameters` | the run speaks another version of the protocol, or has other hyper-parameters than are expected (with `stopped`) |
| `no-run`, `no-checkpoint` | no validator offers one |
| `data-unavailable` | the data set cannot be had |
| `disk-full` | something could not be written because the disk is full |
| `out-of-memory` | the engine could not get memory |
| `diverged` | an inner step was not finite |
| `put-denied`, `put-failed` | a commit or an object was not put: refused, or not reached |",
    },
    Group {
        id: "stopped",
        about: "The process ends.",
        fields: &[
            Field { name: "kind", meaning: "the stable name of the error, as of a `warning`; left out where it has none" },
            Field { name: "why", meaning: "the signal, or the error" },
        ],
        after: "",
    },
];
