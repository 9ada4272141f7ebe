//! Installation with scripts in the place of uv and pip.

use super::*;

/// Writes an executable shell script that finds the system's own commands.
pub(crate) fn script(folder: &Path, name: &str, body: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Lays out a package in `root` as an installation leaves it, with files of one byte.
pub(crate) fn pretend_installed(package: Package, root: &Path) {
    let plan = InstallPlan { package, root: root.to_owned(), tools: Vec::new() };
    let wheels = plan.directory();
    let toolkit = package.toolkit().map(|toolkit| Path::new("nvidia").join(toolkit));
    let tools = toolkit.iter().flat_map(|toolkit| [toolkit.join("bin/ptxas"), toolkit.join("nvvm/libdevice/libdevice.10.bc")]);
    let libraries = package.libraries().iter().map(|(folder, name)| ["nvidia", folder, "lib", name].iter().collect::<PathBuf>());
    for file in tools.chain(libraries).chain([package.plugin().to_owned()]).map(|file| wheels.join(file)) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, b"x").unwrap();
    }
    plan.mark(&Plugin::in_wheels(package, &wheels).unwrap()).unwrap();
}

/// A pip that notes its words in `log` and installs the CPU plugin; `before` runs when it has written the plugin and before it ends.
fn fake(log: &Path, before: &str) -> String {
    format!(
        r#"case "$*" in *--version|*--help) exit 0;; esac
echo "$(basename "$0") $*" >> '{log}'
while [ $# -gt 0 ]; do case "$1" in --target) target=$2; shift;; -r) requirements=$2; shift;; esac; shift; done
grep -q 'hash=sha256:[0-9a-f]' "$requirements" || exit 9
mkdir -p "$target/lammps_jax_pjrt_cpu"
echo plugin > "$target/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"
{before}"#,
        log = log.display()
    )
}

struct Machine {
    folder: tempfile::TempDir,
    environment: Environment,
}

impl Machine {
    /// A Linux machine on x86-64 with these scripts in its PATH.
    fn new(scripts: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        let machine = Self { environment: Environment::empty().with("PATH", &tools).on("linux", "x86_64"), folder };
        for (name, before) in scripts {
            script(&tools, name, &fake(&machine.log(), before));
        }
        machine
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("engines")
    }

    fn install(&self) -> Result<Outcome> {
        plan(Package::Cpu, &self.root(), &self.environment)?.run(&self.environment)
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.log()).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_preferred_tool_installs_exactly_the_pinned_wheels() {
    let machine = Machine::new(&[("uv", ""), ("pip", "")]);
    let outcome = machine.install().unwrap();
    assert!(matches!(outcome, Outcome::Installed(_)));
    let plugin = outcome.plugin().clone();
    assert!(plugin.file.ends_with("engines/cpu/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"));
    assert_eq!(status(Package::Cpu, &machine.root()), Status::Installed(plugin));
    let [call] = &machine.calls()[..] else { panic!("{:?}", machine.calls()) };
    for part in ["uv pip install --target", "--no-deps", "--only-binary :all:", "--require-hashes", "-r "] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    assert_eq!(fs::read_to_string(machine.root().join("cpu/requirements.txt")).unwrap(), Package::Cpu.requirements());
}

#[test]
fn what_is_shown_is_what_is_run() {
    let machine = Machine::new(&[("python3", "")]);
    let plan = plan(Package::Cpu, &machine.root(), &machine.environment).unwrap();
    let shown = plan.command().unwrap();
    assert!(!machine.root().exists(), "planning changed the disk");
    plan.run(&machine.environment).unwrap();
    assert_eq!(machine.calls(), [shown]);
}

#[test]
fn a_second_installation_does_nothing() {
    let machine = Machine::new(&[("pip", "")]);
    machine.install().unwrap();
    let again = plan(Package::Cpu, &machine.root(), &Environment::empty().on("plan9", "vax")).unwrap();
    assert!(again.is_done() && again.command().is_none());
    assert!(matches!(again.run(&Environment::empty()).unwrap(), Outcome::AlreadyThere(_)));
    assert_eq!(machine.calls().len(), 1);
}

#[test]
fn of_two_installations_at_once_one_does_the_work() {
    let machine = Machine::new(&[("pip", "")]);
    // Both are planned before either runs, so both find that there is work.
    let plans = [(); 2].map(|()| plan(Package::Cpu, &machine.root(), &machine.environment).unwrap());
    let outcomes = std::thread::scope(|scope| {
        let threads = plans.each_ref().map(|plan| scope.spawn(|| plan.run(&machine.environment).unwrap()));
        threads.map(|thread| thread.join().unwrap())
    });
    let installed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Installed(_))).count();
    assert_eq!((installed, machine.calls().len()), (1, 1), "{outcomes:?}");
}

