//! Makes the fixtures of the diagnosis anew: `cargo run --package templar-ops --example diagnosis_fixtures`.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/scenarios.rs"]
mod scenarios;

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/diagnose");
    for fixture in &scenarios::FIXTURES {
        let dir = root.join(fixture.cause);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let journals = scenarios::fixture_journals(fixture);
        for (name, lines) in &journals {
            let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
            std::fs::write(dir.join(format!("{name}.jsonl")), text).unwrap();
        }
        let nodes = scenarios::records(&journals).len();
        println!("{}: {nodes} journals", fixture.cause);
    }
}
