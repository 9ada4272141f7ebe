//! Score sheets from where they are: a validator's own journal on this machine, or the bucket in which it publishes them.
//!
//! What comes from a bucket is hostile until its size, its signature, its form, its run and its window have been checked. What comes from
//! a journal is this machine's own; damaged lines are left out.

use futures::{StreamExt, stream};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use templar_gauntlet::{ScoreSheet, sheet::SHEET_BYTES_MAX};
use templar_node::journal::{Entry, JOURNAL_FILE, Line};
use templar_node::signed;
use templar_protocol::messages::{Message, RunDescriptor};
use templar_protocol::{AccountId, Window, names};
use templar_store::{Bucket, Deadline, ErrorKind, StoreError};

/// Sheets that tell a miner's history, the explained one among them: as many windows as the shipped rules average credit over, and some.
const HISTORY_WINDOWS: usize = 24;
/// Requests at once.
const REQUESTS_MAX: usize = 8;
/// Longest answer to one request.
const REQUEST: Duration = Duration::from_secs(60);

/// Why there are no sheets.
#[derive(Debug, thiserror::Error)]
pub enum SheetsError {
    /// The directory has no journal.
    #[error("there is no validator's journal in {}", dir.display())]
    NoJournal {
        /// The directory.
        dir: PathBuf,
    },
    /// The journal cannot be read.
    #[error("the journal {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There are sheets, all of another form.
    #[error("none of the {count} score sheets in {} can be read; another version of templar may have written them", path.display())]
    OtherVersion {
        /// How many.
        count: usize,
        /// The journal.
        path: PathBuf,
    },
    /// No window was scored yet.
    #[error("no window has been scored yet")]
    Nothing,
    /// The window asked for has no sheet.
    #[error("there is no score sheet of window {window}{}", range(*first, *last))]
    NoWindow {
        /// The window.
        window: Window,
        /// The oldest window with a sheet, as far as that is known.
        first: Option<Window>,
        /// The newest.
        last: Option<Window>,
    },
    /// The bucket does not answer or refuses.
    #[error("the bucket cannot be read: {0}")]
    Store(#[from] StoreError),
    /// What the bucket holds is not what it should be.
    #[error("the {what} in the bucket does not count: {why}")]
    Untrue {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

fn range(first: Option<Window>, last: Option<Window>) -> String {
    match (first, last) {
        (Some(first), Some(last)) if first < last => {
            format!("; there are sheets from window {first} to {last}, except of windows that were void or followed only")
        }
        (_, Some(last)) => format!(
            "; the newest is of window {last}. Older ones are deleted after the run's retention, and a window that was void or followed only has none"
        ),
        _ => String::new(),
    }
}

/// The sheets of one validator, rising by window; the last one is the one asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheets {
    /// The sheets, never empty.
    pub sheets: Vec<ScoreSheet>,
    /// Who signed the last one; none where they come from a journal.
    pub signer: Option<AccountId>,
    /// Where they come from, for people.
    pub place: String,
}

/// The directories of validators in `dir`: `dir` itself, or those of a localnet, in order of their names.
pub fn validator_dirs(dir: &Path) -> Vec<PathBuf> {
    if dir.join(JOURNAL_FILE).is_file() {
        return vec![dir.to_owned()];
    }
    let nodes = std::fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten().map(|entry| entry.path());
    let validates = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("validator-"));
    let mut dirs: Vec<PathBuf> = nodes.filter(|path| validates(path) && path.join(JOURNAL_FILE).is_file()).collect();
    dirs.sort();
    dirs
}

/// The sheets in the journal of the first validator in `dir` that has scored the window asked for; without one, its newest.
///
/// # Errors
/// There is no journal, it cannot be read, or it holds no sheet of that window.
pub fn from_dir(dir: &Path, window: Option<Window>) -> Result<Sheets, SheetsError> {
    let mut missing = None;
    for dir in validator_dirs(dir) {
        match from_journal(&dir, window) {
            Ok(sheets) => return Ok(sheets),
            Err(error @ (SheetsError::Nothing | SheetsError::OtherVersion { .. } | SheetsError::NoWindow { .. })) => {
                missing = missing.or(Some(error))
            }
            Err(error) => return Err(error),
        }
    }
    Err(missing.unwrap_or_else(|| SheetsError::NoJournal { dir: dir.to_owned() }))
}

fn from_journal(dir: &Path, window: Option<Window>) -> Result<Sheets, SheetsError> {
    let path = dir.join(JOURNAL_FILE);
    let (mut kept, mut first, mut last, mut unread) = (VecDeque::new(), None, None, 0);
    for file in [path.with_extension("1.jsonl"), path.clone()] {
        let failed = |source| SheetsError::Io { path: file.clone(), source };
        let reader = match File::open(&file) {
            Ok(file) => BufReader::with_capacity(1 << 20, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        unread += each_sheet(reader, |sheet: ScoreSheet| {
            first = first.or(Some(sheet.window()));
            last = Some(sheet.window());
            if window.is_none_or(|window| sheet.window() <= window) {
                kept.push_back(sheet);
                // The oldest goes: memory stays bounded however long the journal is.
                if kept.len() > HISTORY_WINDOWS {
                    kept.pop_front();
                }
            }
        })
        .map_err(failed)?;
    }
    match (kept.back().map(ScoreSheet::window), window) {
        (None, _) if last.is_none() && unread > 0 => Err(SheetsError::OtherVersion { count: unread, path }),
        (None, None) => Err(SheetsError::Nothing),
        (found, Some(window)) if found != Some(window) => Err(SheetsError::NoWindow { window, first, last }),
        _ => Ok(Sheets { sheets: kept.into(), signer: None, place: path.display().to_string() }),
    }
}

/// Gives every sheet in a journal to `take`; lines that are none, or longer than any sheet, are passed over. Says how many sheets could not be read.
fn each_sheet(mut reader: impl BufRead, mut take: impl FnMut(ScoreSheet)) -> io::Result<usize> {
    const MARK: &[u8] = br#""event":"scored""#;
    const LINE_BYTES_MAX: u64 = SHEET_BYTES_MAX + 1024;
    let (mut line, mut unread) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(unread);
        }
        // The event stands at the beginning, so that other lines need not be parsed.
        let head = &line[..line.len().min(128)];
        if !head.windows(MARK.len()).any(|part| part == MARK) {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(Line { entry: Entry::Scored(scored), .. }) => take(scored.sheet),
            _ => unread += 1,
        }
    }
}

/// The sheet of `window` (without one: the newest) in a validator's bucket, with the sheets before it that are still there.
///
/// # Errors
/// The bucket does not answer, or holds no such sheet or a false one.
pub async fn from_bucket(bucket: &Bucket, window: Option<Window>) -> Result<Sheets, SheetsError> {
    let newest = read_sheet(bucket, names::SCORES_LATEST).await?;
    let ((sheet, signer), newest_window) = match (newest, window) {
        (None, None) => return Err(SheetsError::Nothing),
        (Some(newest), None) => {
            let window = newest.0.window();
            (newest, window)
        }
        (newest, Some(window)) => {
            let last = newest.map(|(newest, _)| newest.window());
            let found = read_sheet(bucket, &names::score_sheet(window)).await?;
            let missing = SheetsError::NoWindow { window, first: None, last };
            let found = found.ok_or(missing)?;
            if found.0.window() != window {
                let why = format!("it is of window {}", found.0.window());
                return Err(SheetsError::Untrue { what: format!("score sheet of window {window}"), why });
            }
            (found, window)
        }
    };
    let run = sheet.run;
    let earlier = (1..HISTORY_WINDOWS as u64).filter_map(|back| newest_window.0.checked_sub(back)).map(|earlier| async move {
        // History is a courtesy: what is missing, or not signed by the same key, is left out.
        let read = read_sheet(bucket, &names::score_sheet(Window(earlier))).await.ok().flatten();
        read.filter(|(sheet, by)| *by == signer && sheet.run == run && sheet.window() == Window(earlier))
    });
    let mut sheets: Vec<ScoreSheet> = stream::iter(earlier).buffered(REQUESTS_MAX).filter_map(async |read| Some(read?.0)).collect().await;
    sheets.reverse();
    sheets.push(sheet);
    Ok(Sheets { sheets, signer: Some(signer), place: bucket.url().to_string() })
}

/// A sheet by its name: `None` when there is no such object.
///
/// # Errors
/// The bucket does not answer, or what it holds is no sheet that was signed.
pub async fn read_sheet(bucket: &Bucket, name: &str) -> Result<Option<(ScoreSheet, AccountId)>, SheetsError> {
    let Some(opened) = read_signed::<ScoreSheet>(bucket, name).await? else { return Ok(None) };
    let sheet = opened.message;
    sheet.check().map_err(|error| SheetsError::Untrue { what: name.to_owned(), why: error.to_string() })?;
    Ok(Some((sheet, opened.signer)))
}

/// A signed message by its name: `None` when there is no such object.
///
/// # Errors
/// The bucket does not answer, or what it holds is too large, or not signed.
pub async fn read_signed<M: Message>(bucket: &Bucket, name: &str) -> Result<Option<signed::Opened<M>>, SheetsError> {
    let read = bucket.get_if_exists(name, M::BYTES_MAX, Deadline::within(REQUEST)).await;
    let bytes = match read {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::TooLarge { .. }) => {
            return Err(SheetsError::Untrue { what: name.to_owned(), why: error.to_string() });
        }
        Err(error) => return Err(error.into()),
    };
    let opened = signed::open(&bytes).map_err(|error| SheetsError::Untrue { what: name.to_owned(), why: error.to_string() })?;
    Ok(Some(opened))
}

/// The run descriptor in a validator's bucket.
///
/// # Errors
/// As [`read_signed`]; there is none.
pub async fn read_run(bucket: &Bucket) -> Result<signed::Opened<RunDescriptor>, SheetsError> {
    let read = read_signed::<RunDescriptor>(bucket, names::RUN).await?;
    let why = "there is none, so this is no validator's bucket".to_owned();
    read.ok_or(SheetsError::Untrue { what: names::RUN.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_of_another_form_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("nodes").join("validator-0");
        std::fs::create_dir_all(&node).unwrap();
        let line = r#"{"v":1,"t_ms":0,"event":"scored","window":3,"published":null,"sheet":{"of":"another version"}}"#;
        std::fs::write(node.join(JOURNAL_FILE), format!("{line}\n{line}\n")).unwrap();
        for window in [None, Some(Window(3))] {
            assert!(matches!(from_dir(&node, window), Err(SheetsError::OtherVersion { count: 2, .. })));
        }
        std::fs::write(node.join(JOURNAL_FILE), "").unwrap();
        assert!(matches!(from_dir(&node, None), Err(SheetsError::Nothing)));
    }
}
