//! Every `templar` command in the documentation exists, with the flags that it is given.

use std::path::Path;

#[path = "../../../tests/support/commands.rs"]
mod commands;

/// The words after `templar`, however it is started.
fn templar(words: &[String]) -> Option<Vec<String>> {
    let program = words.first()?;
    if program == "templar" || program.ends_with("/templar") {
        return Some(words[1..].to_vec());
    }
    let run = program == "cargo" && words.get(1).is_some_and(|word| word == "run" || word == "r");
    let split = words.iter().position(|word| word == "--")?;
    let other = words[..split].windows(2).any(|pair| ["-p", "--package"].contains(&pair[0].as_str()) && pair[1] != "templar");
    (run && !other).then(|| words[split + 1..].to_vec())
}

#[test]
fn every_documented_command_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut help = commands::Help::of(env!("CARGO_BIN_EXE_templar"));
    let found = commands::documented(root, templar);
    assert!(found.iter().any(|command| command.place.starts_with("README.md")), "README.md shows no templar command in an sh block");
    let wrong: Vec<String> = found
        .iter()
        .filter_map(|command| help.check(&command.words).err().map(|why| format!("{}: {}: {why}", command.place, command.words.join(" "))))
        .collect();
    assert!(wrong.is_empty(), "documented commands that do not exist:\n{}", wrong.join("\n"));
}

#[test]
fn the_page_of_checks_is_the_binarys_own() {
    let page = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operators/doctor.md"));
    let made =
        std::process::Command::new(env!("CARGO_BIN_EXE_templar")).args(["doctor", "--list", "--markdown"]).output().expect("it runs");
    let there = std::fs::read_to_string(page).expect("the page exists");
    assert_eq!(there, String::from_utf8_lossy(&made.stdout), "make it anew with `cargo xtask docs`");
}

#[test]
fn every_error_code_has_a_section() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let page = std::fs::read_to_string(root.join("docs/errors.md")).expect("the page exists");
    let mut folders = vec![root.join("crates/cli/src"), root.join("crates/ops/src")];
    let mut codes = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                codes.extend(text.split("\"templar::").skip(1).filter_map(|rest| rest.split('"').next().map(str::to_owned)));
            }
        }
    }
    assert!(codes.contains("settings") && codes.contains("not_registered"), "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("## `templar::{code}`")), "docs/errors.md has no section for templar::{code}");
    }
    for section in page.lines().filter_map(|line| line.strip_prefix("## `templar::")) {
        let source = format!("\"templar::{}\"", section.trim_end_matches('`'));
        let cli = root.join("crates/cli/src");
        let known = ["config.rs", "commands/node.rs", "main.rs"]
            .iter()
            .any(|file| std::fs::read_to_string(cli.join(file)).is_ok_and(|text| text.contains(&source)));
        assert!(known, "docs/errors.md has a section for {section}, which nothing gives");
    }
}

#[test]
fn both_ways_to_start_the_binary_are_seen() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in ["templar a --b", "target/release/templar a --b", "cargo run --release -- a --b", "cargo run -p templar -- a --b"] {
        assert_eq!(templar(&words(line)), Some(words("a --b")), "{line}");
    }
    for line in ["cargo build --release", "cargo run -p xtask -- test", "git clone x"] {
        assert_eq!(templar(&words(line)), None, "{line}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let mut help = commands::Help::of(env!("CARGO_BIN_EXE_templar"));
    assert!(help.check(&["no-such-command".to_owned()]).is_err());
    assert!(help.check(&["--no-such-flag".to_owned()]).is_err());
}
