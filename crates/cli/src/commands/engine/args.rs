//! The flags by which every command that trains or evaluates is given its engine.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use templar_engine::{EngineKind, EngineRequest};

/// A kind of engine, as it is named at the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// The executor of this binary.
    Cpu,
    /// XLA behind a PJRT plugin.
    Pjrt,
}

/// Which engine runs array programs; without any of them, the best that is installed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineFlags {
    /// What runs array programs; without it, the best that is installed.
    #[arg(long, value_name = "KIND")]
    engine: Option<EngineArg>,
    /// The plugin's file, instead of TEMPLAR_PJRT_PLUGIN or the installed one.
    #[arg(long, value_name = "FILE")]
    pjrt_plugin: Option<PathBuf>,
    /// Devices to use; without it, all of the engine's.
    #[arg(long, value_name = "N")]
    devices: Option<usize>,
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
}
