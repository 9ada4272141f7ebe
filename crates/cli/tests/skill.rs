//! The agent skill says nothing of this binary that is not so: every command, flag, file, field, check, setting and variable that it names exists, generated parts are
//! as the binary prints them, scripts run.
//!
//! In its pages, a code span names what exists here; what exists elsewhere stands in quotation marks. So every code span is judged, by its form.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[allow(dead_code, reason = "the handbook's pages are judged by another test")]
#[path = "../../../tests/support/commands.rs"]
mod commands;
#[allow(dead_code, reason = "anchors are judged by xtask")]
#[path = "../../../tests/support/skill.rs"]
mod pages;

const BINARY: &str = env!("CARGO_BIN_EXE_templar");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn skill() -> PathBuf {
    root().join("skill/templar-miner")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn templar(words: &[&str]) -> String {
    let output = Command::new(BINARY).args(words).output().expect("it runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// All Markdown pages with their names below the skill's folder.
fn all_pages() -> Vec<(String, String)> {
    let markdown = pages::files(&skill()).into_iter().filter(|file| file.extension().is_some_and(|end| end == "md"));
    markdown.map(|file| (file.display().to_string(), read(&skill().join(&file)))).collect()
}

/// A page without its generated blocks.
fn by_hand(page: &str) -> String {
    pages::fill(page, |_| Ok(String::new())).expect("every block has an end")
}

#[test]
fn the_front_matter_keeps_to_the_convention() {
    let page = read(&skill().join("SKILL.md"));
    let matter = page.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).expect("front matter").0;
    let value = |key: &str| matter.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).unwrap_or_default();
    assert_eq!(value("name"), "templar-miner");
    assert!((100..=1024).contains(&value("description").chars().count()), "{}", value("description").chars().count());
    assert!(value("compatibility").chars().count() <= 500);
    assert!(matter.contains(&format!("  version: \"{}\"", env!("CARGO_PKG_VERSION"))), "the version is not the binary's");
    for phrase in
        ["Templar miner", "low or negative score", "missing gradients", "desynchronised", "rent GPUs", "registration", "out of memory"]
    {
        assert!(value("description").contains(phrase), "the description has no {phrase:?}");
    }
    assert!(page.lines().count() < 300, "{} lines", page.lines().count());
}

#[test]
fn generated_parts_are_the_binarys_own() {
    let mut blocks = 0;
    for (name, page) in all_pages() {
        let filled = pages::fill(&page, |block| {
            blocks += 1;
            Ok(templar(&["skill", "block", block]))
        });
        assert_eq!(filled, Ok(page), "{name}: make it anew with `cargo xtask skill`");
    }
    assert!(blocks >= 7, "{blocks}");
}

#[test]
fn every_link_leads_to_a_page() {
    let mut wrong = Vec::new();
    for (name, page) in all_pages() {
        let folder = skill().join(&name).parent().expect("a folder").to_owned();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("https://") && !folder.join(link.split('#').next().unwrap_or(link)).is_file() {
                wrong.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let entry = read(&skill().join("SKILL.md"));
    for (name, _) in all_pages().iter().filter(|(name, _)| name != "SKILL.md") {
        assert!(entry.contains(&format!("({name})")), "SKILL.md does not lead to {name}");
    }
}

/// Programs that a shell has anyway.
const SHELL: [&str; 2] = ["chmod", "tail"];

#[test]
fn every_command_exists() {
    let mut help = commands::Help::of(BINARY);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for file in pages::files(&skill()) {
        let text = read(&skill().join(&file));
        let text = if file.starts_with("scripts") { format!("```sh\n{text}\n```\n") } else { text };
        for (line, words) in commands::command_lines(&text) {
            let place = format!("{}:{line}: {}", file.display(), words.join(" "));
            match words[0].as_str() {
                "templar" => {
                    seen.insert(words.get(1).cloned().unwrap_or_default());
                    wrong.extend(help.check(&words[1..]).err().map(|why| format!("{place}: {why}")));
                }
                program if SHELL.contains(&program) || file.starts_with("scripts") => {}
                program => wrong.push(format!("{place}: {program} is no program that is known here")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for command in ["doctor", "setup", "explain", "verify", "plan", "rent", "service", "wallet", "subnet", "localnet"] {
        assert!(seen.contains(command), "the skill never calls templar {command}");
    }
}

/// What there is, in the forms in which code spans name it.
struct Known {
    help: commands::Help,
    commands: String,
    checks: String,
    settings: String,
    rules: String,
    journal: String,
    parameters: serde_json::Value,
    sources: String,
}

impl Known {
    fn of_this_binary() -> Self {
        let block = |name: &str| templar(&["skill", "block", name]);
        let mut sources = String::new();
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(root().join("crates")).expect("crates").flatten().map(|entry| entry.path().join("src")).collect();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                match path.extension() {
                    _ if path.is_dir() => folders.push(path),
                    Some(end) if end == "rs" => sources.push_str(&read(&path)),
                    _ => {}
                }
            }
        }
        Self {
            help: commands::Help::of(BINARY),
            commands: block("commands"),
            checks: block("checks"),
            settings: block("settings") + &block("variables"),
            rules: block("rules"),
            journal: read(&root().join("docs/journal.md")),
            parameters: serde_json::from_str(&templar(&["params", "show", "local", "--json"])).expect("JSON"),
            sources,
        }
    }

    /// What is wrong with a code span; nothing if what it names exists.
    fn judge(&mut self, span: &str) -> Result<(), String> {
        let first = span.split_whitespace().next().unwrap_or_default();
        let words = || span.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if first == "templar" {
            return self.help.check(&words()[1..]);
        }
        if first == "cargo" {
            return Ok(());
        }
        if first.starts_with('-') {
            let mut flags =
                words().into_iter().filter(|word| word.starts_with('-') && !word.chars().nth(1).is_some_and(|c| c.is_ascii_digit()));
            return flags.try_for_each(|flag| self.flag(&flag));
        }
        let place = first.contains('/') || [".md", ".json", ".jsonl", ".toml", ".env", ".txt"].iter().any(|end| first.ends_with(end));
        if place || first.starts_with('.') {
            return self.file(first);
        }
        self.name(span).then_some(()).ok_or_else(|| "nothing of this name is known".to_owned())
    }

    fn flag(&self, flag: &str) -> Result<(), String> {
        let flag = flag.split(['=', ' ', '`']).next().unwrap_or(flag);
        let known = [format!("`{flag}`"), format!("`{flag} ")].iter().any(|text| self.commands.contains(text));
        if known || ["--help", "--version"].contains(&flag) { Ok(()) } else { Err(format!("no command has the flag {flag}")) }
    }

    /// A file of the skill or the project, or one that the sources name in full.
    fn file(&self, path: &str) -> Result<(), String> {
        if path.contains(".rs:") || path == "file:line" {
            return Ok(());
        }
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        let named = self.sources.contains(&format!("\"{last}\""));
        if skill().join(path).exists() || root().join(path).exists() || named { Ok(()) } else { Err(format!("there is no file {path}")) }
    }

    /// A check or its group, a setting, a variable, a field of the journal, a hyper-parameter, a rule, a value of a flag.
    fn name(&self, span: &str) -> bool {
        let quoted = format!("`{span}`");
        let key = |value: &serde_json::Value| span.split('.').try_fold(value.clone(), |value, part| value.get(part).cloned()).is_some();
        let pages = [&self.checks, &self.settings, &self.rules, &self.journal];
        let value = || {
            self.commands
                .split(" One of ")
                .skip(1)
                .any(|rest| rest.split('.').next().unwrap_or_default().split(", ").any(|value| value == span))
        };
        pages.iter().any(|page| page.contains(&quoted))
            || self.checks.contains(&format!("`{span}."))
            || self.commands.contains(&format!("Variable: `{span}`"))
            || key(&self.parameters)
            || self.sources.contains(&format!("\"{span}\"")) && ["templar", "native-1", "templar-2.1", "fail"].contains(&span)
            || value()
    }
}

/// Code spans outside of fenced blocks, with their lines.
fn spans(page: &str) -> Vec<(usize, String)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span.to_owned())));
        }
    }
    found
}

