//! The systemd units of a node and of the parts of a network of one's own.
//!
//! What always holds: a unit has no secret in it (they come from an environment file that only the service's user reads); it is restarted
//! after every failure but the exit codes in [`NO_RESTART`]; where it is a service of the system it may write its own directory and nothing
//! else; it is ended, and started again, when it tells of no window for the time of the watchdog.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Exit codes after which a restart would not help.
pub const NO_RESTART: [(u8, &str); 4] = [
    (2, "wrong usage"),
    (64, "settings that cannot be used"),
    (77, "the hotkey is not registered on the subnet"),
    (78, "no engine works on this machine"),
];

/// What a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A miner.
    Miner,
    /// A validator.
    Validator,
    /// A development chain.
    Chain,
    /// The S3 server.
    Store,
}

impl Part {
    /// Its name, also that of its command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Validator => "validator",
            Self::Chain => "chain",
            Self::Store => "store",
        }
    }

    /// Whether it takes part in a run.
    pub fn is_node(self) -> bool {
        matches!(self, Self::Miner | Self::Validator)
    }
}

/// A service to be written.
#[derive(Clone, Debug)]
pub struct Unit {
    /// What it runs.
    pub part: Part,
    /// The binary; an absolute path.
    pub binary: PathBuf,
    /// Flags after the command.
    pub flags: Vec<String>,
    /// The directory that it may write; an absolute path.
    pub dir: PathBuf,
    /// The file with settings, if there is one; an absolute path.
    pub config: Option<PathBuf>,
    /// The file with secrets, if there is one; an absolute path.
    pub env_file: Option<PathBuf>,
    /// Where engines and the programs compiled for them are kept, if they are needed; stays writable.
    pub engines: Option<PathBuf>,
    /// The user, for a service of the system.
    pub user: Option<String>,
    /// Longest time without a finished window, s; 0 for none.
    pub watchdog_s: u64,
}

/// A path or flag that a unit cannot carry.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0:?} cannot be written into a unit: it has a line's end or another control character")]
pub struct Unwritable(String);

impl Unit {
    /// The unit's file name.
    pub fn file_name(&self) -> String {
        format!("templar-{}.service", self.part.name())
    }

    /// The unit's text.
    ///
    /// # Errors
    /// A path or flag cannot be written into one.
    pub fn text(&self) -> Result<String, Unwritable> {
        let node = self.part.is_node();
        let mut out = String::from("[Unit]\n");
        let mut line = |text: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{text}");
        };
        line(&format!("Description=Templar {}", self.part.name()));
        line("Wants=network-online.target time-sync.target");
        line("After=network-online.target time-sync.target nvidia-persistenced.service");
        // Without a limit: the delay between restarts grows instead.
        line("StartLimitIntervalSec=0\n\n[Service]");
        line(if node { "Type=notify\nNotifyAccess=main" } else { "Type=exec" });
        line(&format!("ExecStart={}", self.command()?));
        line(&format!("WorkingDirectory={}", specifier_free(&path_text(&self.dir)?)));
        match &self.config {
            Some(path) => line(&format!("Environment={}", quoted(&format!("TEMPLAR_CONFIG={}", path_text(path)?))?)),
            None => line("Environment=TEMPLAR_CONFIG="),
        }
        if let Some(path) = &self.env_file {
            line(&format!("EnvironmentFile={}", specifier_free(&path_text(path)?)));
        }
        if let Some(path) = &self.engines {
            line(&format!("Environment={}", quoted(&format!("TEMPLAR_ENGINE_DIR={}", path_text(path)?))?));
        }
        if let Some(user) = &self.user {
            line(&format!("User={}", quoted(user)?));
        }
        line("Restart=on-failure\nRestartSec=10\nRestartSteps=6\nRestartMaxDelaySec=300");
        let codes: Vec<String> = NO_RESTART.iter().map(|(code, _)| code.to_string()).collect();
        line(&format!("RestartPreventExitStatus={}", codes.join(" ")));
        // Who is asked to end by SIGINT or SIGTERM does so with these, which are ordinary ends.
        line("SuccessExitStatus=130 143\nKillSignal=SIGTERM\nTimeoutStopSec=120");
        if node {
            // Catching up may take hours before the first window.
            line("TimeoutStartSec=infinity");
            if self.watchdog_s > 0 {
                line(&format!("WatchdogSec={}", self.watchdog_s));
            }
        }
        line("LimitNOFILE=1048576\nLimitMEMLOCK=infinity\nLimitCORE=0\nUMask=0077");
        line("StandardOutput=journal\nStandardError=journal\nLogRateLimitIntervalSec=30\nLogRateLimitBurst=1000");
        line("NoNewPrivileges=true\nRestrictSUIDSGID=true\nRestrictRealtime=true\nLockPersonality=true\nSystemCallArchitectures=native");
        line("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX");
        // The rest needs rights that the service manager of a user does not have; such a service is as protected as its user.
        if self.user.is_some() {
            line("OOMScoreAdjust=-500\nCapabilityBoundingSet=\nProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=true");
            line(
                "ProtectKernelTunables=true\nProtectKernelModules=true\nProtectKernelLogs=true\nProtectControlGroups=true\nProtectClock=true",
            );
            line("ProtectHostname=true\nRestrictNamespaces=true");
            line(&format!("ReadWritePaths={}", quoted(&path_text(&self.dir)?)?));
            if let Some(path) = &self.engines {
                // It may not be there.
                line(&format!("ReadWritePaths={}", quoted(&format!("-{}", path_text(path)?))?));
            }
        }
        line("\n[Install]");
        line(if self.user.is_some() { "WantedBy=multi-user.target" } else { "WantedBy=default.target" });
        Ok(out)
    }

    fn command(&self) -> Result<String, Unwritable> {
        let mut words = vec![quoted(&path_text(&self.binary)?)?, self.part.name().to_owned()];
        if !self.part.is_node() {
            words.push("serve".into());
        }
        for flag in ["--dir".to_owned(), path_text(&self.dir)?].iter().chain(&self.flags) {
            words.push(quoted(flag)?);
        }
        Ok(words.join(" "))
    }
}

