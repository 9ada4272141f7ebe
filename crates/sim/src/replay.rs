//! A journal is a proof: whoever has it can run the same again and compare every line.
//!
//! The first line names the scenario and the seed; all others are what nodes noted.

use crate::record::Sink;
use crate::report::Report;
use crate::run::simulate;
use crate::scenario::Scenario;
use crate::world::WorldError;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Version of the journal of simulations.
pub const VERSION: u32 = 1;
/// The longest line that is read, bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The first line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`VERSION`].
    pub simulation: u32,
    /// The version of the program.
    pub program: String,
    /// The seed.
    pub seed: u64,
    /// The scenario.
    pub scenario: Scenario,
}

/// Why a journal cannot be written, or run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error("the journal {path} cannot be {what}: {source}")]
    Io {
        /// `written` or `read`.
        what: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The first line is no header.
    #[error("{path} does not begin with the header of a simulation's journal: {why}; write one with `templar sim run --journal`")]
    Header {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The scenario cannot be played.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// The first place at which a run differs from a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The line, from 1; the header is line 1.
    pub line: u64,
    /// What the journal says; none after its end.
    pub journal: Option<String>,
    /// What the run says; none after its end.
    pub run: Option<String>,
}

/// What a replay has shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// Lines that are the same, the header's left out.
    pub same: u64,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// Runs a scenario and writes its journal to `path`.
///
/// # Errors
/// The file cannot be written, or the scenario cannot be played.
pub fn record(scenario: &Scenario, seed: u64, path: &Path) -> Result<Report, ReplayError> {
    let failed = |source| ReplayError::Io { what: "written", path: path.display().to_string(), source };
    let file = std::fs::File::create(path).map_err(failed)?;
    let state = Arc::new(Mutex::new((BufWriter::new(file), Ok(()))));
    let writer = state.clone();
    let header = Header { simulation: VERSION, program: env!("CARGO_PKG_VERSION").into(), seed, scenario: scenario.clone() };
    let mut sink: Sink = Box::new(move |line: &str| {
        let mut state = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, result) = &mut *state;
        if result.is_ok() {
            *result = writeln!(file, "{line}");
        }
    });
    sink(&serde_json::to_string(&header).expect("a scenario has texts as keys and finite numbers only"));
    let report = simulate(scenario, seed, Some(sink))?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (file, result) = &mut *state;
    std::mem::replace(result, Ok(())).and_then(|()| file.flush()).map_err(failed)?;
    Ok(report)
}

/// Runs the scenario of the journal at `path` again and compares line by line.
///
/// # Errors
/// The file cannot be read, is no journal, or its scenario cannot be played.
pub fn replay(path: &Path) -> Result<Replayed, ReplayError> {
    let name = || path.display().to_string();
    let failed = |source| ReplayError::Io { what: "read", path: name(), source };
    let mut lines = Lines(BufReader::new(std::fs::File::open(path).map_err(failed)?));
    let first = lines.next().map_err(failed)?.unwrap_or_default();
    let header: Header = serde_json::from_str(&first).map_err(|error| ReplayError::Header { path: name(), why: error.to_string() })?;
    if header.simulation != VERSION {
        let why = format!("it has version {}, this program replays version {VERSION}", header.simulation);
        return Err(ReplayError::Header { path: name(), why });
    }
    let state = Arc::new(Mutex::new((lines, Replayed { same: 0, difference: None }, Ok(()))));
    let compared = state.clone();
    let sink: Sink = Box::new(move |line: &str| {
        let mut state = compared.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, replayed, result) = &mut *state;
        if replayed.difference.is_some() || result.is_err() {
            return;
        }
        match lines.next() {
            Ok(Some(journal)) if journal == line => replayed.same += 1,
            Ok(journal) => replayed.difference = Some(Difference { line: replayed.same + 2, journal, run: Some(line.to_owned()) }),
            Err(error) => *result = Err(error),
        }
    });
    simulate(&header.scenario, header.seed, Some(sink))?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (lines, replayed, result) = &mut *state;
    std::mem::replace(result, Ok(())).map_err(failed)?;
    if replayed.difference.is_none()
        && let Some(journal) = lines.next().map_err(failed)?
    {
        replayed.difference = Some(Difference { line: replayed.same + 2, journal: Some(journal), run: None });
    }
    Ok(replayed.clone())
}

struct Lines(BufReader<std::fs::File>);

impl Lines {
    fn next(&mut self) -> io::Result<Option<String>> {
        use std::io::Read;
        let mut line = String::new();
        let read = (&mut self.0).take(LINE_BYTES_MAX).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if line.ends_with('\n') {
            line.pop();
        }
        Ok(Some(line))
    }
}
