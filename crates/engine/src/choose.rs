//! The choice of an engine: what was asked for, else the best that is installed, with the reason in one line.
//!
//! Choosing looks at settings and files only; it opens no plugin. The PJRT plugin for processors is never chosen by itself: the executor of
//! the binary is the better one for real work without a GPU, and the plugin is there to compare programs.

use crate::{EngineError, Environment, Package, Plugin, Result, Status, install, locate};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The executor for processors that is part of the binary.
    Cpu,
    /// XLA behind a PJRT plugin.
    Pjrt,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Pjrt => "pjrt",
        })
    }
}

/// What flags or a configuration ask for; nothing means the best there is.
#[derive(Clone, Debug, Default)]
pub struct EngineRequest {
    /// The kind of engine.
    pub engine: Option<EngineKind>,
    /// A plugin's file; it overrides `TEMPLAR_PJRT_PLUGIN`.
    pub plugin: Option<PathBuf>,
    /// Devices to use; without it, all.
    pub devices: Option<usize>,
}

/// Which engine, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The plugin; none for the executor of the binary.
    pub plugin: Option<Plugin>,
    /// Why this one, as the end of the sentence "engine X: …".
    pub why: String,
    /// Whether it was asked for. Otherwise the executor of the binary takes its place when it cannot be opened.
    pub required: bool,
    /// Devices to use; without it, all.
    pub devices: Option<usize>,
}

impl Choice {
    /// The kind of engine.
    pub fn kind(&self) -> EngineKind {
        if self.plugin.is_some() { EngineKind::Pjrt } else { EngineKind::Cpu }
    }

    fn cpu(why: String) -> Self {
        Self { plugin: None, why, required: false, devices: None }
    }
}

/// Chooses among the binary's executor, a plugin that is named, and the packages installed in `root`.
///
/// # Errors
/// [`EngineError::Missing`] for a named plugin that is not there, [`EngineError::NoPlugin`] when a plugin is asked for and none is installed,
/// [`EngineError::Contradiction`] for settings that exclude each other.
pub fn choose(request: &EngineRequest, root: &Path, environment: &Environment) -> Result<Choice> {
    if request.devices == Some(0) {
        return Err(EngineError::Contradiction { what: "0 devices run nothing: leave --devices out to use all".into() });
    }
    match request.engine {
        Some(EngineKind::Cpu) => chosen_cpu(request),
        kind => chosen_plugin(kind, request, root, environment).map(|choice| Choice { devices: request.devices, ..choice }),
    }
}

fn chosen_cpu(request: &EngineRequest) -> Result<Choice> {
    let contradiction = |what: &str| Err(EngineError::Contradiction { what: what.to_owned() });
    match (&request.plugin, request.devices) {
        (Some(_), _) => contradiction("--pjrt-plugin names a plugin and --engine cpu asks for none: leave one of them out"),
        (None, Some(2..)) => contradiction("the engine cpu is one device: leave --devices out, or use --engine pjrt"),
        _ => Ok(Choice { required: true, ..Choice::cpu("asked for".into()) }),
    }
}

fn chosen_plugin(kind: Option<EngineKind>, request: &EngineRequest, root: &Path, environment: &Environment) -> Result<Choice> {
    let named = |plugin, why: &str| Ok(Choice { plugin: Some(plugin), why: why.to_owned(), required: true, devices: None });
    if let Some(file) = &request.plugin {
        return named(Plugin::at(file, locate::preload_of(environment), "--pjrt-plugin")?, "--pjrt-plugin names it");
    }
    if let Some(plugin) = Plugin::of_environment(environment)? {
        return named(plugin, "TEMPLAR_PJRT_PLUGIN names it");
    }
    let asked = kind.is_some();
    let gpu = installed_gpu(root, environment);
    match (gpu, asked) {
        (Ok((package, plugin)), _) => {
            let why = format!("{package} is installed and there is an NVIDIA driver");
            Ok(Choice { plugin: Some(plugin), why, required: asked, devices: None })
        }
        (Err(why), false) if request.devices.is_some_and(|devices| devices > 1) => {
            Err(EngineError::Contradiction { what: format!("several devices need an engine with GPUs, and {why}") })
        }
        (Err(why), false) => Ok(Choice::cpu(why)),
        (Err(why), true) => match install::status(Package::Cpu, root) {
            Status::Installed(plugin) => {
                let why = format!("asked for, and {why}, so XLA runs on the processor");
                Ok(Choice { plugin: Some(plugin), why, required: true, devices: None })
            }
            _ => Err(EngineError::NoPlugin { why }),
        },
    }
}