/// What `systemd-analyze verify` has to say against the unit `file_name`. That an older systemd leaves out a setting which it does not know
/// is no fault: its delay between restarts then does not grow.
pub fn faults<'a>(said: &'a str, file_name: &str) -> Vec<&'a str> {
    let ignored = |line: &&str| line.contains("Unknown") && line.contains("ignoring");
    said.lines().filter(|line| line.contains(file_name)).filter(|line| !ignored(line)).collect()
}

fn path_text(path: &Path) -> Result<String, Unwritable> {
    let text = path.to_string_lossy().into_owned();
    if text.chars().any(char::is_control) { Err(Unwritable(text)) } else { Ok(text) }
}

/// `%` begins a specifier of systemd.
fn specifier_free(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word as systemd reads it back: quoted where it must be, without specifiers or variables.
fn quoted(word: &str) -> Result<String, Unwritable> {
    if word.chars().any(char::is_control) {
        return Err(Unwritable(word.to_owned()));
    }
    let text = specifier_free(word).replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=%@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text);
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(part: Part) -> Unit {
        Unit {
            part,
            binary: "/usr/local/bin/templar".into(),
            flags: vec![],
            dir: "/var/lib/templar/x".into(),
            config: Some("/etc/templar/templar.toml".into()),
            env_file: Some("/etc/templar/.env".into()),
            engines: Some("/var/lib/templar/.cache/templar/engines".into()),
            user: Some("templar".into()),
            watchdog_s: 4140,
        }
    }

    #[test]
    fn a_miners_unit() {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("service_miner", unit(Part::Miner).text().unwrap()));
    }

    #[test]
    fn servers_are_not_watched_and_have_a_command_of_two_words() {
        let text = unit(Part::Store).text().unwrap();
        assert!(text.contains("Type=exec") && !text.contains("WatchdogSec") && text.contains("templar store serve --dir"), "{text}");
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        assert_eq!(quoted("a b").unwrap(), "\"a b\"");
        assert_eq!(quoted("50%").unwrap(), "50%%");
        assert_eq!(quoted("$HOME \"x\"").unwrap(), "\"$$HOME \\\"x\\\"\"");
        assert!(quoted("a\nExecStartPre=/bin/sh").is_err(), "no second line can be smuggled in");
        assert!(Unit { dir: "/a\nb".into(), ..unit(Part::Miner) }.text().is_err());
    }

    #[test]
    fn a_fault_is_told_from_a_setting_that_is_too_new() {
        let said = "/u/templar-miner.service:16: Unknown key 'RestartSteps' in section [Service], ignoring.\n\
                    templar-miner.service: Command /x is not executable: No such file or directory\n";
        assert_eq!(faults(said, "templar-miner.service").len(), 1);
    }

    #[test]
    fn systemd_finds_no_fault_where_it_is_installed() {
        if std::process::Command::new("systemd-analyze").arg("--version").output().is_err() {
            eprintln!("not judged by systemd-analyze: it is not installed here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for part in [Part::Miner, Part::Validator, Part::Chain, Part::Store] {
            let binary = std::env::current_exe().unwrap();
            let unit = Unit { binary, dir: dir.path().to_owned(), user: Some("root".into()), config: None, env_file: None, ..unit(part) };
            let path = dir.path().join(unit.file_name());
            std::fs::write(&path, unit.text().unwrap()).unwrap();
            let judged = std::process::Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&judged.stderr).into_owned();
            assert_eq!(faults(&said, &unit.file_name()), [""; 0], "{said}");
        }
    }
}
