//! The machine's own installers of wheels: found in the given `PATH`, tried in a fixed order.

use crate::{EngineError, Environment, Result};
use std::{
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One way to install wheels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// What is run, before the words that say what to install.
    words: Vec<OsString>,
    /// Whether it is uv, whose flags differ.
    uv: bool,
}

impl Tool {
    /// `uv pip`, `python3 -m pip`, `pip`: those that are in `PATH` and answer, the preferred one first.
    ///
    /// # Errors
    /// [`EngineError::NoTool`] names each with what is wrong with it.
    pub(crate) fn all(environment: &Environment) -> Result<Vec<Self>> {
        let candidates: [(&[&str], bool); 3] = [(&["uv", "pip"], true), (&["python3", "-m", "pip"], false), (&["pip"], false)];
        let (mut tools, mut tried) = (Vec::new(), Vec::new());
        for (words, uv) in candidates {
            match Self::probe(words, uv, environment) {
                Ok(tool) => tools.push(tool),
                Err(why) => tried.push(format!("`{}`: {why}", words.join(" "))),
            }
        }
        if tools.is_empty() { Err(EngineError::NoTool { tried: tried.join("; ") }) } else { Ok(tools) }
    }

    fn probe(words: &[&str], uv: bool, environment: &Environment) -> std::result::Result<Self, String> {
        let program = find(words[0], environment).ok_or_else(|| format!("there is no {} in PATH", words[0]))?;
        let rest = words[1..].iter().map(OsString::from);
        let tool = Self { words: std::iter::once(program.into_os_string()).chain(rest).collect(), uv };
        // `uv pip` has no version of its own, so it is asked for help.
        let question = if uv { "--help" } else { "--version" };
        let answer = tool.command(environment, [question]).stdin(Stdio::null()).output();
        match answer {
            Ok(output) if output.status.success() => Ok(tool),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(text.lines().last().unwrap_or("it does not run").trim().chars().take(200).collect())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The words that install exactly `requirements` into `target`.
    pub(crate) fn install_words(&self, target: &Path, requirements: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["install".into(), "--target".into(), target.into(), "--no-deps".into()];
        // Wheels only: a source distribution would run a build script.
        words.extend(if self.uv { ["--only-binary", ":all:"].map(OsString::from).to_vec() } else { vec!["--only-binary=:all:".into()] });
        words.extend(["--require-hashes".into(), "-r".into(), requirements.into()]);
        if !self.uv {
            words.extend(["--no-compile".into(), "--disable-pip-version-check".into(), "--no-input".into()]);
        }
        words
    }

    /// The tool with further words, to be run with the given `PATH`.
    pub(crate) fn command(&self, environment: &Environment, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(words);
        command.env("PATH", environment.variable("PATH").unwrap_or_default());
        command
    }

    /// As a person would type it.
    pub fn shown(&self) -> String {
        let name = Path::new(&self.words[0]).file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::iter::once(name).chain(self.words[1..].iter().map(|word| word.to_string_lossy().into_owned())).collect::<Vec<_>>().join(" ")
    }
}

/// The first executable file of this name in `PATH`.
fn find(name: &str, environment: &Environment) -> Option<PathBuf> {
    let executable = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    std::env::split_paths(environment.variable("PATH")?).map(|folder| folder.join(name)).find(executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(scripts: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
        let folder = tempfile::tempdir().unwrap();
        for (name, body) in scripts {
            crate::install::tests::script(folder.path(), name, body);
        }
        let environment = Environment::empty().with("PATH", folder.path());
        (folder, environment)
    }

    #[test]
    fn uv_comes_before_python_and_both_before_pip() {
        let (_folder, environment) = machine(&[("pip", "exit 0"), ("uv", "exit 0"), ("python3", "exit 0")]);
        let shown: Vec<String> = Tool::all(&environment).unwrap().iter().map(Tool::shown).collect();
        assert_eq!(shown, ["uv pip", "python3 -m pip", "pip"]);
    }

    #[test]
    fn a_tool_that_does_not_answer_is_left_out() {
        let (_folder, environment) = machine(&[("python3", "echo No module named pip >&2; exit 1"), ("pip", "exit 0")]);
        let shown: Vec<String> = Tool::all(&environment).unwrap().iter().map(Tool::shown).collect();
        assert_eq!(shown, ["pip"]);
    }

    #[test]
    fn without_any_the_message_says_what_would_work() {
        let (_folder, environment) = machine(&[("python3", "echo No module named pip >&2; exit 1")]);
        let error = Tool::all(&environment).unwrap_err().to_string();
        for part in ["no uv in PATH", "`python3 -m pip`: No module named pip", "no pip in PATH", "TEMPLAR_PJRT_PLUGIN"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
}
