//! Profiles of a node's windows: what ran on the devices and what the host did meanwhile, as files beside the journal.
//!
//! The engine is profiled while a window trains or is evaluated; the host's spans are those of the whole window. An engine without a
//! profiler leaves the host's. What always holds: a profile never stops or changes the node's work; each file is there whole or not
//! at all; at most [`WINDOWS_KEPT`] windows are kept.
//!
//! Host spans are timed by the monotonic clock, tied to Unix time once for each profile. Engines date their spans in Unix time, too; if
//! all of an engine's spans lie where its profile was taken, they are left as they are. Otherwise its clock is taken to be another
//! one, and its first span is put where the profile began.

use crate::timeline::{HostSpan, PHASES, Record, Timeline, WAIT};
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use templar_model::profile::{summarise, write_trace};
use templar_protocol::Window;
use templar_tensor::{Executor, Profile, Profiling, Span};
use tokio::task::{JoinHandle, spawn_blocking};

/// The directory of the profiles, in the node's.
pub const PROFILES_DIR: &str = "profiles";
/// Windows whose profiles are kept.
pub const WINDOWS_KEPT: usize = 20;
/// Kernels of a device in a summary.
const KERNELS_SHOWN: usize = 10;
/// How far a span on the host's clock may lie outside the time of its profile.
const SLACK: Duration = Duration::from_secs(1);

/// Why a profile could not be taken or written.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The engine's profiler.
    #[error("the engine's profiler failed: {0}")]
    Engine(#[from] templar_tensor::Error),
    /// The files.
    #[error("{path} cannot be written: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A defect.
    #[error("the thread that reads or writes it has ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Takes the profiles of the first windows of a process.
pub struct Profiler {
    executor: Arc<dyn Executor>,
    dir: PathBuf,
    /// Windows still to be profiled.
    left: u32,
    timeline: Timeline,
    taken: Option<Taken>,
}

/// The engine's part of a profile.
enum Recording {
    /// There is none.
    None,
    Running(Box<dyn Profiling>),
    /// It is being read.
    Ending(JoinHandle<templar_tensor::Result<Profile>>),
}

/// A window's profile.
struct Taken {
    window: Window,
    anchor: Anchor,
    /// When the engine's profiler was up.
    begun: Instant,
    ended: Instant,
    recording: Recording,
}

/// One instant on both of the host's clocks.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    instant: Instant,
    unix_ns: u64,
}

impl Anchor {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix_ns: ns(unix) }
    }

    fn unix_ns(&self, instant: Instant) -> u64 {
        let (after, before) = (instant.saturating_duration_since(self.instant), self.instant.saturating_duration_since(instant));
        self.unix_ns.saturating_add(ns(after)).saturating_sub(ns(before))
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Profiler {
    /// Profiles the first `windows` windows into `dir`; what the host does comes from `timeline`.
    pub fn new(executor: Arc<dyn Executor>, dir: PathBuf, windows: u32, timeline: Timeline) -> Self {
        timeline.record(windows > 0);
        Self { executor, dir, left: windows, timeline, taken: None }
    }

    /// Begins to profile the engine for `window`; does nothing when enough windows were profiled.
    ///
    /// # Errors
    /// The engine's profiler does not start; the host's part is still taken.
    pub async fn begin(&mut self, window: Window) -> Result<(), ProfileError> {
        if self.left == 0 {
            return Ok(());
        }
        // A window that was given up leaves its profile behind. Engines take one at a time.
        if let Some(Taken { recording: Recording::Ending(ending), .. }) = self.taken.take() {
            let _ = ending.await;
        }
        let (executor, anchor) = (self.executor.clone(), Anchor::now());
        let started = spawn_blocking(move || executor.profile()).await;
        let (recording, result) = match started {
            Ok(Ok(Some(profiling))) => (Recording::Running(profiling), Ok(())),
            Ok(Ok(None)) => (Recording::None, Ok(())),
            Ok(Err(error)) => (Recording::None, Err(error.into())),
            Err(error) => (Recording::None, Err(error.into())),
        };
        let begun = Instant::now();
        self.taken = Some(Taken { window, anchor, begun, ended: begun, recording });
        result
    }

    /// Ends the profile of the engine and lets a thread read what it holds.
    pub fn end(&mut self) {
        let Some(taken) = &mut self.taken else { return };
        taken.ended = Instant::now();
        taken.recording = match std::mem::replace(&mut taken.recording, Recording::None) {
            Recording::Running(profiling) => Recording::Ending(spawn_blocking(move || profiling.finish())),
            other => other,
        };
    }

    /// Writes what was taken for `window`, in which the engine did `what`, with the host's spans since the last window.
    ///
    /// # Errors
    /// The profile cannot be read or written. What the host did is written even if the engine's part is lost.
    pub async fn write(&mut self, window: Window, what: &'static str) -> Result<(), ProfileError> {
        if self.left == 0 {
            return Ok(());
        }
        let record = self.timeline.take();
        let Some(taken) = self.taken.take_if(|taken| taken.window == window) else { return Ok(()) };
        self.left -= 1;
        if self.left == 0 {
            self.timeline.record(false);
        }
        let (profile, lost) = match taken.recording {
            Recording::Ending(ending) => match ending.await {
                Ok(Ok(profile)) => (profile, Ok(())),
                Ok(Err(error)) => (Profile::default(), Err(error.into())),
                Err(error) => (Profile::default(), Err(error.into())),
            },
            Recording::None | Recording::Running(_) => (Profile::default(), Ok(())),
        };
        let (dir, engine) = (self.dir.clone(), self.executor.name().to_owned());
        let Taken { anchor, begun, ended, .. } = taken;
        let report = Report { window, what, engine, anchor, begun, ended, record };
        spawn_blocking(move || report.write(&dir, profile)).await??;
        lost
    }
}

/// How an engine's clock was found to stand to the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clocks {
    /// The engine says nothing.
    NoEngine,
    /// They are the same.
    Same,
    /// They are not: the engine's spans were shifted.
    Shifted,
}