#[test]
fn a_tool_that_fails_leaves_nothing_and_the_next_is_asked() {
    let machine = Machine::new(&[("uv", "exit 3"), ("pip", "exit 4")]);
    let error = machine.install().unwrap_err().to_string();
    assert!(error.contains("`uv pip`: exit status: 3; `pip`: exit status: 4"), "{error}");
    assert_eq!(status(Package::Cpu, &machine.root()), Status::Absent);
    assert!(!machine.root().join(".cpu.partial").exists());

    let machine = Machine::new(&[("uv", "exit 3"), ("pip", "")]);
    assert!(matches!(machine.install().unwrap(), Outcome::Installed(_)));
}

#[test]
fn a_tool_that_installs_something_else_is_refused() {
    let machine = Machine::new(&[("pip", r#"rm "$target/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so""#)]);
    let error = machine.install().unwrap_err().to_string();
    assert!(error.contains("lacks lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"), "{error}");
    assert_eq!(status(Package::Cpu, &machine.root()), Status::Absent);
}

/// The states in which a killed installation leaves the disk: each is no installation, and the next one completes it.
#[test]
fn every_stage_of_a_killed_installation_counts_as_nothing() {
    let stages: [fn(&Path); 3] = [
        |root| fs::rename(root.join("cpu"), root.join(".cpu.partial")).unwrap(),
        |root| fs::remove_file(root.join("cpu").join(MARKER)).unwrap(),
        |root| fs::write(root.join("cpu").join(MARKER), "{\"package\": \"c").unwrap(),
    ];
    for (number, stage) in stages.into_iter().enumerate() {
        let machine = Machine::new(&[("pip", "")]);
        machine.install().unwrap();
        stage(&machine.root());
        assert_eq!(status(Package::Cpu, &machine.root()), Status::Absent, "stage {number}");
        assert!(matches!(machine.install().unwrap(), Outcome::Installed(_)), "stage {number}");
        assert!(!machine.root().join(".cpu.partial").exists(), "stage {number}");
    }
}

#[test]
fn a_plugin_cut_short_does_not_count() {
    let machine = Machine::new(&[("pip", "")]);
    let plugin = machine.install().unwrap().plugin().file.clone();
    fs::write(plugin, "").unwrap();
    assert_eq!(status(Package::Cpu, &machine.root()), Status::Absent);
}

#[test]
fn other_versions_are_replaced() {
    let machine = Machine::new(&[("pip", "")]);
    machine.install().unwrap();
    let marker = machine.root().join("cpu").join(MARKER);
    let text = fs::read_to_string(&marker).unwrap().replace(&Package::Cpu.pins().to_string(), &Package::Cuda12.pins().to_string());
    fs::write(&marker, text).unwrap();
    assert_eq!(status(Package::Cpu, &machine.root()), Status::Outdated);
    assert!(matches!(machine.install().unwrap(), Outcome::Installed(_)));
    assert!(matches!(status(Package::Cpu, &machine.root()), Status::Installed(_)));
}

#[test]
fn a_machine_without_wheels_is_refused_before_any_tool() {
    let machine = Machine::new(&[("pip", "")]);
    let error = plan(Package::Cpu, &machine.root(), &machine.environment.clone().on("linux", "aarch64")).unwrap_err();
    assert!(matches!(error, EngineError::Platform { .. }), "{error}");
    assert!(machine.calls().is_empty());
}
