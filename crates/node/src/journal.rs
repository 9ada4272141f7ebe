//! The journal: what a node decided and why, one JSON object a line.
//!
//! It is evidence, not state: nothing is read back by the node. Append-only, bounded by rotation (the present file and one before it),
//! every line complete. A line that cannot be written is counted and reported with the next one; it never stops the node.

mod health;
mod tail;
pub mod trouble;

pub use health::{HealthEntry, PlanEntry, disk_free_bytes};
pub use tail::Tail;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use templar_gauntlet::{Check, Judgement, Losses, Measurement, Penalty, ScoreSheet, Verdict, Weights};
use templar_protocol::{BlockNumber, Digest, GlobalStep, Uid, Window};

/// Version of the entries.
pub const JOURNAL_VERSION: u32 = 1;
/// The file's name in a node's directory.
pub const JOURNAL_FILE: &str = "journal.jsonl";
const BYTES_MAX: u64 = 64 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`JOURNAL_VERSION`].
    pub v: u32,
    /// The node's clock, Unix ms.
    pub t_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// The process is up.
    Started {
        /// `miner` or `validator`.
        role: String,
        /// The binary's version.
        version: String,
        /// Its hotkey.
        hotkey: String,
        /// Its uid.
        uid: Uid,
        /// Worker threads.
        threads: usize,
    },
    /// The node has the run, the data and a checkpoint.
    Joined {
        /// Digest of the run descriptor.
        run: Digest,
        /// The window it starts with.
        window: Window,
        /// Outer steps in its θ.
        global_step: GlobalStep,
        /// Digest of its θ.
        state_digest: Digest,
    },
    /// A miner's private state was made durable or loaded.
    State {
        /// `saved` or `loaded`.
        what: String,
        /// The window whose training it holds.
        window: Window,
        /// Digest of the residual.
        residual: Digest,
        /// Digest of the optimiser's moments and step.
        moments: Digest,
        /// Outer steps before the window: the learning rate's position.
        global_step: GlobalStep,
    },
    /// A window is over.
    Window(Box<WindowEntry>),
    /// A validator decided about a peer's object.
    Refused {
        /// The window.
        window: Window,
        /// The peer.
        uid: Uid,
        /// A stable kind.
        kind: String,
        /// A sentence.
        reason: String,
    },
    /// A manifest was published.
    Published {
        /// The window decided.
        window: Window,
        /// This node's slot.
        slot: u32,
        /// Who was accepted.
        accepted: Vec<Uid>,
        /// Digest of the manifest.
        manifest: Digest,
    },
    /// A miner was measured.
    Evaluated {
        /// The window.
        window: Window,
        /// What was measured.
        #[serde(flatten)]
        evaluation: Box<PeerEvaluation>,
    },
    /// A validator judged a member that it did not measure in this window.
    Judged {
        /// The window.
        window: Window,
        /// What the window has shown of it.
        judgement: Box<Judgement>,
    },
    /// A validator has scored a window.
    Scored(Box<ScoredEntry>),
    /// Weights were put on the chain.
    Weights {
        /// The window.
        window: Window,
        /// The block that holds them.
        block: BlockNumber,
        /// Share of each uid; they sum to 1.
        #[serde(with = "by_uid")]
        weights: BTreeMap<Uid, f64>,
    },
    /// A checkpoint was published.
    Checkpoint {
        /// The window that is trained from it.
        next_window: Window,
        /// Outer steps in it.
        global_step: GlobalStep,
        /// Digest of its θ.
        state_digest: Digest,
        /// Its size.
        file_bytes: u64,
    },
    /// Blocks that were the chain's best are so no longer: another branch took their place.
    Reorganised {
        /// The first block that is another one now.
        from: BlockNumber,
        /// How many blocks were replaced.
        depth: u64,
        /// The hash of the first one as it was.
        old: String,
        /// Its hash as it is.
        new: String,
    },
    /// θ is loaded again from a checkpoint.
    Resync {
        /// Why.
        why: String,
    },
    /// Something that an operator should know.
    Warning {
        /// A stable name, one of [`trouble`]; empty where there is none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        kind: String,
        /// What failed, why and what the node does about it.
        text: String,
    },
    /// The process ends.
    Stopped {
        /// A stable name of the error, one of [`trouble`]; empty where there is none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        kind: String,
        /// Why.
        why: String,
    },
}

