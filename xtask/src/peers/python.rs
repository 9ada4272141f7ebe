//! Python environments of peers, and their scripts.

use serde_json::Value;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A Python with a peer's packages.
pub struct Python {
    program: PathBuf,
    script: PathBuf,
}

impl Python {
    /// The environment `name` with exactly `packages`, made by `uv` or else `pip` unless it is there, to run `script` of this folder.
    ///
    /// # Errors
    /// There is neither, or the packages do not install.
    pub fn with(name: &str, packages: &[&str], script: &str) -> Result<Self, String> {
        let dir = super::root().join("target").join("peers").join(name);
        let program = dir.join("bin").join("python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join("peers").join(script);
        let mark = dir.join("packages");
        let wanted = packages.join("\n");
        if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
            return Ok(Self { program, script });
        }
        println!("installing {} into {}", packages.join(", "), dir.display());
        let dir = dir.to_string_lossy().into_owned();
        let python = program.to_string_lossy().into_owned();
        let uv =
            Command::new("uv").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if uv {
            call("uv", &["venv", "--quiet", "--clear", &dir])?;
            call("uv", &[&["pip", "install", "--quiet", "--python", &python], packages].concat())?;
        } else {
            call("python3", &["-m", "venv", "--clear", &dir])?;
            call(&python, &[&["-m", "pip", "install", "--quiet", "--disable-pip-version-check"], packages].concat())?;
        }
        std::fs::write(&mark, wanted).map_err(|error| format!("{}: {error}", mark.display()))?;
        Ok(Self { program, script })
    }

    /// Runs the script with `words` and `input` on its standard input.
    ///
    /// # Errors
    /// It fails, or prints no JSON.
    pub fn run(&self, words: &[&str], input: &str) -> Result<Value, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{} {}: {why}", self.script.display(), words.join(" "));
        let output = output_of(Command::new(&self.program).arg(&self.script).args(words), input).map_err(|error| failed(&error))?;
        let line = output.lines().find_map(|line| line.strip_prefix("JSON ")).ok_or_else(|| failed(&"it printed no JSON"))?;
        serde_json::from_str(line).map_err(|error| failed(&error))
    }
}

fn call(program: &str, words: &[&str]) -> Result<(), String> {
    match Command::new(program).args(words).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{program} {}` failed ({status})", words.join(" "))),
        Err(error) => Err(format!("`{program}` could not be started: {error}; install uv, or Python with pip")),
    }
}

/// Standard output of a command that succeeds, given `input`.
///
/// # Errors
/// It cannot be started or fails; with what it wrote to standard error.
pub fn output_of(command: &mut Command, input: &str) -> Result<String, String> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("it could not be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever does not read it needs none.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("it ended unseen: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| "it printed no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_reaches_a_command_and_failures_carry_its_words() {
        assert_eq!(output_of(&mut Command::new("cat"), "hello").expect("cat repeats"), "hello");
        let failed = output_of(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), "").expect_err("exit 3");
        assert!(failed.contains("why") && failed.contains('3'), "{failed}");
        assert!(output_of(&mut Command::new("no-such-program-anywhere"), "").is_err());
    }
}
