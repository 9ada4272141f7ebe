//! The agent skill: a folder of pages that teaches an agent to use this binary, carried inside it and put where agents look.
//!
//! What always holds: a file that somebody has changed since it was put there is not overwritten unasked; putting it there twice changes nothing; a file
//! appears whole or not at all. Which files are ours, and as what, stands in [`RECORD`] beside them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use templar_node::state::write_atomically;
use templar_protocol::Digest;

/// The skill's name, also that of its folder.
pub const NAME: &str = "templar-miner";
/// The record of what was put into a folder, in that folder.
pub const RECORD: &str = ".installed.json";
/// The largest record that is read, bytes.
const RECORD_BYTES_MAX: u64 = 64 << 10;

macro_rules! pages {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../../skill/templar-miner/", $name)))),*] };
}

/// Every file of the skill: its path below the skill's folder, and its text.
pub const FILES: &[(&str, &str)] = pages![
    "SKILL.md",
    "examples/explain-a-low-score.md",
    "examples/recover-from-desynchronisation.md",
    "examples/rent-and-launch.md",
    "examples/set-up-a-miner.md",
    "examples/tune.md",
    "references/architecture.md",
    "references/checks.md",
    "references/commands.md",
    "references/corrections.md",
    "references/hyper-parameters.md",
    "references/incentive-mechanism.md",
    "references/links.md",
    "references/operations.md",
    "references/renting.md",
    "references/settings.md",
    "references/troubleshooting.md",
    "references/wallet-and-chain.md",
    "scripts/check_miner_health",
    "scripts/setup_miner_env",
];

/// Why the skill cannot be put somewhere.
#[derive(Debug, thiserror::Error)]
pub enum SkillError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody has changed files.
    #[error("changed since they were put there, or not from here: {}", list(.0))]
    Changed(Vec<PathBuf>),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What was done to a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The skill's folder.
    pub folder: PathBuf,
    /// Files that were written, below it.
    pub written: Vec<String>,
    /// Files of an earlier version that were removed, below it.
    pub removed: Vec<String>,
    /// Files that were as they should be.
    pub unchanged: usize,
}

/// Digests of the files as they were put there, by path below the folder.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    version: String,
    files: BTreeMap<String, Digest>,
}

/// Puts the skill into `folder` (made if absent) below `parent`: where agents look for a folder named like the skill. With `dry_run` nothing is written.
///
/// # Errors
/// [`SkillError::Changed`] without `overwrite`, before anything was written; or the disk refused.
pub fn install(parent: &Path, overwrite: bool, dry_run: bool) -> Result<Installed, SkillError> {
    let folder = parent.join(NAME);
    let before = read_record(&folder);
    let present = |name: &str| fs::read(folder.join(name)).ok().map(|bytes| Digest::of(&bytes));
    let mut done = Installed { folder: folder.clone(), ..Installed::default() };
    let mut changed = Vec::new();
    for (name, text) in FILES {
        match present(name) {
            Some(there) if there == Digest::of(text.as_bytes()) => done.unchanged += 1,
            there => {
                if there.is_some_and(|there| before.files.get(*name) != Some(&there)) {
                    changed.push(folder.join(name));
                }
                done.written.push((*name).to_owned());
            }
        }
    }
    let gone = before.files.keys().filter(|name| safe(name) && FILES.iter().all(|(ours, _)| ours != name));
    // What an earlier version had and this one has not goes, unless somebody has made it his own.
    done.removed = gone.filter(|name| present(name) == before.files.get(*name).copied()).cloned().collect();
    if !changed.is_empty() && !overwrite {
        return Err(SkillError::Changed(changed));
    }
    if !dry_run {
        write(&folder, &done)?;
    }
    Ok(done)
}

fn write(folder: &Path, done: &Installed) -> Result<(), SkillError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SkillError::Io { path, source }
    };
    for (name, text) in FILES.iter().filter(|(name, _)| done.written.iter().any(|written| written == name)) {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(io(parent))?;
        write_atomically(&path, text.as_bytes()).map_err(io(&path))?;
        set_mode(&path, if name.starts_with("scripts/") { 0o755 } else { 0o644 }).map_err(io(&path))?;
    }
    for name in &done.removed {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(io(&path))?;
    }
    let files = FILES.iter().map(|(name, text)| ((*name).to_owned(), Digest::of(text.as_bytes()))).collect();
    let record = Record { version: env!("CARGO_PKG_VERSION").to_owned(), files };
    let text = serde_json::to_vec_pretty(&record).expect("texts and digests always serialise");
    let path = folder.join(RECORD);
    if fs::read(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    write_atomically(&path, &text).map_err(io(&path))?;
    set_mode(&path, 0o644).map_err(io(&path))
}

