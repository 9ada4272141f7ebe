//! The flags of the reference's miner and validator: those with a meaning here are taken, so that its users' scripts start this program; all
//! others are refused with what to use instead. docs/reference-flags.md lists them.

use super::{
    engine::args::{EngineArg, EngineFlags},
    refuse::{Refusals, Table},
};
use clap::{Args, ValueEnum};
use miette::miette;
use std::path::{Path, PathBuf};

/// What computes, in the reference's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    /// NVIDIA GPUs, through an installed engine.
    Cuda,
    /// The processor.
    Cpu,
}

/// Where the flags stand in the help. A heading for all that comes next would hold for the flags of others, too.
const HEADING: &str = "As in the reference";

/// Flags of the reference that have a meaning here.
#[derive(Clone, Debug, Args)]
pub struct ReferenceFlags {
    /// What computes: cuda for --engine pjrt, cpu for --engine cpu.
    #[arg(long, help_heading = HEADING, value_name = "cuda|cpu", conflicts_with = "engine", hide_possible_values = true)]
    device: Option<DeviceArg>,
    /// Names the default directory of the node.
    #[arg(long, help_heading = HEADING, value_name = "NAME", default_value = "templar")]
    project: String,
    /// Join only a run with the small model of local networks: --params local.
    #[arg(long, help_heading = HEADING, conflicts_with = "params")]
    local: bool,
    #[command(flatten)]
    refused: Refusals<Reference>,
}

impl ReferenceFlags {
    /// The engine's flags with the device that was asked for.
    pub fn engine(&self, flags: &EngineFlags) -> EngineFlags {
        match self.device {
            Some(DeviceArg::Cuda) => flags.or_engine(EngineArg::Pjrt),
            Some(DeviceArg::Cpu) => flags.or_engine(EngineArg::Cpu),
            None => flags.clone(),
        }
    }

    /// The hyper-parameters that are insisted on: `given`, or those of a local network.
    pub fn params<'a>(&self, given: Option<&'a str>) -> Option<&'a str> {
        if self.local { Some("local") } else { given }
    }

    /// The directory of a node that was given none.
    ///
    /// # Errors
    /// The home folder is unknown, or the project is no name for a folder.
    pub fn default_dir(&self, role: &str, wallet: &str, hotkey: &str) -> miette::Result<PathBuf> {
        let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local").join("share")));
        let base = base.ok_or_else(|| miette!(help = "give the node's directory with --dir", "the home folder is unknown"))?;
        self.dir_below(&base, role, wallet, hotkey)
    }

    fn dir_below(&self, base: &Path, role: &str, wallet: &str, hotkey: &str) -> miette::Result<PathBuf> {
        for name in [&self.project, wallet, hotkey] {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(plain) {
                let help = "use letters, digits, `-`, `_` and `.`, or give the directory with --dir";
                return Err(miette!(help = help, "{name:?} cannot be part of the name of the node's directory"));
            }
        }
        Ok(base.join("templar").join(&self.project).join(role).join(format!("{wallet}.{hotkey}")))
    }
}

/// Flags of the reference without a meaning here, and those that upstream's documents and templates name although the reference ignores them.
pub struct Reference;

const NO_LOG: &str = "a node writes a journal, docs/journal.md, and has no levels of detail; leave it out";
const BATCH: &str = "the samples of a window are the run's; memory is saved with --recompute and --devices, and `templar plan` tells what fits; leave it out";
const NO_AXON: &str = "a node serves nothing: peers read its bucket, which --bucket names; leave it out";
const STRICT: &str = "unknown keys of templar.toml are always refused; leave it out";

