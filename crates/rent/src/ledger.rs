//! What was asked for and what came of it, on disk.
//!
//! What always holds: an entry is on disk before the provider is asked for the machine, and says so before it is asked to end it; the file is replaced atomically;
//! one process has the ledger at a time; it has no secret in it.

use crate::money::Usd;
use crate::offer::Offer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the ledger in its directory.
pub const LEDGER_FILE: &str = "ledger.json";
/// The largest ledger that is read, bytes.
const LEDGER_BYTES_MAX: u64 = 64 << 20;
/// Entries of ended rentals that are kept.
const ENDED_MAX: usize = 1000;

/// How far a rental has come, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The provider was, or was about to be, asked for it; whether it exists is not known yet.
    Asked,
    /// It exists.
    Running,
    /// The provider was, or was about to be, asked to end it.
    Stopping,
    /// It has ended, as the provider's list has shown.
    Ended,
    /// The provider has refused; nothing was rented.
    Refused,
}

impl Stage {
    /// Whether it may cost something.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Asked | Self::Running | Self::Stopping)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Refused => "refused",
        }
    }
}

/// When a rental is to end by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// What it may cost in all.
    pub budget: Option<Usd>,
    /// The longest time without any sign of work, ms.
    pub idle_ms: Option<u64>,
    /// The longest time in all, ms.
    pub lifetime_ms: Option<u64>,
}

/// A rental, from before it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Our name of it: 16 hexadecimal digits.
    pub key: String,
    /// The provider's name.
    pub provider: String,
    /// What was asked for.
    pub offer: Offer,
    /// Price for an hour, from the offer or from the operator.
    pub price_hour: Option<Usd>,
    /// The shortest time that is charged, ms.
    pub charged_ms_min: u64,
    /// When it was asked for, Unix time, ms.
    pub asked_ms: u64,
    /// Live rentals that the provider listed before it was asked.
    pub before: BTreeSet<String>,
    /// How far it has come.
    pub stage: Stage,
    /// The provider's id, once it is known.
    pub rental: Option<String>,
    /// When it was seen to have ended, Unix time, ms.
    pub ended_ms: Option<u64>,
    /// When it last showed a sign of work, Unix time, ms.
    pub active_ms: u64,
    /// When it is to end by itself.
    pub limits: Limits,
    /// Whether it is a trial for a larger machine.
    pub trial: bool,
    /// What was last said about it.
    pub note: String,
}

impl Entry {
    /// What it has cost until `now_ms`; `None` while its price is not known.
    pub fn cost(&self, now_ms: u64) -> Option<Usd> {
        if self.stage == Stage::Refused {
            return Some(Usd(0));
        }
        let ms = self.ended_ms.unwrap_or(now_ms).saturating_sub(self.asked_ms);
        Some(self.price_hour?.per_hour_for(ms.max(self.charged_ms_min)))
    }
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no ledger.
    #[error("{path} is no ledger: {why}. Do not delete it before the provider's own list shows that nothing is rented")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process has it.
    #[error("another process uses the ledger in {0}; wait for it or end it")]
    InUse(PathBuf),
    /// No entry, or more than one, has that name.
    #[error("{0:?} names {1} rentals of the ledger; `templar rent list --all` shows them")]
    NoSuch(String, usize),
}

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    entries: Vec<Entry>,
}

/// The ledger, held by this process alone.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    entries: Vec<Entry>,
    _lock: File,
}

impl Ledger {
    /// Opens (and makes) the ledger in `dir`, which becomes readable by its owner alone.
    ///
    /// # Errors
    /// Another process has it, the disk refuses, or the file is no ledger.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        use std::os::unix::fs::DirBuilderExt;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| LedgerError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(LedgerError::Io { path: lock_path, source }),
        }
        let path = dir.join(LEDGER_FILE);
        Ok(Self { dir: dir.to_owned(), entries: read(&path)?, _lock: lock })
    }

    /// Its directory, in which the keys for logging in are as well.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All entries, the oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry with this key, or this provider's id, or an unambiguous beginning of either; open ones come before ended ones.
    ///
    /// # Errors
    /// None or several have that name.
    pub fn find(&self, name: &str) -> Result<&Entry, LedgerError> {
        let named = |entry: &&Entry| {
            !name.is_empty() && (entry.key.starts_with(name) || entry.rental.as_ref().is_some_and(|id| id.starts_with(name)))
        };
        let exact = |entry: &&Entry| entry.key == name || entry.rental.as_deref() == Some(name);
        if let Some(entry) = self.entries.iter().find(exact) {
            return Ok(entry);
        }
        let all: Vec<&Entry> = self.entries.iter().filter(named).collect();
        let open: Vec<&Entry> = all.iter().copied().filter(|entry| entry.stage.is_open()).collect();
        match (open.as_slice(), all.as_slice()) {
            ([entry], _) | ([], [entry]) => Ok(entry),
            (_, all) => Err(LedgerError::NoSuch(name.to_owned(), all.len())),
        }
    }

    /// Writes `entry`, new or in the place of the one with its key. It is on disk when this returns.
    ///
    /// # Errors
    /// The disk refused; on disk and in memory the entries are as before.
    pub fn put(&mut self, entry: Entry) -> Result<(), LedgerError> {
        let mut entries = self.entries.clone();
        match entries.iter_mut().find(|there| there.key == entry.key) {
            Some(there) => *there = entry,
            None => entries.push(entry),
        }
        let ended = entries.iter().filter(|entry| !entry.stage.is_open()).count();
        let mut excess = ended.saturating_sub(ENDED_MAX);
        entries.retain(|entry| {
            let goes = excess > 0 && !entry.stage.is_open();
            excess -= usize::from(goes);
            !goes
        });
        let path = self.dir.join(LEDGER_FILE);
        write(&path, &Contents { version: 1, entries: entries.clone() }).map_err(|source| LedgerError::Io { path, source })?;
        self.entries = entries;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, LedgerError> {
    let form = |why: String| LedgerError::Form { path: path.to_owned(), why };
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(data) if data.len() > LEDGER_BYTES_MAX => return Err(form(format!("it has more than {LEDGER_BYTES_MAX} bytes"))),
        _ => fs::read(path).map_err(|source| LedgerError::Io { path: path.to_owned(), source })?,
    };
    let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| form(error.to_string()))?;
    if contents.version != 1 {
        return Err(form(format!("it has version {}, this program reads 1", contents.version)));
    }
    Ok(contents.entries)
}