/// A miner as a validator measured it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerEvaluation {
    /// The miner.
    pub uid: Uid,
    /// Mean loss on its own data before and after its update, nats per token.
    pub own_loss: [f64; 2],
    /// Mean loss on random data before and after its update, nats per token.
    pub random_loss: [f64; 2],
    /// Relative loss that the update removes on random data.
    pub gradient_score: f64,
    /// Standard error of the gradient score over the sequences.
    pub standard_error: f64,
    /// Share of the pairs of an own and a random sequence in which the own one gained more; 0.5 without training on own data.
    pub advantage: f64,
    /// Mean credit of the recent windows, in [0, 1].
    pub credit: f64,
    /// The factor for the mark of own data, in [0, 1].
    pub work: f64,
    /// The factor that offences have left, in (0, 1].
    pub standing: f64,
    /// Mean gradient score in units of the common level.
    pub quality: f64,
    /// Its standard error; 0 where it is not known.
    #[serde(default)]
    pub quality_error: f64,
    /// The weight that it would get now.
    pub weight: f64,
    /// Losses of each own sequence, nats per token.
    #[serde(default)]
    pub own: Losses,
    /// Losses of each random sequence, nats per token.
    #[serde(default)]
    pub random: Losses,
    /// Every comparison that decided something.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Penalties of this window, in order.
    #[serde(default)]
    pub penalties: Vec<Penalty>,
    /// What the measurement has shown, in words.
    pub reason: String,
    /// Where the weight comes from, in words.
    pub weight_reason: String,
}

/// Most pairs of alike objects that an entry of the journal names; the published sheet has all.
const ALIKE_NOTED: usize = 1024;

/// How a validator scored a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredEntry {
    /// The window.
    pub window: Window,
    /// Digest of the sheet as it was published; none when it could not be.
    pub published: Option<Digest>,
    /// The sheet, with at most the 1024 pairs of objects that are most alike.
    pub sheet: ScoreSheet,
}

impl ScoredEntry {
    /// The entry of `sheet`, which was published with the digest `published`.
    pub fn new(mut sheet: ScoreSheet, published: Option<Digest>) -> Self {
        sheet.observation.survey.alike.truncate(ALIKE_NOTED);
        Self { window: sheet.window(), published, sheet }
    }
}

impl PeerEvaluation {
    /// What `measurement` has shown, by the verdict and the weights of its window.
    pub fn of(verdict: &Verdict, weights: &Weights, measurement: &Measurement) -> Self {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let pair = |losses: &Losses| [mean(&losses.before), mean(&losses.after)];
        let uid = measurement.uid;
        let (judgement, weight) = (verdict.of(uid), weights.of(uid));
        let random = judgement.and_then(|judgement| judgement.random);
        Self {
            uid,
            own_loss: pair(&measurement.own),
            random_loss: pair(&measurement.random),
            gradient_score: random.map_or(0.0, |score| score.value),
            standard_error: random.map_or(0.0, |score| score.standard_error),
            advantage: judgement.and_then(|judgement| judgement.advantage).unwrap_or(0.5),
            credit: weight.map_or(0.0, |weight| weight.credit),
            work: weight.map_or(1.0, |weight| weight.work),
            standing: weight.map_or(1.0, |weight| weight.standing),
            quality: weight.map_or(0.0, |weight| weight.quality),
            quality_error: weight.map_or(0.0, |weight| weight.quality_error),
            weight: weight.map_or(0.0, |weight| weight.weight),
            own: measurement.own.clone(),
            random: measurement.random.clone(),
            checks: judgement.map(|judgement| judgement.checks.clone()).unwrap_or_default(),
            penalties: judgement.map(|judgement| judgement.penalties.clone()).unwrap_or_default(),
            reason: judgement.map(|judgement| judgement.reason.clone()).unwrap_or_default(),
            weight_reason: weight.map(|weight| weight.reason.clone()).unwrap_or_default(),
        }
    }
}

/// A window as a node lived it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowEntry {
    /// The window.
    pub window: Window,
    /// Outer steps applied after it.
    pub global_step: GlobalStep,
    /// Whether θ took a step in it.
    pub stepped: bool,
    /// Digest of θ after it.
    pub state_digest: Digest,
    /// Digest of the manifest that decided it; none when it was void.
    pub manifest: Option<Digest>,
    /// Who was aggregated.
    pub gathered: Vec<Uid>,
    /// Why others were not, by uid.
    #[serde(with = "by_uid")]
    pub refused: BTreeMap<Uid, String>,
    /// Objects that came from a validator's copy, because the peer's bucket did not give them.
    pub from_copies: Vec<Uid>,
    /// How the objects came here over the network, by uid; also those that were refused once they were here.
    #[serde(default, with = "by_uid", skip_serializing_if = "BTreeMap::is_empty")]
    pub fetched: BTreeMap<Uid, FetchEntry>,
    /// Share of the committed objects that were aggregated.
    pub gather_success: f64,
    /// Bytes of the objects aggregated.
    pub object_bytes: u64,
    /// Training, for miners that trained.
    pub training: Option<TrainingEntry>,
    /// Mean loss on the held-out text after the outer step, for validators; nats per token.
    pub held_out_loss: Option<f64>,
    /// Time of each phase, ms.
    pub phases_ms: BTreeMap<String, u64>,
    /// Resident memory of the process, bytes.
    pub host_bytes: u64,
    /// Bytes received from and sent to buckets since the start.
    pub store_bytes: [u64; 2],
    /// What the run asked of the window.
    #[serde(default)]
    pub plan: PlanEntry,
    /// The node's surroundings at its end.
    #[serde(default)]
    pub health: HealthEntry,
}

