//! `templar engine` as a process, with scripts in the place of pip.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Command, Output},
};

/// Writes a pip that installs the CPU plugin; `ending` runs when everything but the end is done.
fn pip(tools: &Path, ending: &str) {
    fs::create_dir_all(tools).unwrap();
    let body = format!(
        r#"#!/bin/sh
PATH=/usr/bin:/bin
while [ $# -gt 0 ]; do [ "$1" = --target ] && target=$2; shift; done
[ -z "$target" ] && exit 0
mkdir -p "$target/lammps_jax_pjrt_cpu"
echo plugin > "$target/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"
{ending}
"#
    );
    fs::write(tools.join("pip"), body).unwrap();
    fs::set_permissions(tools.join("pip"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn templar(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
    command.arg("engine").args(words).env("PATH", folder.join("tools")).env("TEMPLAR_ENGINE_DIR", folder.join("engines"));
    command.env_remove("TEMPLAR_PJRT_PLUGIN").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn state_of_cpu(folder: &Path) -> String {
    let list = templar(folder, &["list", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    value["engines"][1]["state"].as_str().unwrap().to_owned()
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn an_installation_killed_in_the_middle_is_none_and_the_next_completes_it() {
    const SIGKILL: i32 = 9;
    let folder = tempfile::tempdir().unwrap();
    pip(&folder.path().join("tools"), "kill -9 $PPID");
    let killed = templar(folder.path(), &["install", "cpu", "--yes"]);
    assert_eq!(killed.status.signal(), Some(SIGKILL), "{}", text(&killed.stderr));
    assert_eq!(state_of_cpu(folder.path()), "available");

    pip(&folder.path().join("tools"), "");
    let done = templar(folder.path(), &["install", "cpu", "--yes", "--json"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let value: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(value["result"], "installed");
    assert!(Path::new(value["plugin"]["file"].as_str().unwrap()).is_file());
    assert_eq!(state_of_cpu(folder.path()), "installed");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_dry_run_and_a_missing_yes_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    pip(&folder.path().join("tools"), "");
    let dry = templar(folder.path(), &["install", "cpu", "--dry-run"]);
    assert!(dry.status.success() && text(&dry.stderr).contains("lammps-jax-pjrt-cpu==0.11.2"), "{}", text(&dry.stderr));
    let unasked = templar(folder.path(), &["install", "cpu"]);
    assert!(!unasked.status.success() && text(&unasked.stderr).contains("--yes"), "{}", text(&unasked.stderr));
    assert!(!folder.path().join("engines").exists());
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn without_uv_and_pip_the_message_says_what_would_work() {
    let folder = tempfile::tempdir().unwrap();
    let refused = templar(folder.path(), &["install", "cpu", "--yes"]);
    let said = text(&refused.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!refused.status.success() && said.contains("python3-pip") && said.contains("TEMPLAR_PJRT_PLUGIN"), "{said}");
}
