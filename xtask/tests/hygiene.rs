//! Rules that hold for the whole tree.

use std::path::{Path, PathBuf};

/// The workspace's crates, lowest layer first: a crate may depend on crates before it only.
const LAYERS: [&str; 20] = [
    "protocol",
    "wallet",
    "codec",
    "gauntlet",
    "pjrt",
    "tensor",
    "model",
    "engine",
    "data",
    "store",
    "s3",
    "chain",
    "chain-rpc",
    "subtensor",
    "node",
    "sim",
    "rent",
    "ops",
    "cli",
    "fuzz",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Text files of the tree; build output, version control and what is ignored at the root are left out.
fn text_files() -> Vec<(String, String)> {
    let ignored: Vec<String> = read(&root().join(".gitignore")).lines().map(|line| line.trim_matches('/').to_owned()).collect();
    let (mut folders, mut files) = (vec![root()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // In a worktree of git, `.git` is a file that names the repository's own place.
            if name == ".git" {
                continue;
            }
            if kind.is_dir() && !(folder == root() && (ignored.contains(&name) || name == "shared")) {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                files.push((path.strip_prefix(root()).unwrap_or(&path).display().to_string(), text));
            }
        }
    }
    assert!(files.len() > 20, "only {} text files were found", files.len());
    files
}

/// Files, other than cargo's lock file, that contain one of `words`.
fn naming(words: &[String]) -> Vec<String> {
    let names = |text: &str| words.iter().find(|word| text.contains(word.as_str())).cloned();
    let files = text_files().into_iter().filter(|(path, _)| path != "Cargo.lock");
    files.filter_map(|(path, text)| names(&text).map(|word| format!("{path} names {word}"))).collect()
}

#[test]
fn no_file_names_a_package_registry() {
    // Put together here, so that this file does not name them either.
    let hosts = ["index.crates io", "static.crates io", "pypi org", "files.pythonhosted org", "registry.npmjs org", "proxy.golang org"];
    assert_eq!(naming(&hosts.map(|host| host.replace(' ', "."))), Vec::<String>::new());
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let folders = ["work shared", "work main", "tmp team", "home user", "root .cargo"];
    assert_eq!(naming(&folders.map(|folder| format!("/{}/", folder.replace(' ', "/")))), Vec::<String>::new());
}

#[test]
fn nothing_is_left_to_be_done_in_comments() {
    let marks = ["TO DO:", "FIX ME", "X XX:", "todo !(", "unimplemented !("];
    assert_eq!(naming(&marks.map(|mark| mark.replace(' ', ""))), Vec::<String>::new());
}

#[test]
fn both_licences_and_the_project_files_are_there() {
    assert!(read(&root().join("LICENSE-MIT")).starts_with("MIT License"));
    assert!(read(&root().join("LICENSE-APACHE")).contains("Apache License"));
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        assert!(read(&root().join(name)).starts_with("# "), "{name} has no title");
    }
}

/// Keys of a manifest's `[dependencies]` that are crates of this workspace, without the prefix.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1).take_while(|line| !line.starts_with('['));
    section.filter_map(|line| Some(line.strip_prefix("templar-")?.split(['.', ' ', '=']).next()?.to_owned())).collect()
}

#[test]
fn crates_import_lower_layers_only_and_share_the_lints() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("crates")).expect("the workspace has crates").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let manifest = read(&entry.path().join("Cargo.toml"));
        let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name).unwrap_or_else(|| panic!("{name} has no layer"));
        for dependency in own_dependencies(&manifest) {
            assert!(layer(&dependency) < layer(&name), "{name} imports {dependency}, which is not below it");
        }
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} does not share the workspace's lints");
        seen += 1;
    }
    assert_eq!(seen, LAYERS.len());
}
