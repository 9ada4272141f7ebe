//! Lists and plans on machines that are made up.

#![allow(clippy::unwrap_used)]

use super::*;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// A machine with a pip that installs the CPU plugin.
fn machine(folder: &Path) -> Environment {
    let tools = folder.join("tools");
    fs::create_dir(&tools).unwrap();
    let body = r#"#!/bin/sh
PATH=/usr/bin:/bin
while [ $# -gt 0 ]; do [ "$1" = --target ] && target=$2; shift; done
[ -z "$target" ] && exit 0
mkdir -p "$target/lammps_jax_pjrt_cpu"
echo plugin > "$target/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"
"#;
    fs::write(tools.join("pip"), body).unwrap();
    fs::set_permissions(tools.join("pip"), fs::Permissions::from_mode(0o755)).unwrap();
    Environment::empty().with("PATH", tools).on("linux", "x86_64")
}

fn snapshot(name: &str, text: &str, folder: &Path) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text.replace(&folder.display().to_string(), "FOLDER")));
}

#[test]
fn the_list_before_and_after_an_installation() {
    let folder = tempfile::tempdir().unwrap();
    let (environment, root) = (machine(folder.path()), folder.path().join("engines"));
    snapshot("engine_list_before", &list(&root, &environment, false).unwrap(), folder.path());
    let plan = install::plan(Package::Cpu, &root, &environment).unwrap();
    snapshot("engine_describe", &describe(&plan).unwrap(), folder.path());
    plan.run(&environment).unwrap();
    snapshot("engine_list_after", &list(&root, &environment, false).unwrap(), folder.path());
    let again = install::plan(Package::Cpu, &root, &environment).unwrap();
    assert_eq!(describe(&again).unwrap(), "");
}

#[test]
fn the_list_on_a_machine_without_wheels() {
    let folder = tempfile::tempdir().unwrap();
    let text = list(&folder.path().join("engines"), &Environment::empty().on("macos", "aarch64"), false).unwrap();
    snapshot("engine_list_elsewhere", &text, folder.path());
}

#[test]
fn the_json_names_each_state_and_the_choice() {
    let folder = tempfile::tempdir().unwrap();
    let environment = machine(folder.path()).with_nvidia(Some("580.1"));
    let value: serde_json::Value = serde_json::from_str(&list(folder.path(), &environment, true).unwrap()).unwrap();
    let states: Vec<&str> = value["engines"].as_array().unwrap().iter().map(|engine| engine["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["built in", "available", "available", "available"]);
    assert_eq!(value["chosen"]["engine"], "cpu");
    assert!(value["chosen"]["why"].as_str().unwrap().contains("templar engine install cuda13"));
}

#[test]
fn a_check_in_print() {
    let device = |id, name: &str, memory_bytes| templar_engine::check::DeviceReport {
        device: templar_engine::Device { id, name: name.into(), memory_bytes },
        error: 1.25e-3,
        matrix_tflops: 788.123,
        memory_gb_s: 4312.3,
    };
    let report = CheckReport {
        engine: templar_engine::EngineKind::Pjrt,
        line: "engine pjrt".into(),
        devices: vec![device(0, "NVIDIA H200", Some(150_000_000_000)), device(1, "something", None)],
        compute_type: "bf16".into(),
        matrix_side: 8192,
        pass_bytes: 2 << 30,
        compile_s: 1.5,
    };
    snapshot("engine_check", &check_text(&report).unwrap(), Path::new("FOLDER"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["devices"][0]["name"], "NVIDIA H200");
}
