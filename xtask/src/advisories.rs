//! Known weaknesses of the crates in Cargo.lock, by cargo-audit and the advisories of RustSec.
//!
//! It is no step of `cargo xtask test`: it asks the network for advisories, and its answer may change without a change here.

use crate::steps::{self, Failure};
use std::path::Path;
use std::process::{Command, Output};

/// The auditor's version. Another installed version is used as it is.
const AUDIT_VERSION: &str = "0.22.2";
/// Advisories that do not concern this project, each with the reason.
const IGNORED: [(&str, &str); 0] = [];
/// What the auditor says when it has no advisories to compare with.
const NO_DATABASE: [&str; 2] = ["couldn't fetch advisory database", "error loading advisory database"];

/// Installs cargo-audit unless it is there, and compares Cargo.lock with the advisories: those of the network, or those in the directory `db`.
///
/// # Errors
/// A crate has a known weakness, is unsound or was withdrawn; or there is nothing to compare with.
pub fn check(db: Option<&Path>) -> Result<(), Failure> {
    steps::ensure(&["audit"], &["install", "cargo-audit", "--locked", "--version", AUDIT_VERSION])?;
    for (id, why) in IGNORED {
        println!("{id} is left out: {why}");
    }
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("Cargo.lock");
    let arguments = arguments(&lock, db, &IGNORED);
    println!("$ cargo {}", arguments.join(" "));
    let output = Command::new("cargo").args(&arguments).output();
    let output = output.map_err(|error| Failure { message: format!("cargo audit could not be started: {error}"), code: 1 })?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    judge(&output)
}

/// The words after `cargo`.
fn arguments(lock: &Path, db: Option<&Path>, ignored: &[(&str, &str)]) -> Vec<String> {
    let mut words: Vec<String> = ["audit", "--deny", "unsound", "--deny", "yanked", "--file"].map(str::to_owned).into();
    words.push(lock.display().to_string());
    if let Some(db) = db {
        words.extend(["--no-fetch".to_owned(), "--db".to_owned(), db.display().to_string()]);
    }
    words.extend(ignored.iter().flat_map(|(id, _)| ["--ignore".to_owned(), (*id).to_owned()]));
    words
}

/// What the auditor's end means. Without a database nothing was examined, which is neither a pass nor a finding.
fn judge(output: &Output) -> Result<(), Failure> {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
    if let Some(line) = said.lines().find(|line| NO_DATABASE.iter().any(|words| line.contains(words))) {
        let message = format!(
            "nothing was examined, because the advisory database could not be had ({}). Run it where the network reaches it, \
             or name a clone of it with --db",
            line.trim_start_matches("error: ")
        );
        return Err(Failure { message, code });
    }
    if output.status.success() {
        return Ok(());
    }
    let message = "cargo audit found what is told above: update the crate; where an advisory does not concern this project, name it with the reason \
                   in xtask/src/advisories.rs";
    Err(Failure { message: message.to_owned(), code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    fn ended(code: i32, stderr: &str) -> Result<(), Failure> {
        judge(&Output { status: ExitStatus::from_raw(code << 8), stdout: vec![], stderr: stderr.into() })
    }

    #[test]
    fn the_auditor_is_asked_for_what_matters() {
        let lock = Path::new("Cargo.lock");
        let words = arguments(lock, None, &[("RUSTSEC-2020-0001", "not built")]);
        assert_eq!(words.join(" "), "audit --deny unsound --deny yanked --file Cargo.lock --ignore RUSTSEC-2020-0001");
        let words = arguments(lock, Some(Path::new("advisories")), &[]);
        assert_eq!(words.join(" "), "audit --deny unsound --deny yanked --file Cargo.lock --no-fetch --db advisories");
    }

    #[test]
    fn without_a_database_nothing_passes_and_that_is_said() {
        for code in [0, 1, 2] {
            let failed = ended(code, "    Fetching advisory database\nerror: couldn't fetch advisory database: git operation failed\n");
            let failed = failed.expect_err("nothing was examined");
            assert!(failed.message.starts_with("nothing was examined, because") && failed.message.contains("git operation failed"));
            assert!(failed.message.contains("--db") && failed.code != 0);
        }
    }

    #[test]
    fn findings_fail_with_the_auditors_code_and_their_absence_passes() {
        assert!(ended(0, "").is_ok());
        let failed = ended(1, "error: 1 vulnerability found!\n").expect_err("a finding");
        assert!(failed.code == 1 && failed.message.contains("update the crate"), "{}", failed.message);
    }

    #[test]
    fn what_is_left_out_has_a_reason() {
        assert!(IGNORED.iter().all(|(id, why)| id.starts_with("RUSTSEC-") && why.len() > 20));
    }
}