impl Table for Reference {
    const FLAGS: &'static [(&'static str, &'static str)] = &[
        ("actual-batch-size", BATCH),
        ("actual_batch_size", BATCH),
        ("amp-dtype", "an engine computes in bfloat16 on GPUs and in float32 on the processor; leave it out"),
        ("local_rank", "one process drives all devices; start the program itself, without torchrun, and say how many with --devices"),
        ("local-rank", "one process drives all devices; start the program itself, without torchrun, and say how many with --devices"),
        ("debug", NO_LOG),
        ("trace", NO_LOG),
        ("logging.debug", NO_LOG),
        ("logging.trace", NO_LOG),
        ("logging.info", NO_LOG),
        ("logging.record_log", NO_LOG),
        ("logging.enable_third_party_loggers", NO_LOG),
        ("logging.logging_dir", "the journal is in the node's directory, which --dir names"),
        (
            "store-gathers",
            "objects of a window stay in their buckets for as long as the run keeps them; read one with `templar object inspect`",
        ),
        ("test", "try a network on one machine with `templar localnet`"),
        ("profile-iters", "profile whole windows with --profile-windows N"),
        ("profile-dir", "profiles go to profiles/ in the node's directory, which --dir names"),
        ("use_wandb", "nothing is sent to a service; the journal, docs/journal.md, has the figures; leave it out"),
        ("use-wandb", "nothing is sent to a service; the journal, docs/journal.md, has the figures; leave it out"),
        ("enable-influxdb", "nothing is sent to a service; the journal, docs/journal.md, has the figures; leave it out"),
        ("sync_state", "a start always loads the newest checkpoint; a running miner does after --resync"),
        ("sync-state", "a start always loads the newest checkpoint; a running miner does after --resync"),
        ("peers", "whom a window gathers is decided by the validators; leave it out"),
        ("strict", STRICT),
        ("no_version_checking", "nothing is asked of a package index; leave it out"),
        ("no_prompt", "a node asks for nothing but an encrypted hotkey's password; give --password-file or --password-fd"),
        ("axon.port", NO_AXON),
        ("axon.ip", NO_AXON),
        ("axon.external_ip", NO_AXON),
        ("axon.external_port", NO_AXON),
        ("subtensor._mock", "run a chain on this machine with `templar localnet` or `templar chain serve`"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        reference: ReferenceFlags,
        #[command(flatten)]
        engine: EngineFlags,
        #[arg(long)]
        params: Option<String>,
    }

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["x"], words].concat())
    }

    #[test]
    fn device_and_local_mean_what_they_mean_here() {
        let cli = parse(&["--device", "cpu", "--local"]).expect("both are taken");
        let engine = cli.reference.engine(&cli.engine);
        assert_eq!(engine.words(), ["--engine", "cpu"]);
        assert_eq!(cli.reference.params(None), Some("local"));
        let cuda = parse(&["--device", "cuda"]).expect("it is taken");
        assert_eq!(cuda.reference.engine(&cuda.engine).words(), ["--engine", "pjrt"]);
        assert!(parse(&["--device", "cpu", "--engine", "pjrt"]).is_err(), "two words for one thing");
        assert!(parse(&["--local", "--params", "8B"]).is_err(), "two words for one thing");
    }

    #[test]
    fn a_node_without_a_directory_gets_one_by_project_and_keys() {
        let flags = |project: &str| parse(&["--project", project]).expect("it is taken").reference;
        let dir = flags("mine").dir_below(Path::new("/share"), "miner", "w", "h").expect("all are names");
        assert_eq!(dir, Path::new("/share/templar/mine/miner/w.h"));
        for project in ["../x", "a/b", "", ".x"] {
            assert!(flags(project).dir_below(Path::new("/share"), "miner", "w", "h").is_err(), "{project:?}");
        }
    }

    #[test]
    fn every_refused_flag_says_what_to_do_and_is_documented() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference-flags.md")).expect("the page is there");
        for (flag, instead) in Reference::FLAGS {
            let error = parse(&[&format!("--{flag}"), "7"]).expect_err("it is refused").to_string();
            assert!(error.contains(instead), "{error}");
            assert!(page.contains(&format!("`--{flag}`")), "--{flag} is not on the page");
        }
    }
}