impl fmt::Display for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clocks::NoEngine => "the engine gives no spans, these are the host's only",
            Clocks::Same => "the engine's spans are in Unix time, as the host's are",
            Clocks::Shifted => "the engine has a clock of its own; its first span was put where its profile began",
        })
    }
}

/// Puts an engine's spans on the host's clock; the profile was taken from `begun_ns` to `ended_ns` of Unix time.
fn align(spans: &mut [Span], begun_ns: u64, ended_ns: u64) -> Clocks {
    let first = spans.iter().map(|span| span.start_ns).min();
    let last = spans.iter().map(|span| span.start_ns.saturating_add(span.duration_ns)).max();
    let (Some(first), Some(last)) = (first, last) else { return Clocks::NoEngine };
    if first.saturating_add(ns(SLACK)) >= begun_ns && last <= ended_ns.saturating_add(ns(SLACK)) {
        return Clocks::Same;
    }
    for span in spans {
        span.start_ns = (span.start_ns - first).saturating_add(begun_ns);
    }
    Clocks::Shifted
}

/// A window's profile on its way to disk.
struct Report {
    window: Window,
    what: &'static str,
    engine: String,
    anchor: Anchor,
    begun: Instant,
    ended: Instant,
    record: Record,
}

impl Report {
    fn write(&self, dir: &Path, mut profile: Profile) -> Result<(), ProfileError> {
        let clocks = align(&mut profile.spans, self.anchor.unix_ns(self.begun), self.anchor.unix_ns(self.ended));
        let text = self.summary(&profile.spans, clocks);
        profile.spans.extend(self.record.spans.iter().map(|span| self.host_span(span)));
        let stem = format!("window-{}", self.window);
        fs::create_dir_all(dir).map_err(|source| ProfileError::Io { path: dir.into(), source })?;
        // The text is first: by it the others are found when they are old.
        replace(dir, &format!("{stem}.txt"), |file| file.write_all(text.as_bytes()))?;
        if !profile.raw.is_empty() {
            replace(dir, &format!("{stem}.json.xplane.pb"), |file| file.write_all(&profile.raw))?;
        }
        replace(dir, &format!("{stem}.json"), |file| write_trace(&profile.spans, file))?;
        prune(dir, &stem).map_err(|source| ProfileError::Io { path: dir.into(), source })
    }

