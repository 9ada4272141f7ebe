//! The driver: workers are started, heard and watched; what they find is kept, and one that dies is started again.

use crate::{corpus, targets};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

/// A worker that says nothing for so long hangs: the longest honest input takes a tenth of that.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Findings after which a target is given up: they are all the same by then.
const FINDINGS_MAX: usize = 8;
/// What is kept of a dead worker's last words, bytes.
const LAST_WORDS_BYTES: usize = 8 << 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For how long, each target;
    pub time: Duration,
    /// or until each worker has done so many runs, those counted that make an input smaller.
    pub runs: u64,
    /// Workers at once.
    pub jobs: usize,
    /// Which choices.
    pub seed: u64,
    /// The folder with a folder for each target's corpus.
    pub corpus: PathBuf,
    /// The folder for findings.
    pub found: PathBuf,
}

/// What came of a target.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its name.
    pub target: String,
    /// Inputs that were run.
    pub runs: u64,
    /// Different shapes, of the worker that saw most.
    pub shapes: u64,
    /// Inputs that were added to the corpus.
    pub kept: usize,
    /// Peak memory of a worker, KiB.
    pub peak_kib: u64,
    /// The input that took longest, milliseconds.
    pub slowest_ms: u64,
    /// How long all took, seconds.
    pub seconds: f64,
    /// Files with inputs that ended a worker.
    pub findings: Vec<PathBuf>,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "target": self.target, "runs": self.runs, "shapes": self.shapes, "kept": self.kept, "peak_kib": self.peak_kib,
            "slowest_ms": self.slowest_ms, "seconds": self.seconds, "findings": self.findings,
        })
    }

    /// As a line.
    pub fn line(&self) -> String {
        let rate = self.runs as f64 / self.seconds.max(1e-3);
        format!(
            "{}: {} inputs in {:.0} s ({rate:.0} a second), {} shapes, {} inputs kept, peak memory of a worker {} MiB, slowest input {} ms, {} findings",
            self.target,
            self.runs,
            self.seconds,
            self.shapes,
            self.kept,
            self.peak_kib / 1024,
            self.slowest_ms,
            self.findings.len()
        )
    }
}

/// What all workers of a target share.
struct Shared {
    report: Report,
    known: BTreeSet<String>,
}

struct Drive<'a> {
    plan: &'a Plan,
    corpus: PathBuf,
    scratch: &'a Path,
    shared: Mutex<Shared>,
    begun: Instant,
}

/// Tests one target with the workers of the plan.
///
/// # Errors
/// A worker cannot be started, or a file cannot be written.
pub fn drive(target: &str, plan: &Plan) -> io::Result<Report> {
    let scratch = tempfile::tempdir()?;
    let shared = Shared { report: Report { target: target.to_owned(), ..Report::default() }, known: BTreeSet::new() };
    let drive =
        Drive { plan, corpus: plan.corpus.join(target), scratch: scratch.path(), shared: Mutex::new(shared), begun: Instant::now() };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..plan.jobs.max(1))
            .map(|job| {
                scope.spawn({
                    let drive = &drive;
                    move || drive.job(target, job as u64)
                })
            })
            .collect();
        jobs.into_iter().try_for_each(|job| job.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the driver panicked"))))
    })?;
    let mut report = drive.shared.into_inner().unwrap_or_else(PoisonError::into_inner).report;
    report.seconds = drive.begun.elapsed().as_secs_f64();
    Ok(report)
}