/// The best package for GPUs that is installed and that this machine's driver can run; otherwise why there is none.
fn installed_gpu(root: &Path, environment: &Environment) -> std::result::Result<(Package, Plugin), String> {
    let driver = environment.nvidia().ok_or("there is no NVIDIA driver on this machine")?;
    let mut why = None;
    for package in Package::ALL.into_iter().rev().filter(|package| package.is_gpu()) {
        let runs = driver.major.is_none_or(|major| major >= package.least_driver());
        match install::status(package, root) {
            Status::Installed(plugin) if runs => return Ok((package, plugin)),
            Status::Installed(_) => why = Some(format!("{package} needs driver {} and this one is {driver}", package.least_driver())),
            Status::Outdated => why = why.or(Some(format!("{package} is installed in other versions: `templar engine install {package}`"))),
            Status::Absent if runs => {
                why = why.or(Some(format!("no engine for GPUs is installed: `templar engine install {package}` does that")));
            }
            Status::Absent => {}
        }
    }
    Err(why.unwrap_or_else(|| format!("the NVIDIA driver {driver} is too old for every engine: 525 is the least")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::tests::pretend_installed;

    struct Machine {
        root: tempfile::TempDir,
        environment: Environment,
    }

    impl Machine {
        fn new(installed: &[Package], driver: Option<&str>) -> Self {
            let root = tempfile::tempdir().unwrap();
            installed.iter().for_each(|package| pretend_installed(*package, root.path()));
            Self { root, environment: Environment::empty().with_nvidia(driver) }
        }

        fn choose(&self, request: &EngineRequest) -> Result<Choice> {
            choose(request, self.root.path(), &self.environment)
        }
    }

    fn request(engine: Option<EngineKind>) -> EngineRequest {
        EngineRequest { engine, ..EngineRequest::default() }
    }

    #[test]
    fn without_a_gpu_the_binary_runs_programs_itself() {
        for installed in [&[][..], &[Package::Cpu], &Package::ALL] {
            let choice = Machine::new(installed, None).choose(&request(None)).unwrap();
            assert_eq!((choice.kind(), choice.required), (EngineKind::Cpu, false), "{installed:?}");
            assert!(choice.why.contains("no NVIDIA driver"), "{}", choice.why);
        }
    }

    #[test]
    fn with_a_gpu_the_newest_package_that_its_driver_runs_is_chosen() {
        let both = [Package::Cuda12, Package::Cuda13];
        let cases: [(&[Package], &str, &str); 3] =
            [(&both, "580.159.04", "cuda13"), (&both, "550.90.07", "cuda12"), (&both[..1], "580.159.04", "cuda12")];
        for (installed, driver, want) in cases {
            let choice = Machine::new(installed, Some(driver)).choose(&request(None)).unwrap();
            let file = choice.plugin.unwrap().file;
            assert!(file.to_string_lossy().contains(&format!("xla_{want}")) && !choice.required, "{driver}: {}", file.display());
        }
    }

    #[test]
    fn a_gpu_without_an_engine_says_what_to_install() {
        let cases: [(&[Package], &str, &str); 4] = [
            (&[], "580.1", "templar engine install cuda13"),
            (&[], "550.1", "templar engine install cuda12"),
            (&[Package::Cuda13], "550.1", "cuda13 needs driver 580 and this one is 550.1"),
            (&[], "470.1", "the NVIDIA driver 470.1 is too old"),
        ];
        for (installed, driver, want) in cases {
            let choice = Machine::new(installed, Some(driver)).choose(&request(None)).unwrap();
            assert_eq!(choice.kind(), EngineKind::Cpu);
            assert!(choice.why.contains(want), "{driver}: {}", choice.why);
        }
    }

    #[test]
    fn asking_for_a_plugin_takes_that_for_processors_where_there_is_no_gpu() {
        let asked = request(Some(EngineKind::Pjrt));
        let choice = Machine::new(&[Package::Cpu], None).choose(&asked).unwrap();
        assert!(choice.required && choice.plugin.unwrap().file.ends_with(Package::Cpu.plugin()));
        let error = Machine::new(&[], None).choose(&asked).unwrap_err().to_string();
        assert!(error.contains("no NVIDIA driver") && error.contains("templar engine install cpu"), "{error}");
    }

    #[test]
    fn a_named_plugin_comes_first_and_the_flag_before_the_environment() {
        let mut machine = Machine::new(&Package::ALL, Some("580.1"));
        let files = ["flag.so", "variable.so"].map(|name| machine.root.path().join(name));
        files.iter().for_each(|file| std::fs::write(file, b"x").unwrap());
        machine.environment = machine.environment.clone().with("TEMPLAR_PJRT_PLUGIN", &files[1]);
        let plugin = |request: &EngineRequest| machine.choose(request).unwrap().plugin.map(|plugin| plugin.file);
        assert_eq!(plugin(&request(None)).as_ref(), Some(&files[1]));
        assert_eq!(plugin(&EngineRequest { plugin: Some(files[0].clone()), ..request(None) }).as_ref(), Some(&files[0]));
        assert_eq!(plugin(&request(Some(EngineKind::Cpu))), None);
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused() {
        let machine = Machine::new(&[], None);
        let cpu = request(Some(EngineKind::Cpu));
        for (wrong, want) in [
            (EngineRequest { plugin: Some("x.so".into()), ..cpu.clone() }, "--pjrt-plugin"),
            (EngineRequest { devices: Some(2), ..cpu }, "one device"),
            (EngineRequest { devices: Some(0), ..request(None) }, "0 devices"),
            (EngineRequest { devices: Some(4), ..request(None) }, "several devices need an engine with GPUs"),
        ] {
            let error = machine.choose(&wrong).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
