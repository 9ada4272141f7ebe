//! The check against the CPU plugin that the test command installs.

#![allow(clippy::unwrap_used)]

use std::time::Duration;
use templar_engine::check::{CheckLimits, check};
use templar_engine::{EngineKind, EngineRequest, Environment, OpenOptions, open};

#[test]
fn every_device_of_a_plugin_is_checked() {
    let Some(plugin) = templar_pjrt::testing::cpu_plugin() else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::empty().with("TEMPLAR_ENGINE_DIR", folder.path());
    let request = EngineRequest { plugin: Some(plugin), devices: Some(3), ..EngineRequest::default() };
    let engine = open(&request, &environment, &OpenOptions::default()).unwrap();
    assert_eq!((engine.kind, engine.devices.len()), (EngineKind::Pjrt, 3));
    assert!(engine.line.contains("3 × cpu by ") && engine.line.contains("--pjrt-plugin names it"), "{}", engine.line);
    let tiny = Duration::from_millis(1);
    let limits = CheckLimits { side_max: 256, elements_max: 1 << 16, long_enough: tiny, measure_for: tiny };
    let report = check(&engine, limits).unwrap();
    assert_eq!(report.devices.len(), 3);
    assert!(report.devices.iter().all(|device| device.error < 1e-5 && device.matrix_tflops > 0.0), "{report:?}");
    assert!(folder.path().join("compiled").read_dir().unwrap().count() > 0, "compiled programs were not kept");
}

#[test]
fn more_devices_than_there_are_is_said() {
    let Some(plugin) = templar_pjrt::testing::cpu_plugin() else { return };
    // A name from which nothing can be told, so the plugin makes the devices that it makes by itself.
    let folder = tempfile::tempdir().unwrap();
    let unnamed = folder.path().join("plugin.so");
    std::os::unix::fs::symlink(plugin, &unnamed).unwrap();
    let request = EngineRequest { plugin: Some(unnamed), devices: Some(64), ..EngineRequest::default() };
    let error = open(&request, &Environment::empty(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("64 devices were asked for, there are"), "{error}");
}