impl Drive<'_> {
    /// Workers one after another, until the time is over.
    fn job(&self, target: &str, job: u64) -> io::Result<()> {
        for life in 0.. {
            let left = self.plan.time.saturating_sub(self.begun.elapsed());
            if (life > 0 && left.is_zero()) || self.shared().report.findings.len() >= FINDINGS_MAX {
                break;
            }
            // Far apart, so that no two workers make the same choices.
            let seed = self.plan.seed.wrapping_add((job << 32) + life);
            let trail = self.scratch.join(format!("{job}"));
            let (status, words) = self.worker(target, seed, &trail, left)?;
            if status.is_some_and(|status| status.success()) {
                break;
            }
            self.found(target, seed, &trail, status, &words)?;
        }
        Ok(())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Counters and sets are whole whatever panicked.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One worker from start to end: how it ended, `None` for one that hung, and its last words.
    fn worker(&self, target: &str, seed: u64, trail: &Path, left: Duration) -> io::Result<(Option<ExitStatus>, String)> {
        let kib = targets::memory_mib(target) * 1024;
        // Beyond the bound, asking for memory fails, which ends the process.
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -v {kib} && exec \"$@\""), "sh"])
            .arg(std::env::current_exe()?)
            .args(["worker", target, "--seed", &seed.to_string(), "--runs", &self.plan.runs.to_string()])
            .args(["--seconds", &left.as_secs_f64().to_string()])
            .args([Path::new("--corpus"), &self.corpus, Path::new("--trail"), trail])
            // The bound is on address space, of which threads and their arenas reserve much and use little.
            .envs([("RAYON_NUM_THREADS", "1"), ("MALLOC_ARENA_MAX", "1"), ("RUST_BACKTRACE", "0")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (lines, heard) = mpsc::channel();
        let stdout = child.stdout.take();
        let reader = std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = child.stderr.take();
        let words = std::thread::spawn(move || stderr.map(last_words).unwrap_or_default());
        let status = self.listen(&mut child, &heard)?;
        // Both end with the process.
        let _ = reader.join();
        Ok((status, words.join().unwrap_or_default()))
    }

    fn listen(&self, child: &mut Child, heard: &mpsc::Receiver<String>) -> io::Result<Option<ExitStatus>> {
        let mut before = 0;
        loop {
            match heard.recv_timeout(SILENCE_MAX) {
                Ok(line) => self.hear(&line, &mut before)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => return child.wait().map(Some),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    child.kill()?;
                    child.wait()?;
                    return Ok(None);
                }
            }
        }
    }

    /// `before` is the worker's own count of runs at its last tick.
    fn hear(&self, line: &str, before: &mut u64) -> io::Result<()> {
        let mut words = line.split(' ');
        let shared = &mut *self.shared();
        match words.next() {
            Some("known") => shared.known.extend(words.map(str::to_owned)),
            Some("new") => {
                let input = words.next().and_then(|digits| hex::decode(digits).ok());
                let shapes: BTreeSet<String> = words.map(str::to_owned).collect();
                if let Some(input) = input.filter(|_| !shapes.is_subset(&shared.known)) {
                    shared.report.kept += usize::from(corpus::keep(&self.corpus, &input)?);
                    shared.known.extend(shapes);
                }
            }
            Some("tick") => {
                let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
                if let [runs, shapes, peak, slowest] = numbers[..] {
                    let report = &mut shared.report;
                    report.runs += runs.saturating_sub(*before);
                    *before = runs;
                    report.shapes = report.shapes.max(shapes);
                    report.peak_kib = report.peak_kib.max(peak);
                    report.slowest_ms = report.slowest_ms.max(slowest);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Keeps what ended a worker: its trail, the last input of it, and its last words.
    fn found(&self, target: &str, seed: u64, trail: &Path, status: Option<ExitStatus>, words: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.plan.found)?;
        let name = |what: &str| self.plan.found.join(format!("{target}-{seed}.{what}"));
        let inputs = std::fs::read(trail).unwrap_or_default();
        std::fs::write(name("trail"), &inputs)?;
        std::fs::write(name("input"), last_input(&inputs))?;
        let how = status.map_or_else(|| "it said nothing for too long".to_owned(), |status| status.to_string());
        std::fs::write(name("txt"), format!("{how}\n{words}"))?;
        eprintln!("found: {target}, {how}: {}", words.lines().next().unwrap_or_default());
        self.shared().report.findings.push(name("input"));
        Ok(())
    }
}

/// The inputs of a trail.
pub fn inputs_of(mut trail: &[u8]) -> Vec<&[u8]> {
    let mut inputs = Vec::new();
    while let Some((length, rest)) = trail.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((input, rest)) = rest.split_at_checked(length) else { break };
        inputs.push(input);
        trail = rest;
    }
    inputs
}

fn last_input(trail: &[u8]) -> &[u8] {
    inputs_of(trail).last().copied().unwrap_or_default()
}

fn last_words(mut stderr: impl Read) -> String {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stderr.read(&mut part) {
        all.extend_from_slice(&part[..length]);
        all.drain(..all.len().saturating_sub(LAST_WORDS_BYTES));
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_is_read_to_where_it_was_cut() {
        let trail = [&3u32.to_le_bytes()[..], b"one", &0u32.to_le_bytes(), &9u32.to_le_bytes(), b"cut"].concat();
        assert_eq!(inputs_of(&trail), [&b"one"[..], b""]);
        assert_eq!(last_input(&[]), b"");
    }

    #[test]
    fn last_words_are_the_last() {
        let words = last_words(&[&[b'a'; LAST_WORDS_BYTES][..], b"end"].concat()[..]);
        assert!(words.len() == LAST_WORDS_BYTES && words.ends_with("aend"));
    }
}
