//! Work on a rented machine through the system's own `ssh` and `scp`.
//!
//! What always holds: nothing is ever asked for on a terminal; an address from a provider cannot become an option of `ssh`; secrets travel through standard input; a
//! command has a deadline, and its output a bound.

use crate::provider::ProviderError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The most that is kept of what a remote command prints, bytes; the rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// The exit code of `ssh` when the connection itself failed.
const SSH_FAILED: i32 = 255;

/// Where to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The user.
    pub user: String,
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no address to log in at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: give user@host:port, or ssh user@host -p port")]
pub struct NoAddress(String);

impl FromStr for Address {
    type Err = NoAddress;

    /// Reads `user@host`, `user@host:port`, `ssh user@host -p port`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let wrong = || NoAddress(text.chars().take(200).collect());
        let words: Vec<&str> = text.split_whitespace().collect();
        let (place, port) = match words.as_slice() {
            ["ssh", place, "-p", port] | ["ssh", "-p", port, place] => (*place, Some(*port)),
            ["ssh", place] | [place] => (*place, None),
            _ => return Err(wrong()),
        };
        let (user, rest) = place.split_once('@').ok_or_else(wrong)?;
        let (host, inline) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                (host, after.strip_prefix(':'))
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.or(inline).unwrap_or("22").parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let plain = |text: &str, more: &str| {
            !text.is_empty()
                && text.len() <= 255
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let valid = plain(user, "._-") && plain(host, ".-:_");
        valid.then(|| Self { user: user.to_owned(), host: host.to_owned(), port }).ok_or_else(wrong)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{}@{host}:{}", self.user, self.port)
    }
}

/// Why something could not be done on a machine.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The program is not there.
    #[error("{program} cannot be started: {source}; install an OpenSSH client")]
    Start {
        /// Which.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// No connection.
    #[error("no connection to {address}: {why}")]
    Connection {
        /// Where.
        address: String,
        /// What ssh said.
        why: String,
    },
    /// It took too long.
    #[error("{what} on {address} took longer than {seconds} s and was given up")]
    Late {
        /// What.
        what: String,
        /// Where.
        address: String,
        /// The deadline, s.
        seconds: u64,
    },
    /// The command failed.
    #[error("{what} on {address} failed with exit code {code}: {why}")]
    Failed {
        /// What.
        what: String,
        /// Where.
        address: String,
        /// The exit code.
        code: i32,
        /// The last of what it said.
        why: String,
    },
    /// A local file cannot be used.
    #[error("{path}: {source}")]
    Local {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SshError {
    /// The same as a provider's error, where it is not known what was done.
    pub fn unclear(self, provider: &'static str) -> ProviderError {
        ProviderError::Unclear { provider, why: self.to_string() }
    }
}

/// What a remote command has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// What it printed, as far as it was kept.
    pub stdout: String,
    /// What it complained about, as far as it was kept.
    pub stderr: String,
}

/// A way to one machine.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// Where it is.
    pub address: Address,
    /// The private key to log in with.
    pub key: PathBuf,
    /// The file of hosts' keys; a host that is new is taken at its word once, and never again.
    pub known_hosts: PathBuf,
}

impl Ssh {
    fn options(&self, port_flag: &str) -> Vec<String> {
        let option = |text: String| ["-o".to_owned(), text];
        let mut words: Vec<String> = [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "ConnectTimeout=15".to_owned(),
            "ServerAliveInterval=15".to_owned(),
            "LogLevel=ERROR".to_owned(),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
        ]
        .into_iter()
        .flat_map(option)
        .collect();
        words.extend(["-i".to_owned(), self.key.display().to_string(), port_flag.to_owned(), self.address.port.to_string()]);
        words
    }

    /// Runs `script` by the remote shell, with `input` as its standard input.
    ///
    /// # Errors
    /// No connection, or no end within `deadline`. An exit code other than 0 is no error here.
    pub async fn run(&self, what: &str, script: &str, input: &[u8], deadline: Duration) -> Result<Answer, SshError> {
        let mut command = Command::new("ssh");
        // -F none: the operator's own configuration must not redirect what is pushed.
        command.args(["-F", "none", "-T"]).args(self.options("-p"));
        command.args(["-l", &self.address.user, "--", &self.address.host, script]);
        let answer = self.finish("ssh", command, what, input, deadline).await?;
        if answer.code == SSH_FAILED {
            return Err(SshError::Connection { address: self.address.to_string(), why: last_line(&answer.stderr) });
        }
        Ok(answer)
    }

    /// The same, where only exit code 0 will do; gives what was printed.
    ///
    /// # Errors
    /// As [`Ssh::run`], or another exit code.
    pub async fn must(&self, what: &str, script: &str, input: &[u8], deadline: Duration) -> Result<String, SshError> {
        let answer = self.run(what, script, input, deadline).await?;
        if answer.code == 0 {
            return Ok(answer.stdout);
        }
        let why = last_line(if answer.stderr.trim().is_empty() { &answer.stdout } else { &answer.stderr });
        Err(SshError::Failed { what: what.to_owned(), address: self.address.to_string(), code: answer.code, why })
    }

