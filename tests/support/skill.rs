//! The agent skill's pages: blocks that the binary fills, and anchors into the source.
//!
//! A block stands between `<!-- block: NAME -->` and `<!-- end -->`. An anchor is a code span `crates/….rs:LINE` that is followed, on the same line, by a code span
//! with the name of what is defined there. `cargo xtask skill` writes both anew; tests compare.

use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- block: ";
const END: &str = "<!-- end -->";

/// All files of the skill below `root`, sorted, as paths relative to it.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The page with every block's content replaced by what `content` gives for its name.
///
/// # Errors
/// A block has no end, or its content cannot be had.
pub fn fill(page: &str, mut content: impl FnMut(&str) -> Result<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), page);
    while let Some(at) = rest.find(BEGIN) {
        let after = &rest[at + BEGIN.len()..];
        let name = after.split(" -->").next().unwrap_or_default();
        let end = after.find(END).ok_or_else(|| format!("the block {name} has no end"))?;
        out.push_str(&rest[..at]);
        out.push_str(&format!("{BEGIN}{name} -->\n{}\n{END}", content(name)?.trim_end()));
        rest = &after[end + END.len()..];
    }
    Ok(out + rest)
}

/// The page with the line of every anchor as it is now.
///
/// # Errors
/// A file cannot be read, or does not define the name.
pub fn anchor(page: &str, read: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let mut out = String::new();
    for line in page.split_inclusive('\n') {
        let spans: Vec<&str> = line.split('`').collect();
        let mut mended = line.to_owned();
        for index in (1..spans.len()).step_by(2) {
            let Some((path, number)) = spans[index].rsplit_once(':').filter(|(path, _)| path.ends_with(".rs")) else { continue };
            let name = spans.get(index + 2).ok_or_else(|| format!("{path}: no name of what is there follows"))?;
            let now = definition(&read(path)?, name).ok_or_else(|| format!("{path} does not define {name}"))?;
            mended = mended.replace(&format!("`{path}:{number}` | `{name}`"), &format!("`{path}:{now}` | `{name}`"));
        }
        out.push_str(&mended);
    }
    Ok(out)
}

/// The number of the first line that defines `name`.
pub fn definition(source: &str, name: &str) -> Option<usize> {
    const WORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "mod", "type"];
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let defines = |line: &str| {
        let line = line.trim_start();
        !line.starts_with("//")
            && WORDS.iter().any(|keyword| {
                line.split_once(&format!("{keyword} "))
                    .is_some_and(|(before, after)| word(after) == name && before.chars().all(|c| c.is_alphanumeric() || " ()_".contains(c)))
            })
    };
    source.lines().position(defines).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_filled_and_the_rest_stays() {
        let page = "a\n<!-- block: x -->\nold\n<!-- end -->\nb\n<!-- block: y -->\n<!-- end -->\n";
        let filled = fill(page, |name| Ok(format!("new {name}\n"))).unwrap_or_default();
        assert_eq!(filled, "a\n<!-- block: x -->\nnew x\n<!-- end -->\nb\n<!-- block: y -->\nnew y\n<!-- end -->\n");
        assert_eq!(fill(&filled, |name| Ok(format!("new {name}"))), Ok(filled.clone()), "filling twice changes nothing");
        assert!(fill("<!-- block: x -->\n", |_| Ok(String::new())).is_err());
    }

    #[test]
    fn anchors_follow_their_names() {
        let source = "// fn there\npub(crate) async fn there() {}\nstruct There;\n";
        let read = |_: &str| Ok(source.to_owned());
        assert_eq!(anchor("| `crates/a.rs:9` | `there` |\n", read), Ok("| `crates/a.rs:2` | `there` |\n".to_owned()));
        assert_eq!(anchor("| `crates/a.rs:9` | `There` |\n", read), Ok("| `crates/a.rs:3` | `There` |\n".to_owned()));
        assert!(anchor("| `crates/a.rs:9` | `nowhere` |\n", read).is_err());
        assert!(anchor("`crates/a.rs:9`\n", read).is_err());
    }
}
