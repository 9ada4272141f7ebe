//! The number of unique crates that the workspace needs to build and run: a bound on what a cold build costs and on
//! how many strangers are trusted.

use std::{collections::BTreeSet, process::Command};

/// Most unique crates allowed, the workspace's own included.
const CRATES_MAX: usize = 600;

/// Prints the count.
///
/// # Errors
/// There are more than [`CRATES_MAX`], or cargo cannot resolve the workspace.
pub fn check() -> Result<(), String> {
    let output = Command::new("cargo")
        .args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--quiet"])
        .output()
        .map_err(|error| format!("cargo tree could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let count = unique(&String::from_utf8_lossy(&output.stdout)).len();
    println!("{count} unique crates of at most {CRATES_MAX}");
    if count > CRATES_MAX {
        return Err(format!("{count} unique crates are more than {CRATES_MAX}; drop a dependency or one of its features"));
    }
    Ok(())
}

/// Name and version of each crate in the output of `cargo tree --prefix none`, whose lines carry marks after them.
fn unique(tree: &str) -> BTreeSet<(&str, &str)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_marks_do_not_count() {
        let tree = "a v1.0.0 (/home/a)\nb v2.0.0\nb v2.0.0 (*)\nb v3.0.0\n\nc v1.0.0 (proc-macro)\nc v1.0.0 (proc-macro) (*)\n";
        assert_eq!(unique(tree).into_iter().collect::<Vec<_>>(), [("a", "v1.0.0"), ("b", "v2.0.0"), ("b", "v3.0.0"), ("c", "v1.0.0")]);
    }
}