/// How a peer's object came to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FetchEntry {
    /// Its size.
    pub object_bytes: u64,
    /// Time of the request that brought it, ms.
    pub fetch_ms: u64,
    /// For validators: time from the instant at which it was asked for, and was there, to the end of the upload window, ms. None for others.
    pub margin_ms: Option<i64>,
}

/// A miner's training in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingEntry {
    /// Inner steps taken.
    pub steps: u32,
    /// Loss of the first inner step, nats per token.
    pub entry_loss: f64,
    /// Loss of the last inner step, nats per token.
    pub last_loss: f64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Tokens per second of training.
    pub tokens_s: f64,
    /// Mean norm of the inner gradients before clipping.
    pub gradient_norm: f64,
    /// L2 norm of the residual that stays after compression, of its finite values.
    pub residual_norm: f64,
    /// The largest magnitude in it.
    #[serde(default)]
    pub residual_largest: f64,
    /// Values in it that are not finite; any is a fault.
    #[serde(default)]
    pub residual_not_finite: u64,
    /// Size of the sealed object.
    pub object_bytes: u64,
    /// Time between the object's upload and the end of the upload window, ms; negative: late. None: not uploaded.
    pub upload_margin_ms: Option<i64>,
    /// Learning rate of the last inner step.
    pub learning_rate: f64,
    /// Time that inner steps waited for their batches, ms.
    #[serde(default)]
    pub data_wait_ms: u64,
    /// Time to bring the optimiser's moments to host memory, ms; 0 where that was not asked for.
    #[serde(default)]
    pub offload_ms: u64,
    /// Time to bring them back to the devices, ms; 0 where that was not asked for.
    #[serde(default)]
    pub restore_ms: u64,
}

/// Maps by uid, with uids as texts: keys of tagged JSON objects are read as nothing else.
mod by_uid {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use std::collections::BTreeMap;
    use templar_protocol::Uid;

    pub fn serialize<S: Serializer, V: Serialize>(map: &BTreeMap<Uid, V>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(uid, value)| (uid.to_string(), value)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(deserializer: D) -> Result<BTreeMap<Uid, V>, D::Error> {
        let texts = BTreeMap::<String, V>::deserialize(deserializer)?;
        texts.into_iter().map(|(uid, value)| Ok((uid.parse().map_err(D::Error::custom)?, value))).collect()
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    lost: u64,
}

impl Journal {
    /// Opens or creates the journal in `dir`. A torn last line, left by a kill, is ended so that the next line is whole.
    ///
    /// # Errors
    /// The directory cannot be made or the file not be opened.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(JOURNAL_FILE);
        let torn = ends_torn(&path)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        if torn {
            file.write_all(b"\n")?;
        }
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, lost: 0 })
    }

    /// The directory that it is in.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Appends `entry` with the instant `t_ms`.
    pub fn write(&mut self, t_ms: u64, entry: Entry) {
        if self.lost > 0 {
            let text = format!("{} journal lines could not be written; is the disk full?", self.lost);
            let kind = trouble::DISK.to_owned();
            if self.append(&Line { v: JOURNAL_VERSION, t_ms, entry: Entry::Warning { kind, text } }).is_ok() {
                self.lost = 0;
            }
        }
        if self.append(&Line { v: JOURNAL_VERSION, t_ms, entry }).is_err() {
            self.lost += 1;
        }
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.bytes.saturating_add(text.len() as u64) > BYTES_MAX {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

fn ends_torn(path: &Path) -> io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0] != b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(text: &str) -> Entry {
        Entry::Warning { kind: String::new(), text: text.into() }
    }

    #[test]
    fn lines_survive_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.write(1, warning("one"));
        fs::OpenOptions::new().append(true).open(dir.path().join(JOURNAL_FILE)).unwrap().write_all(b"{\"v\":1,\"t_").unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.write(2, Entry::Window(Box::new(WindowEntry { window: Window(7), ..WindowEntry::default() })));
        let lines = Tail::from_start(dir.path()).read().unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].entry, warning("one"));
        assert!(matches!(&lines[1].entry, Entry::Window(entry) if entry.window == Window(7)));
    }

    #[test]
    fn maps_by_uid_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let weights =
            Entry::Weights { window: Window(1), block: BlockNumber(2), weights: BTreeMap::from([(Uid(7), 0.25), (Uid(9), 0.75)]) };
        let refused = BTreeMap::from([(Uid(3), "late: too late".to_owned())]);
        let window = Entry::Window(Box::new(WindowEntry { refused, ..WindowEntry::default() }));
        journal.write(1, weights.clone());
        journal.write(2, window.clone());
        let lines = Tail::from_start(dir.path()).read().unwrap();
        assert_eq!(lines.into_iter().map(|line| line.entry).collect::<Vec<_>>(), [weights, window]);
    }
}
