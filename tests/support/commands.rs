//! Commands in the documentation, checked against the programs that they name.
//!
//! Only fenced blocks marked `sh` are commands; other blocks are output, formats or pseudo code. A command is checked by
//! asking its program for help: every subcommand must be listed there and every flag must occur.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// A command line with the place where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documented {
    /// File and line, for messages.
    pub place: String,
    /// Words after the program's name.
    pub words: Vec<String>,
}

/// README, the other documents beside it and everything in docs/ and docs/operators/, sorted.
pub fn documents(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in [root.to_owned(), root.join("docs"), root.join("docs/operators")] {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    files.sort();
    files
}

/// All command lines in the `sh` blocks of `text`: continuation lines joined, comments and prompts removed, split at
/// `&&`, `||`, `|`, `;` and `&`, assignments in front left out.
pub fn command_lines(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut commands = Vec::new();
    let (mut fence, mut shell, mut pending) = (None::<String>, false, None::<(usize, String)>);
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
        match &fence {
            None if ticks >= 3 => {
                shell = matches!(trimmed[ticks..].trim(), "sh" | "bash" | "console");
                fence = Some("`".repeat(ticks));
            }
            Some(open) if trimmed == *open => (fence, shell) = (None, false),
            Some(_) if shell => {
                let (start, mut joined) = pending.take().unwrap_or((index + 1, String::new()));
                let line = trimmed.strip_prefix("$ ").unwrap_or(trimmed);
                match line.strip_suffix('\\') {
                    Some(part) => {
                        joined.push_str(part);
                        pending = Some((start, joined));
                    }
                    None => {
                        joined.push_str(line);
                        commands.extend(split(&joined).into_iter().map(|words| (start, words)));
                    }
                }
            }
            _ => {}
        }
    }
    commands
}

/// Splits one line into commands and words; quotes group, `#` at a word's start begins a comment.
fn split(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words) = (Vec::new(), Vec::new());
    let (mut word, mut quote, mut open) = (String::new(), None::<char>, false);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => (quote, open) = (Some(c), true),
            (None, '#') if !open => break,
            (None, ' ' | '\t' | '|' | '&' | ';') => {
                if std::mem::take(&mut open) {
                    words.push(std::mem::take(&mut word));
                }
                if "|&;".contains(c) && !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
            }
            (None, _) => {
                word.push(c);
                open = true;
            }
        }
    }
    commands.push(words);
    for words in &mut commands {
        let assignments = words.iter().take_while(|word| word.split_once('=').is_some_and(|(name, _)| is_name(name))).count();
        words.drain(..assignments);
    }
    commands.retain(|words| !words.is_empty());
    commands
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The commands of `documents` for which `select` returns the words after the program's name.
pub fn documented(root: &Path, select: impl Fn(&[String]) -> Option<Vec<String>>) -> Vec<Documented> {
    let mut found = Vec::new();
    for path in documents(root) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        for (line, words) in command_lines(&text) {
            found.extend(select(&words).map(|words| Documented { place: format!("{name}:{line}"), words }));
        }
    }
    found
}

/// Asks a program for help, once for each subcommand.
pub struct Help {
    program: PathBuf,
    texts: BTreeMap<Vec<String>, String>,
}

impl Help {
    /// Help of the program at `program`.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), texts: BTreeMap::new() }
    }

    fn text(&mut self, path: &[String]) -> Result<String, String> {
        if let Some(text) = self.texts.get(path) {
            return Ok(text.clone());
        }
        let output = Command::new(&self.program).args(path).arg("--help").output().map_err(|error| format!("no help: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{} --help` fails: {}", path.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        self.texts.insert(path.to_vec(), text.clone());
        Ok(text)
    }

    /// Checks that the subcommands in `words` exist and that the help of the last one has every flag.
    ///
    /// # Errors
    /// What does not exist.
    pub fn check(&mut self, words: &[String]) -> Result<(), String> {
        let mut path = Vec::new();
        let mut text = self.text(&path)?;
        let mut rest = words.iter().filter(|word| !word.starts_with('-')).peekable();
        loop {
            let known = subcommands(&text);
            let Some(word) = rest.next_if(|_| !known.is_empty()) else { break };
            if !known.contains(word) {
                return Err(format!("`{}` has no subcommand `{word}`; it has {}", path.join(" "), known.join(", ")));
            }
            path.push(word.clone());
            text = self.text(&path)?;
        }
        for flag in words.iter().take_while(|word| *word != "--").filter(|word| is_flag(word)) {
            let name = flag.split('=').next().unwrap_or(flag);
            let mentioned = text.split(|c: char| c.is_whitespace() || ",=[]<>".contains(c)).any(|word| word == name);
            if !mentioned && !["--help", "-h", "--version", "-V"].contains(&name) {
                return Err(format!("`{}` has no flag `{name}`", path.join(" ")));
            }
        }
        Ok(())
    }
}

/// `-3` is a number, not a flag.
fn is_flag(word: &str) -> bool {
    word.starts_with('-') && word.len() > 1 && !word[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

/// Names in the `Commands:` section of a help text, without clap's own `help`.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| line.trim() != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with(' ') || line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod extractor {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        command_lines(text).into_iter().map(|(line, words)| format!("{line}: {}", words.join(" "))).collect()
    }

    #[test]
    fn only_shell_blocks_hold_commands() {
        let text = "a\n```sh\none two\n```\n```rust\nthree\n```\n```\nfour\n```\n````sh\nfive\n````\n";
        assert_eq!(lines(text), ["3: one two", "12: five"]);
    }

    #[test]
    fn continuations_comments_prompts_and_operators() {
        let text = "```sh\n# nothing\n$ a b \\\n  --c d # e\nX=1 Y_2=x f | g && h; i &\nj 'k l' \"m # n\" o#p\n```";
        assert_eq!(lines(text), ["3: a b --c d", "5: f", "5: g", "5: h", "5: i", "6: j k l m # n o#p"]);
    }

    #[test]
    fn help_lists_its_commands() {
        let help =
            "Tasks.\n\nUsage: x\n\nCommands:\n  test    Check\n          everything\n  crates  Count\n  help    Print\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["test", "crates"]);
    }

    #[test]
    fn numbers_are_no_flags() {
        assert!(is_flag("--json") && is_flag("-q") && !is_flag("-1") && !is_flag("-.5") && !is_flag("-"));
    }
}