#[test]
fn every_code_span_names_something_that_exists() {
    let mut known = Known::of_this_binary();
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for (name, page) in all_pages() {
        // Names in the table of anchors are judged with their lines, by xtask.
        let page: String = page.lines().map(|line| if line.contains(".rs:") { "\n".to_owned() } else { format!("{line}\n") }).collect();
        for (line, span) in spans(&by_hand(&page)) {
            judged += 1;
            wrong.extend(known.judge(&span).err().map(|why| format!("{name}:{line}: `{span}`: {why}")));
        }
    }
    assert!(judged > 200, "{judged}");
    assert!(wrong.is_empty(), "{} of {judged}: {wrong:#?}", wrong.len());
}

#[test]
fn what_does_not_exist_is_found() {
    let mut known = Known::of_this_binary();
    for span in [
        "templar frobnicate",
        "templar doctor --frobnicate",
        "--frobnicate",
        "references/frobnicate.md",
        "frobnicate.json",
        "chain.frobnicate",
        "network.frobnicate",
        "TEMPLAR_FROBNICATE",
        "frobnicate_ms",
        "frobnicate",
    ] {
        assert!(known.judge(span).is_err(), "{span} was taken for something that exists");
    }
    for span in ["templar doctor --live", "--json", "journal.jsonl", "chain.earning", "network.chain", "TEMPLAR_CHAIN", "upload_margin_ms"]
    {
        assert_eq!(known.judge(span), Ok(()), "{span}");
    }
}

