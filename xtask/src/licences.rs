//! The licences of all crates that the workspace builds with: each must leave a choice that may be combined with MIT and Apache-2.0 in a binary.

use std::{collections::BTreeSet, process::Command};

/// Licences that ask for no more than a notice, by their SPDX identifiers.
const ALLOWED: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Prints how many crates were judged.
///
/// # Errors
/// A crate has no licence, or only ones that are not allowed; or cargo cannot resolve the workspace.
pub fn check() -> Result<(), String> {
    let output = Command::new("cargo")
        .args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--quiet", "--format", "{p}|{l}|"])
        .output()
        .map_err(|error| format!("cargo tree could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let (judged, wrong) = judge(&String::from_utf8_lossy(&output.stdout));
    println!("{judged} crates have licences that may be used");
    if wrong.is_empty() { Ok(()) } else { Err(format!("not allowed: {}; drop the dependency", wrong.join("; "))) }
}

/// How many lines `package|expression|` are right, and which are not.
fn judge(tree: &str) -> (usize, Vec<String>) {
    let mut parts = BTreeSet::new();
    for line in tree.lines() {
        let mut fields = line.split('|');
        if let (Some(package), Some(licence)) = (fields.next(), fields.next()) {
            parts.insert((package.split(" (").next().unwrap_or(package).to_owned(), licence.to_owned()));
        }
    }
    let (right, wrong): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, licence)| allowed(licence));
    (right.len(), wrong.into_iter().map(|(package, licence)| format!("{package} ({licence})")).collect())
}

/// Whether an SPDX expression leaves an allowed choice. An old form writes `/` for OR. What cannot be read is not allowed.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let choice = either(&words, &mut at);
    choice == Some(true) && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> Option<bool> {
    let mut choice = both(words, at)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        choice |= both(words, at)?;
    }
    Some(choice)
}

fn both(words: &[&str], at: &mut usize) -> Option<bool> {
    let mut all = one(words, at)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        all &= one(words, at)?;
    }
    Some(all)
}

fn one(words: &[&str], at: &mut usize) -> Option<bool> {
    let word = *words.get(*at)?;
    *at += 1;
    if word == "(" {
        let inside = either(words, at)?;
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(inside);
    }
    let name = match (words.get(*at), words.get(*at + 1)) {
        (Some(&"WITH"), Some(exception)) => {
            *at += 2;
            format!("{word} WITH {exception}")
        }
        _ => word.to_owned(),
    };
    Some(ALLOWED.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_must_be_left() {
        for right in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "Apache-2.0 OR GPL-3.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(allowed(right), "{right}");
        }
        for wrong in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "GPL-3.0-or-later WITH Classpath-exception-2.0",
            "(MIT",
            "MIT OR",
            "MIT Apache-2.0",
            "AGPL-3.0 OR GPL-3.0",
        ] {
            assert!(!allowed(wrong), "{wrong}");
        }
    }

    #[test]
    fn crates_are_judged_once_and_named() {
        let (judged, wrong) = judge("a v1 (/x)|MIT|\na v1 (/x)|MIT| (*)\nb v2|GPL-3.0|\n");
        assert_eq!((judged, wrong), (1, vec!["b v2 (GPL-3.0)".to_owned()]));
    }
}