    fn host_span(&self, span: &HostSpan) -> Span {
        let start_ns = self.anchor.unix_ns(span.begun);
        Span { track: span.track.into(), name: span.name.clone(), start_ns, duration_ns: ns(span.took) }
    }

    /// The text beside the trace.
    fn summary(&self, spans: &[Span], clocks: Clocks) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_summary(&mut out, spans, clocks);
        out
    }

    fn write_summary(&self, out: &mut String, spans: &[Span], clocks: Clocks) -> fmt::Result {
        let took_ms = ms(self.ended.saturating_duration_since(self.begun));
        let waited: Duration = self.record.spans.iter().filter(|span| span.name == WAIT).map(|span| span.took).sum();
        let share = 100.0 * ms(waited) / took_ms.max(f64::MIN_POSITIVE);
        writeln!(out, "window {}: {} on engine {} for {took_ms:.1} ms", self.window, self.what, self.engine)?;
        writeln!(out, "waiting for data: {:.1} ms ({share:.1} %)", ms(waited))?;
        writeln!(out, "clocks: {clocks}")?;
        if self.record.left_out > 0 {
            writeln!(out, "left out: {} further spans of the host", self.record.left_out)?;
        }
        for device in summarise(spans) {
            let idle = 100.0 * (1.0 - device.busy_ms / device.span_ms.max(f64::MIN_POSITIVE));
            let (busy_ms, span_ms) = (device.busy_ms, device.span_ms);
            writeln!(
                out,
                "\n{}: busy {busy_ms:.1} of {span_ms:.1} ms ({idle:.1} % idle), transfers {:.1} ms",
                device.device, device.transfer_ms
            )?;
            for (name, runs, ms) in device.kernels.iter().take(KERNELS_SHOWN) {
                writeln!(out, "{ms:12.1} ms in {runs:6} × {name}")?;
            }
        }
        let mut tracks: Vec<&str> = self.record.spans.iter().map(|span| span.track).collect();
        // The phases come first, the threads by their names.
        tracks.sort_by_key(|track| (*track != PHASES, *track));
        tracks.dedup();
        for track in tracks {
            writeln!(out, "\n{track}")?;
            for (name, runs, took) in totals(self.record.spans.iter().filter(|span| span.track == track)) {
                writeln!(out, "{:12.1} ms in {runs:6} × {name}", ms(took))?;
            }
        }
        Ok(())
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Number and sum of the spans of each name, in the order in which names first appear.
fn totals<'a>(spans: impl Iterator<Item = &'a HostSpan>) -> Vec<(&'a str, usize, Duration)> {
    let mut totals: Vec<(&str, usize, Duration)> = Vec::new();
    for span in spans {
        match totals.iter_mut().find(|(name, ..)| *name == span.name) {
            Some((_, runs, took)) => (*runs, *took) = (*runs + 1, *took + span.took),
            None => totals.push((&span.name, 1, span.took)),
        }
    }
    totals
}

/// Writes the file `name`: it is there whole or not at all.
fn replace(dir: &Path, name: &str, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), ProfileError> {
    // One name for all: what a kill leaves behind is overwritten.
    let (new, path) = (dir.join("new.part"), dir.join(name));
    let written = File::create(&new).and_then(|file| {
        let mut file = BufWriter::new(file);
        content(&mut file)?;
        file.into_inner()?.sync_all()?;
        fs::rename(&new, &path)
    });
    written.map_err(|source| ProfileError::Io { path, source })
}

/// Removes the oldest profiles beyond [`WINDOWS_KEPT`]; the one of `newest` stays.
fn prune(dir: &Path, newest: &str) -> io::Result<()> {
    let mut profiles = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".txt").filter(|stem| is_profile(stem) && *stem != newest);
        if let Some(stem) = stem {
            // Another run's windows have other numbers: age is the time of writing.
            profiles.push((entry.metadata()?.modified()?, stem.to_owned()));
        }
    }
    profiles.sort_unstable();
    let excess = (profiles.len() + 1).saturating_sub(WINDOWS_KEPT);
    for (_, stem) in profiles.into_iter().take(excess) {
        for ending in ["json", "json.xplane.pb", "txt"] {
            match fs::remove_file(dir.join(format!("{stem}.{ending}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_profile(stem: &str) -> bool {
    stem.strip_prefix("window-").is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
