//! A newcomer's way to a scored miner: few commands in a shell, each of them taken from what the one before has printed.

use crate::lab::{Lab, templar};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Most commands, from the first to the one that shows scores.
const COMMANDS_MAX: usize = 5;
/// The longest that one command may take until it ends or names the next.
const PATIENCE: Duration = Duration::from_secs(200);

/// A shell in an empty folder, with what it has started.
struct Shell {
    folder: PathBuf,
    running: Vec<Child>,
    /// Each command with what it has printed.
    told: Vec<(String, String)>,
}

impl Shell {
    fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, running: vec![], told: vec![] }
    }

    /// Runs a command as it stands, until it names the next one or ends; what it names, or how it has ended.
    fn run(&mut self, line: &str) -> Result<String, ExitStatus> {
        let out = self.folder.with_extension(format!("{}.stdout", self.told.len()));
        let mut command = Command::new("sh");
        // Its own settings are the only ones.
        for (name, value) in templar(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_templar")).parent().unwrap();
        command.env("PATH", format!("{}:{}", binary.display(), std::env::var("PATH").unwrap())).env("HOME", &self.folder);
        for name in ["TEMPLAR_CONFIG", "TEMPLAR_CHAIN", "TEMPLAR_BUCKET", "BT_WALLET_PATH"] {
            command.env_remove(name);
        }
        command.args(["-c", line]).current_dir(&self.folder).stdin(Stdio::null()).stdout(File::create(&out).unwrap()).process_group(0);
        self.running.push(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.running.last_mut().unwrap().try_wait().unwrap();
            let text = std::fs::read_to_string(&out).unwrap();
            // The last line may not be whole yet.
            let next = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(|line| {
                let after = ["next: ", "next, in another terminal: "].iter().find_map(|start| line.strip_prefix(start));
                after.map(|command| command.trim_end().to_owned())
            });
            match (next, ended) {
                (Some(next), _) => {
                    self.told.push((line.to_owned(), text));
                    return Ok(next);
                }
                (None, Some(status)) => {
                    self.told.push((line.to_owned(), text));
                    return Err(status);
                }
                (None, None) => assert!(Instant::now() < deadline, "{line} neither ended nor named the next command: {text}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The newest first: a miner wants to tell its store that it ends.
        for child in self.running.iter_mut().rev() {
            if child.try_wait().ok().flatten().is_none() {
                let _ = Command::new("kill").args(["-TERM", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
                let _ = child.wait();
            }
        }
    }
}

#[test]
fn five_commands_lead_from_nothing_to_a_scored_miner() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--miners", "1"]);
    let mut line: String = net.wait("the first command", |net| net.told("to join by hand, in a folder of its own: "));
    net.wait("a first window", |_| lab.windows("validator-0").keys().next().copied());

    let mut shell = Shell::new(lab.path("newcomer"));
    let status = loop {
        match shell.run(&line) {
            Ok(next) => line = next,
            Err(status) => break status,
        }
        assert!(shell.told.len() < COMMANDS_MAX, "more commands than {COMMANDS_MAX}: {:#?}", shell.told);
    };
    let (last, text) = shell.told.last().unwrap();
    // A window before it was there may be warned of.
    assert!([Some(0), Some(2)].contains(&status.code()) && last.contains("doctor --only score"), "{:#?}", shell.told);
    for check in ["score.weighted", "score.incentive"] {
        assert!(text.lines().any(|line| line.starts_with("pass") && line.contains(check)), "{text}");
    }
    assert!(!text.contains("FAIL") && text.contains("score.accepted"), "{text}");
    let words: Vec<&str> = shell.told.iter().map(|(line, _)| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(words, ["setup", "store", "chain", "miner", "doctor"], "{:#?}", shell.told);
    drop(shell);
    net.interrupt();
}
