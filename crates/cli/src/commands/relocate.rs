//! `templar node export` and `import`: a node's own state, from one machine to another.

use super::node::open_dir;
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, miette};
use std::path::PathBuf;
use templar_ops::relocate::{Moved, pack, unpack};

/// Move a node to another machine with its residual, moments, sealed object, scores and journal.
#[derive(Debug, Args)]
pub struct RelocateArgs {
    #[command(subcommand)]
    command: RelocateCommand,
}

#[derive(Debug, Subcommand)]
enum RelocateCommand {
    /// Pack the state of a node that does not run into an archive for its owner alone; keys and settings are not in it.
    Export(ExportArgs),
    /// Unpack an archive into a directory that is not there yet, with every digest checked.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// The node's directory.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The archive to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The archive.
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// The node's directory; not there yet, or empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl RelocateArgs {
    /// Packs or unpacks.
    ///
    /// # Errors
    /// The node runs, the archive is damaged, the disk refused.
    pub fn run(self) -> miette::Result<()> {
        match self.command {
            RelocateCommand::Export(ExportArgs { dir, out }) => {
                if !dir.is_dir() {
                    return Err(miette!(help = "name the directory of a node that has run", "there is no directory {}", dir.display()));
                }
                let help = "end it first: `templar miner --drain --dir DIR`";
                // Held until it is packed: nobody may start the node meanwhile.
                let lock = open_dir(&dir)?.ok_or_else(|| miette!(help = help, "a node runs in {}", dir.display()))?;
                let files = pack(&dir, &out).into_diagnostic()?;
                drop(lock);
                println!("{}: {}", out.display(), summary(&files));
                println!(
                    "do not start the node here again while it runs elsewhere: two nodes with one hotkey overwrite each other's objects"
                );
            }
            RelocateCommand::Import(ImportArgs { archive, dir }) => {
                let files = unpack(&archive, &dir).into_diagnostic()?;
                println!("{}: {}, every digest as it was packed", dir.display(), summary(&files));
                println!("bring the hotkey and the settings, then: templar doctor --preflight --dir {}", dir.display());
            }
        }
        Ok(())
    }
}

fn summary(files: &[Moved]) -> String {
    let bytes: u64 = files.iter().map(|moved| moved.bytes).sum();
    format!("{} files, {bytes} bytes", files.len())
}
