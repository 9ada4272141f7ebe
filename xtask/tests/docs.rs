//! Every `cargo xtask` command in the documentation exists.

use std::path::Path;

#[path = "../../tests/support/commands.rs"]
mod commands;

fn xtask(words: &[String]) -> Option<Vec<String>> {
    (words.len() > 1 && words[0] == "cargo" && words[1] == "xtask").then(|| words[2..].to_vec())
}

#[test]
fn every_documented_task_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut help = commands::Help::of(env!("CARGO_BIN_EXE_xtask"));
    let found = commands::documented(root, xtask);
    assert!(found.iter().any(|command| command.place.starts_with("CONTRIBUTING.md")), "CONTRIBUTING.md shows no task");
    for command in &found {
        assert_eq!(help.check(&command.words), Ok(()), "{}: {}", command.place, command.words.join(" "));
    }
}

#[test]
fn a_task_that_does_not_exist_is_found() {
    let mut help = commands::Help::of(env!("CARGO_BIN_EXE_xtask"));
    assert_eq!(help.check(&["test".to_owned()]), Ok(()));
    assert!(help.check(&["no-such-task".to_owned()]).is_err());
    assert!(help.check(&["test".to_owned(), "--no-such-flag".to_owned()]).is_err());
}
