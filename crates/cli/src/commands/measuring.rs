//! What losses are measured again with, shared by `judge` and `verify`.

use super::engine::args::EngineFlags;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use templar_tensor::Executor;

/// Data, engine and threads of a measurement.
#[derive(Debug, Args)]
pub struct MeasuringFlags {
    /// The data set: its directory or its bucket [default: the places that the run names].
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<String>,
    /// Where fetched shards of the data set are kept [default: a temporary folder].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads to measure with [default: all cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    engine: EngineFlags,
}

impl MeasuringFlags {
    /// The folder of fetched shards, `otherwise` where none is named.
    pub fn cache_or(&self, otherwise: &Path) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| otherwise.to_owned())
    }

    /// Threads to measure with.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// What runs array programs.
    ///
    /// # Errors
    /// No engine works.
    pub fn executor(&self) -> miette::Result<Arc<dyn Executor>> {
        Ok(self.engine.open()?.executor)
    }
}