/// Numbers that decide something come from the binary: pages written by hand state no percentages and no bounds, but for the page that quotes others.
#[test]
fn thresholds_are_generated() {
    let mut wrong = Vec::new();
    for (name, page) in all_pages().into_iter().filter(|(name, _)| name != "references/corrections.md") {
        for (index, line) in by_hand(&page).lines().enumerate() {
            let bounds = line.split(['<', '≤', '≥']).skip(1).any(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()));
            let shares = line.split('%').collect::<Vec<_>>();
            let shares = shares[..shares.len() - 1].iter().any(|part| part.trim_end().ends_with(|c: char| c.is_ascii_digit()));
            if bounds || shares {
                wrong.push(format!("{name}:{}: {line}", index + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn script(name: &str, words: &[&str], dir: &Path) -> Output {
    let path = format!("{}:{}", Path::new(BINARY).parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.arg(skill().join("scripts").join(name)).args(words).current_dir(dir).env("PATH", path);
    command.env_remove("TEMPLAR_CONFIG").output().expect("a shell")
}

#[test]
fn scripts_call_the_binary_and_pass_its_exit_code_on() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["check_miner_health", "setup_miner_env"] {
        let help = script(name, &["--help"], dir.path());
        assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Usage: "), "{name}");
    }
    let listed = script("check_miner_health", &["--list"], dir.path());
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).expect("the catalogue as JSON");
    assert!(listed.len() >= 50);
    let missing = script("setup_miner_env", &["--dry-run"], dir.path());
    assert_eq!(missing.status.code(), Some(1), "bucket and directory are missing");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0, "a dry run writes nothing");
    let made = script(
        "setup_miner_env",
        &["--set", "bucket.url=http://127.0.0.1:1/bucket", "--set", "network.chain=http://127.0.0.1:1"],
        dir.path(),
    );
    assert_eq!(made.status.code(), Some(1), "there is no such chain: {}", String::from_utf8_lossy(&made.stderr));
    assert!(serde_json::from_slice::<serde_json::Value>(&made.stdout).is_ok(), "{}", String::from_utf8_lossy(&made.stdout));
    let mode = std::fs::metadata(dir.path().join(".env")).expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
