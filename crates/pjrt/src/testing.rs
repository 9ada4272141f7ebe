//! Where tests of this workspace find a plugin.

use std::path::PathBuf;

/// Set to leave out what needs a plugin.
const WITHOUT: &str = "TEMPLAR_TESTS_WITHOUT_PJRT";
/// Names another plugin than the one that the test command installs.
const PLUGIN: &str = "TEMPLAR_TEST_PLUGIN";
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/engines/cpu/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so");

/// The CPU plugin that `cargo xtask test` installs; `None` when `TEMPLAR_TESTS_WITHOUT_PJRT` is set.
///
/// # Panics
/// When there is none, with what to do.
pub fn cpu_plugin() -> Option<PathBuf> {
    if std::env::var_os(WITHOUT).is_some() {
        return None;
    }
    let path = std::env::var_os(PLUGIN).map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from);
    assert!(
        path.exists(),
        "no PJRT plugin at {}: `cargo xtask engine` installs it (`cargo xtask test` does so by itself), {PLUGIN} names another one, \
         and {WITHOUT}=1 leaves out the tests that need one",
        path.display()
    );
    Some(path)
}