/// A record that cannot be read counts as none: then every differing file counts as somebody's own.
fn read_record(folder: &Path) -> Record {
    let path = folder.join(RECORD);
    let small = fs::metadata(&path).is_ok_and(|data| data.len() <= RECORD_BYTES_MAX);
    let read = || serde_json::from_slice(&fs::read(&path).ok()?).ok();
    small.then(read).flatten().unwrap_or_default()
}

/// A record is a file that anybody may have edited: it must not lead out of the folder.
fn safe(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Agents run as other users at times, and there is no secret in a skill.
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The folders in which agents look for skills, for a user with this home: the common one, and those of agents that keep theirs elsewhere already
/// (`~/.NAME/skills`).
pub fn folders_of_agents(home: &Path) -> Vec<PathBuf> {
    let common = home.join(".agents").join("skills");
    let hidden = fs::read_dir(home).into_iter().flatten().flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    let mut others: Vec<PathBuf> =
        hidden.map(|entry| entry.path().join("skills")).filter(|path| path.is_dir() && *path != common).collect();
    others.sort();
    std::iter::once(common).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../skill").join(NAME)
    }

    #[test]
    fn the_binary_carries_every_file_of_the_skill() {
        let (mut folders, mut found) = (vec![source()], Vec::new());
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(source()).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, FILES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }

    #[test]
    fn installing_twice_changes_nothing_and_scripts_can_be_run() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(install(dir.path(), false, true).unwrap().written.len(), FILES.len());
        assert!(!dir.path().join(NAME).exists(), "a dry run writes nothing");
        assert_eq!(install(dir.path(), false, false).unwrap().written.len(), FILES.len());
        let again = install(dir.path(), false, false).unwrap();
        assert_eq!((again.written.len(), again.unchanged), (0, FILES.len()));
        let mode = |name: &str| fs::metadata(dir.path().join(NAME).join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("scripts/check_miner_health"), mode("SKILL.md")), (0o755, 0o644));
    }

    #[test]
    fn what_somebody_has_changed_is_kept_unless_it_may_be_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), false, false).unwrap();
        let page = dir.path().join(NAME).join("SKILL.md");
        fs::write(&page, "mine").unwrap();
        let lost = dir.path().join(NAME).join("references/links.md");
        fs::remove_file(&lost).unwrap();
        assert!(matches!(install(dir.path(), false, false), Err(SkillError::Changed(paths)) if paths == [page.clone()]));
        assert!(!lost.exists(), "nothing is written where something is refused");
        assert_eq!(install(dir.path(), true, false).unwrap().written.len(), 2);
        assert_ne!(fs::read_to_string(&page).unwrap(), "mine");
    }

    #[test]
    fn files_of_an_earlier_version_are_renewed_or_removed_without_asking() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), false, false).unwrap();
        let folder = dir.path().join(NAME);
        let mut record = read_record(&folder);
        for (name, text) in [("SKILL.md", "old"), ("references/gone.md", "old"), ("references/kept.md", "old")] {
            fs::write(folder.join(name), text).unwrap();
            record.files.insert(name.to_owned(), Digest::of(text.as_bytes()));
        }
        fs::write(folder.join("references/kept.md"), "made one's own").unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "old").unwrap();
        record.files.insert("../outside".to_owned(), Digest::of(b"old"));
        fs::write(folder.join(RECORD), serde_json::to_vec(&record).unwrap()).unwrap();
        let done = install(dir.path(), false, false).unwrap();
        assert_eq!((done.written, done.removed), (vec!["SKILL.md".to_owned()], vec!["references/gone.md".to_owned()]));
        assert!(folder.join("references/kept.md").exists() && outside.exists());
    }

    #[test]
    fn agents_folders_that_exist_are_found() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".some-agent/skills")).unwrap();
        fs::create_dir_all(home.path().join("visible/skills")).unwrap();
        let found = folders_of_agents(home.path());
        assert_eq!(found, [home.path().join(".agents/skills"), home.path().join(".some-agent/skills")]);
    }
}
