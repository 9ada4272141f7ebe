//! The nodes that `diagnose`, `alerts`, `monitor` and `leaderboard` look at: directories on this machine, or buckets of published score sheets.

use super::evidence::bucket;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::{Path, PathBuf};
use templar_ops::diagnose::miners_of;
use templar_ops::probe::is_running;
use templar_ops::sheets::from_bucket;
use templar_ops::watch::{Followed, NodeRecord, node_dirs, record_of_sheets};

/// The directory without any flag.
const DIR: &str = "localnet";

/// Which nodes.
#[derive(Clone, Debug, Args)]
pub struct NodesArgs {
    /// A node's directory, or a localnet's for all its nodes; may be given several times [default: localnet].
    #[arg(long, value_name = "DIR", conflicts_with = "validator")]
    dir: Vec<PathBuf>,
    /// The URL of a validator's bucket, whose published sheets are read; may be given several times.
    #[arg(long, visible_alias = "url", value_name = "URL")]
    validator: Vec<String>,
}

/// The nodes, and what is known of them so far.
pub struct Nodes {
    followed: Vec<Followed>,
    /// Nodes beside the one that is meant, which tell of it.
    beside: Vec<Followed>,
    urls: Vec<String>,
    sheets: Vec<NodeRecord>,
    /// Miners that are known from sheets alone.
    unseen: Vec<NodeRecord>,
}

impl NodesArgs {
    /// Finds the nodes and reads what there is of them.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub fn open(&self) -> miette::Result<Nodes> {
        let default = [PathBuf::from(DIR)];
        let asked: &[PathBuf] = if self.dir.is_empty() && self.validator.is_empty() { &default } else { &self.dir };
        let mut dirs = Vec::new();
        for dir in asked {
            let found = node_dirs(dir);
            if found.is_empty() {
                let help = "name a node's directory or a localnet's with --dir, or a validator's bucket with --validator";
                return Err(miette!(help = help, "there is no node's journal in {}", dir.display()));
            }
            dirs.extend(found);
        }
        let followed: Vec<Followed> = dirs.iter().map(|dir| Followed::new(dir)).collect();
        let beside = siblings(&dirs).iter().map(|dir| Followed::new(dir)).collect();
        let mut nodes = Nodes { followed, beside, urls: self.validator.clone(), sheets: vec![], unseen: vec![] };
        nodes.read()?;
        Ok(nodes)
    }
}

/// The other nodes of a local network of which only one was named.
fn siblings(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let [dir] = dirs else { return vec![] };
    let Ok(dir) = dir.canonicalize() else { return vec![] };
    let root = dir.parent().filter(|nodes| nodes.file_name().is_some_and(|name| name == "nodes")).and_then(Path::parent);
    root.map(node_dirs).unwrap_or_default().into_iter().filter(|other| *other != dir).collect()
}

impl Nodes {
    /// Takes in what is new; says whether there was anything.
    ///
    /// # Errors
    /// A journal or a bucket cannot be read.
    pub fn read(&mut self) -> miette::Result<bool> {
        let mut any = false;
        for node in self.followed.iter_mut().chain(&mut self.beside) {
            any |= node.read().into_diagnostic().wrap_err_with(|| format!("the journal in {} cannot be read", node.dir.display()))?;
        }
        if !self.urls.is_empty() {
            let runtime = crate::runtime()?;
            let mut sheets = Vec::new();
            for url in &self.urls {
                let (bucket, _) = bucket(url)?;
                let read = runtime.block_on(from_bucket(&bucket, None)).map_err(|error| super::explain::missing(&error))?;
                sheets.push(record_of_sheets(&read));
            }
            any |= sheets != self.sheets;
            self.sheets = sheets;
            self.unseen = miners_of(&self.sheets.iter().collect::<Vec<_>>());
        }
        Ok(any)
    }

    /// Whether buckets are asked, which should not happen often.
    pub fn remote(&self) -> bool {
        !self.urls.is_empty()
    }

    /// All records that are known, those beside too.
    pub fn all(&self) -> Vec<&NodeRecord> {
        self.followed.iter().chain(&self.beside).map(|node| &node.record).chain(&self.sheets).collect()
    }

    /// The nodes that are meant, each with whether its process is up, where that is known.
    pub fn meant(&self) -> Vec<(&NodeRecord, Option<bool>)> {
        let here = self.followed.iter().map(|node| (&node.record, is_running(&node.dir)));
        let there = self.sheets.iter().chain(&self.unseen).map(|record| (record, None));
        here.chain(there).collect()
    }
}
