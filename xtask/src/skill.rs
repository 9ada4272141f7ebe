//! The agent skill's generated parts: blocks that the binary prints, and the lines of anchors into the source. Tests compare both, so they are never
//! edited by hand.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

#[allow(dead_code, reason = "not every task needs all of it")]
#[path = "../../tests/support/skill.rs"]
pub mod pages;

/// Where the skill is.
pub const SKILL: &str = "skill/templar-miner";

/// Writes all generated parts anew.
///
/// # Errors
/// The binary cannot be built or run, a page cannot be read or written, or an anchor names what is not there.
pub fn write() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Pages are part of the binary that fills them; one build is enough, since blocks do not depend on pages.
    let binary = crate::steps::binary().map_err(|failure| failure.message)?;
    let mut blocks = BTreeMap::new();
    for file in pages::files(&root.join(SKILL)).into_iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
        let path = root.join(SKILL).join(&file);
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        let page = fs::read_to_string(&path).map_err(failed)?;
        let filled = pages::fill(&page, |name| match blocks.get(name) {
            Some(text) => Ok(String::clone(text)),
            None => block(&binary, name).inspect(|text| drop(blocks.insert(name.to_owned(), text.clone()))),
        })?;
        let anchored =
            pages::anchor(&filled, |source| fs::read_to_string(root.join(source)).map_err(|error| format!("{source}: {error}")))?;
        if anchored != page {
            fs::write(&path, anchored).map_err(failed)?;
            println!("{SKILL}/{} was written", file.display());
        }
    }
    Ok(())
}

/// Builds the binary as the tests do, with the features of the whole workspace, and gives its place: beside this program.
fn block(binary: &Path, name: &str) -> Result<String, String> {
    let output = Command::new(binary).args(["skill", "block", name]).output();
    let output = output.map_err(|error| format!("{} could not be started: {error}", binary.display()))?;
    if !output.status.success() {
        return Err(format!("the block {name} could not be made: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("the block {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_anchor_is_where_it_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut anchors = 0;
        for file in pages::files(&root.join(SKILL)).into_iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
            let page = fs::read_to_string(root.join(SKILL).join(&file)).expect("a page of the skill");
            anchors += page.matches(".rs:").count();
            let now = pages::anchor(&page, |source| fs::read_to_string(root.join(source)).map_err(|error| format!("{source}: {error}")));
            assert_eq!(now.as_ref(), Ok(&page), "{}: make it anew with `cargo xtask skill`", file.display());
        }
        assert!(anchors >= 20, "{anchors}");
    }
}