/// The file is there whole or not at all, even after a power cut; its owner alone reads it.
fn write(path: &Path, contents: &Contents) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&serde_json::to_vec_pretty(contents)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(key: &str, stage: Stage) -> Entry {
        Entry {
            key: key.into(),
            provider: "test".into(),
            offer: Offer {
                id: format!("machine-{key}"),
                gpu: "h200".into(),
                gpus: 8,
                gpu_memory_gb: 141,
                cpu_cores: 64,
                memory_gb: 1000,
                place: String::new(),
                price_hour: Some(Usd(40_000_000)),
            },
            price_hour: Some(Usd(40_000_000)),
            charged_ms_min: 0,
            asked_ms: 1_000_000,
            before: BTreeSet::new(),
            stage,
            rental: None,
            ended_ms: None,
            active_ms: 1_000_000,
            limits: Limits::default(),
            trial: false,
            note: String::new(),
        }
    }

    #[test]
    fn entries_survive_and_only_one_process_has_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("rent");
        let mut ledger = Ledger::open(&home).unwrap();
        assert!(matches!(Ledger::open(&home), Err(LedgerError::InUse(_))));
        ledger.put(entry("aa11", Stage::Asked)).unwrap();
        ledger.put(Entry { rental: Some("r-1".into()), ..entry("aa11", Stage::Running) }).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&home).unwrap();
        assert_eq!(ledger.entries().len(), 1);
        assert_eq!(ledger.find("r-1").unwrap().stage, Stage::Running);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home), mode(&home.join(LEDGER_FILE))), (0o700, 0o600));
    }

    #[test]
    fn a_name_finds_one_rental_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.put(entry("aa11", Stage::Ended)).unwrap();
        ledger.put(entry("aa22", Stage::Running)).unwrap();
        ledger.put(entry("bb33", Stage::Running)).unwrap();
        assert_eq!(ledger.find("aa").unwrap().key, "aa22", "open ones come first");
        assert_eq!(ledger.find("aa11").unwrap().key, "aa11");
        assert!(matches!(ledger.find("cc"), Err(LedgerError::NoSuch(_, 0))));
        assert!(matches!(ledger.find(""), Err(LedgerError::NoSuch(_, _))));
    }

    #[test]
    fn a_damaged_ledger_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LEDGER_FILE), "{").unwrap();
        assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Form { .. })));
    }

    #[test]
    fn only_ended_entries_are_forgotten_and_the_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.entries = (0..ENDED_MAX).map(|number| entry(&format!("e{number}"), Stage::Ended)).collect();
        ledger.entries.insert(0, entry("open", Stage::Running));
        ledger.put(entry("new", Stage::Refused)).unwrap();
        let keys: Vec<&str> = ledger.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!((keys.len(), keys[0], keys[1]), (ENDED_MAX + 1, "open", "e1"));
    }

    #[test]
    fn costs_count_from_the_asking_and_at_least_what_is_charged() {
        let running = entry("a", Stage::Running);
        assert_eq!(running.cost(1_000_000 + 1_800_000), Some(Usd(20_000_000)));
        assert_eq!(Entry { charged_ms_min: 3_600_000, ..running.clone() }.cost(1_000_001), Some(Usd(40_000_000)));
        assert_eq!(Entry { price_hour: None, ..running.clone() }.cost(2_000_000), None);
        assert_eq!(Entry { stage: Stage::Refused, ..running }.cost(9_000_000), Some(Usd(0)));
    }
}
