//! Pages of the handbook that the binary itself knows best. A test of the binary compares them, so they are never edited by hand.

use std::{fs, path::Path, process::Command};

/// Each page, and the words by which the binary prints it.
const PAGES: [(&str, &[&str]); 3] = [
    ("docs/operators/doctor.md", &["doctor", "--list", "--markdown"]),
    ("docs/operators/diagnose.md", &["diagnose", "--list", "--markdown"]),
    ("docs/operators/alerts.md", &["alerts", "list", "--markdown"]),
];

/// Writes all pages.
///
/// # Errors
/// The binary cannot be built or run, or a page cannot be written.
pub fn write() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = crate::steps::binary().map_err(|failure| failure.message)?;
    for (page, words) in PAGES {
        let output = Command::new(&binary).args(words).output();
        let output = output.map_err(|error| format!("{} could not be started: {error}", binary.display()))?;
        if !output.status.success() {
            return Err(format!("{page} could not be made: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        fs::write(root.join(page), output.stdout).map_err(|error| format!("{page}: {error}"))?;
        println!("{page} was written");
    }
    Ok(())
}
