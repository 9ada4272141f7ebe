//! The flags by which every command that trains or evaluates is given its engine.

use clap::{Args, ValueEnum};
use miette::IntoDiagnostic;
use std::path::PathBuf;
use templar_engine::{Engine, EngineKind, EngineRequest, Environment, OpenOptions, open};
use templar_model::Recompute;

/// A kind of engine, as it is named at the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// The executor of this binary.
    Cpu,
    /// XLA behind a PJRT plugin.
    Pjrt,
}

/// What the backward pass computes again instead of keeping it in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RecomputeArg {
    /// Nothing.
    #[default]
    None,
    /// All but the results of products and attention.
    Selective,
    /// Everything but what blocks consume.
    Full,
}

impl From<RecomputeArg> for Recompute {
    fn from(arg: RecomputeArg) -> Self {
        match arg {
            RecomputeArg::None => Recompute::None,
            RecomputeArg::Selective => Recompute::Selective,
            RecomputeArg::Full => Recompute::Full,
        }
    }
}

/// Where the flags stand in the help. A heading for all that comes next would hold for the flags of others, too.
const HEADING: &str = "Engine";

/// Which engine runs array programs; without any of them, the best that is installed.
#[derive(Clone, Debug, Default, Args)]
pub struct EngineFlags {
    /// What runs array programs; without it, the best that is installed.
    #[arg(long, help_heading = HEADING, value_name = "KIND")]
    engine: Option<EngineArg>,
    /// The plugin's file, instead of TEMPLAR_PJRT_PLUGIN or the installed one.
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pjrt_plugin: Option<PathBuf>,
    /// Devices to use; without it, all of the engine's.
    #[arg(long, help_heading = HEADING, visible_alias = "gpus", value_name = "N")]
    devices: Option<usize>,
    /// Share of each GPU's memory to take at once [default: 0.93].
    #[arg(long, help_heading = HEADING, value_name = "SHARE", value_parser = share)]
    gpu_memory: Option<f32>,
}

fn share(text: &str) -> Result<f32, String> {
    let share = text.parse::<f32>().map_err(|error| error.to_string())?;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("it must be above 0 and at most 1".to_owned()) }
}

impl EngineFlags {
    /// What the flags ask for.
    pub fn request(&self) -> EngineRequest {
        let engine = self.engine.map(|engine| match engine {
            EngineArg::Cpu => EngineKind::Cpu,
            EngineArg::Pjrt => EngineKind::Pjrt,
        });
        EngineRequest { engine, plugin: self.pjrt_plugin.clone(), devices: self.devices }
    }

    /// The same flags, with `engine` where none was asked for.
    pub fn or_engine(&self, engine: EngineArg) -> Self {
        Self { engine: self.engine.or(Some(engine)), ..self.clone() }
    }

    /// The same flags, with one device where no number was asked for.
    pub fn or_one_device(&self) -> Self {
        Self { devices: self.devices.or(Some(1)), ..self.clone() }
    }

    /// Opens the engine and says on standard error which it is and why.
    ///
    /// # Errors
    /// What was asked for is not there or does not work.
    pub fn open(&self) -> miette::Result<Engine> {
        self.open_with(OpenOptions::default())
    }

    /// As [`EngineFlags::open`], with other options than a command that trains has; a share of memory among the flags wins.
    ///
    /// # Errors
    /// As [`EngineFlags::open`].
    pub fn open_with(&self, options: OpenOptions) -> miette::Result<Engine> {
        let options = OpenOptions { memory_fraction: self.gpu_memory.or(options.memory_fraction), ..options };
        let engine = open(&self.request(), &Environment::of_process(), &options).into_diagnostic()?;
        eprintln!("{}", engine.line);
        Ok(engine)
    }

    /// The same flags for one of `processes` that share the machine: each takes its part of the GPUs' memory.
    pub fn divided(&self, processes: usize) -> Self {
        let share = self.gpu_memory.unwrap_or(0.9) / processes.max(1) as f32;
        Self { gpu_memory: Some(share), ..self.clone() }
    }

    /// The flags as words for a process of this binary.
    pub fn words(&self) -> Vec<String> {
        let kind = self.engine.map(|engine| engine.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()));
        let plugin = self.pjrt_plugin.as_ref().map(|plugin| plugin.to_string_lossy().into_owned());
        let flags = [
            ("--engine", kind),
            ("--pjrt-plugin", plugin),
            ("--devices", self.devices.map(|devices| devices.to_string())),
            ("--gpu-memory", self.gpu_memory.map(|share| share.to_string())),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: EngineFlags,
    }

    #[test]
    fn the_words_for_a_process_are_read_as_the_same_flags() {
        let line = ["x", "--engine", "pjrt", "--pjrt-plugin", "/p.so", "--devices", "2", "--gpu-memory", "0.5"];
        let flags = Line::try_parse_from(line).expect("flags").flags;
        assert_eq!(flags.words(), line[1..]);
        assert_eq!(Line::try_parse_from(["x"]).expect("no flags").flags.words(), [""; 0]);
        let part = flags.divided(4).words();
        assert_eq!(part.last().map(String::as_str), Some("0.125"));
    }

    #[test]
    fn a_share_of_memory_is_a_share() {
        for wrong in ["0", "1.5", "-1", "half", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
