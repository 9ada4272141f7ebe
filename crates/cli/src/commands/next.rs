//! The next command: what a command of the way to a scored miner prints when it has done its part, as it can be copied into a shell.
//!
//! What always holds: a line begins with `next: `, or with `next, in another terminal: ` where the present command goes on; behind it stands one command, whole.

use crate::config;
use std::path::{Path, PathBuf};
use templar_ops::settings::CONFIG_FILE;

/// The longest that the last command of the way waits for scores, s.
const SCORES_S: u32 = 300;

/// A command with the variable before it that names the settings `config`, where the working directory does not.
pub fn under(config: &Path, words: &str) -> String {
    let file = |path: &Path| path.canonicalize().ok();
    let found = file(Path::new(CONFIG_FILE)).is_some_and(|there| file(config) == Some(there));
    let otherwise = std::env::var_os(config::ENV_CONFIG).is_some_and(|named| file(Path::new(&named)) != file(config));
    if found && !otherwise {
        return words.to_owned();
    }
    format!("{}={} {words}", config::ENV_CONFIG, quoted(&config.display().to_string()))
}

/// A command under the settings that are in force.
pub fn here(words: &str) -> String {
    under(&config::config_path().unwrap_or_else(|| PathBuf::from(CONFIG_FILE)), words)
}

/// A word as a shell takes it for one.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// After the settings in the folder `to` are complete: the doctor.
pub fn preflight(to: &Path) -> String {
    format!("next: {}", under(&to.join(CONFIG_FILE), "templar doctor --preflight"))
}

/// While something is missing in the settings in the folder `to`: what comes afterwards. It begins otherwise than a command that can be run now.
pub fn when_complete(to: &Path) -> String {
    format!("when nothing is missing, {}", preflight(to))
}

/// After the doctor has nothing against it: the node itself, in `role`; with `private`, one that reads peers at private addresses.
pub fn start(role: &str, private: bool) -> String {
    format!("next: {}", here(&format!("templar {role}{}", flag(private))))
}

/// After a miner has started: whether it is scored.
pub fn scores(private: bool) -> String {
    format!("next, in another terminal: {}", here(&format!("templar doctor --only score --wait {SCORES_S}{}", flag(private))))
}

fn flag(private: bool) -> &'static str {
    if private { " --private-peers" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("http://127.0.0.1:9944"), "http://127.0.0.1:9944");
        assert_eq!(quoted("/my files/it's"), r"'/my files/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn peers_at_private_addresses_are_read_by_all_that_follows() {
        assert!(start("miner", true).ends_with("templar miner --private-peers") && scores(true).ends_with(" --private-peers"));
        assert!(!start("miner", false).contains("private") && !scores(false).contains("private"));
    }

    #[test]
    fn settings_elsewhere_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let said = preflight(dir.path());
        assert!(said.starts_with("next: TEMPLAR_CONFIG=") && said.ends_with("/templar.toml templar doctor --preflight"), "{said}");
        let later = when_complete(dir.path());
        assert!(
            !later.starts_with("next") && later.ends_with(&said),
            "who follows the lines that begin with `next` does not follow this one: {later}"
        );
    }
}