    /// Runs `script`, and puts what it prints into the new file `to`, which appears whole or not at all.
    ///
    /// # Errors
    /// As [`Ssh::must`]; the file cannot be written, or the output has more than `bytes_max` bytes.
    pub async fn fetch(&self, what: &str, script: &str, to: &Path, bytes_max: u64, deadline: Duration) -> Result<u64, SshError> {
        let local = |source| SshError::Local { path: to.to_owned(), source };
        let part = to.with_extension("part");
        let mut file = tokio::fs::File::create(&part).await.map_err(local)?;
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-T"]).args(self.options("-p")).args(["-l", &self.address.user, "--", &self.address.host, script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| SshError::Start { program: "ssh", source })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let store = async {
            let (mut written, mut buffer) = (0_u64, vec![0; 256 << 10]);
            if let Some(mut stdout) = stdout {
                loop {
                    let read = stdout.read(&mut buffer).await?;
                    written += read as u64;
                    if read == 0 {
                        break;
                    }
                    if written > bytes_max {
                        return Err(std::io::Error::other(format!("it has more than {bytes_max} bytes")));
                    }
                    file.write_all(&buffer[..read]).await?;
                }
            }
            file.sync_all().await?;
            Ok(written)
        };
        // A file that cannot be written must not leave the remote end waiting for a reader.
        let all = async { futures::try_join!(store, async { Ok((bounded(stderr).await, child.wait().await?)) }) };
        let done = tokio::time::timeout(deadline, all).await;
        let failed = |error| {
            // What is there is of no use.
            let _ = std::fs::remove_file(&part);
            error
        };
        let (written, (stderr, status)) = match done {
            Ok(done) => done.map_err(local).map_err(failed)?,
            Err(_) => {
                return Err(failed(SshError::Late {
                    what: what.to_owned(),
                    address: self.address.to_string(),
                    seconds: deadline.as_secs(),
                }));
            }
        };
        if !status.success() {
            let (address, code) = (self.address.to_string(), status.code().unwrap_or(-1));
            return Err(failed(SshError::Failed { what: what.to_owned(), address, code, why: last_line(&stderr) }));
        }
        std::fs::rename(&part, to).map_err(local)?;
        Ok(written)
    }

    /// Copies a file or folder to (`up`) or from the machine by `scp`.
    ///
    /// # Errors
    /// As [`Ssh::must`].
    pub async fn copy(&self, local: &Path, remote: &str, up: bool, deadline: Duration) -> Result<(), SshError> {
        let mut command = Command::new("scp");
        command.args(["-F", "none", "-r", "-p", "-q"]).args(self.options("-P"));
        let host = if self.address.host.contains(':') { format!("[{}]", self.address.host) } else { self.address.host.clone() };
        let there = format!("{}@{host}:{remote}", self.address.user);
        // A path with a colon would be a host to scp.
        let here = std::path::absolute(local).map_err(|source| SshError::Local { path: local.to_owned(), source })?.display().to_string();
        command.arg("--").args(if up { [here, there] } else { [there, here] });
        let what = format!("copying {remote}");
        let answer = self.finish("scp", command, &what, &[], deadline).await?;
        if answer.code == 0 {
            return Ok(());
        }
        Err(SshError::Failed { what, address: self.address.to_string(), code: answer.code, why: last_line(&answer.stderr) })
    }

    async fn finish(
        &self,
        program: &'static str,
        mut command: Command,
        what: &str,
        input: &[u8],
        deadline: Duration,
    ) -> Result<Answer, SshError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| SshError::Start { program, source })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A remote end that reads no more tells why by its exit code.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let all = async { futures::join!(feed, bounded(stdout), bounded(stderr), child.wait()) };
        let late = |_| SshError::Late { what: what.to_owned(), address: self.address.to_string(), seconds: deadline.as_secs() };
        let ((), stdout, stderr, status) = tokio::time::timeout(deadline, all).await.map_err(late)?;
        let status = status.map_err(|source| SshError::Start { program, source })?;
        Ok(Answer { code: status.code().unwrap_or(-1), stdout, stderr })
    }
}

/// Reads to the end, and keeps the first [`OUTPUT_BYTES_MAX`] bytes.
async fn bounded(pipe: Option<impl AsyncReadExt + Unpin>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    if let Some(mut pipe) = pipe {
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last line with something in it, without what a terminal would obey.
fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    line.trim().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// `text` as one word of a POSIX shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_all_forms_that_providers_give() {
        let want = Address { user: "root".into(), host: "192.0.2.7".into(), port: 2222 };
        for text in ["root@192.0.2.7:2222", "ssh root@192.0.2.7 -p 2222", "ssh -p 2222 root@192.0.2.7"] {
            assert_eq!(text.parse(), Ok(want.clone()), "{text}");
        }
        assert_eq!("u@h".parse::<Address>().unwrap().port, 22);
        assert_eq!("u@[2001:db8::1]:23".parse::<Address>().unwrap().to_string(), "u@[2001:db8::1]:23");
    }

    #[test]
    fn an_address_cannot_carry_an_option_or_a_command() {
        for text in [
            "-oProxyCommand=x@h:22",
            "root@-oProxyCommand=touch",
            "root@h;touch x:22",
            "root@h -oProxyCommand=x",
            "ssh root@h -p 22 -oX=y",
            "ssh root@h -p 0",
            "root@:22",
            "@h",
            "root@$(id)",
            "",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("a'b c"), "'a'\\''b c'");
        let shown = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted("$(id) 'x' \\ \n"))]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "$(id) 'x' \\ \n");
    }

    #[test]
    fn what_is_told_has_no_escapes() {
        assert_eq!(last_line("one\n\u{1b}[31mtwo\u{7}\n\n"), "[31mtwo");
    }
}
