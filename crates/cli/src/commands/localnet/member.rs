//! A node of a localnet as another command finds it: by its directory alone, which says chain, wallet, bucket and key.

use super::setup::{HOTKEY, credentials, known};
use miette::IntoDiagnostic;
use std::path::{Path, PathBuf};
use templar_store::{BucketUrl, Credentials};

/// A node of a localnet, as its directory tells.
pub struct Member {
    /// The chain's endpoint when the network runs.
    pub chain: String,
    /// The folder of wallets.
    pub wallets: PathBuf,
    /// Its name, also that of its wallet and its bucket.
    pub name: String,
    /// Its hotkey in that wallet.
    pub hotkey: &'static str,
    /// Its bucket when the network runs.
    pub bucket: BucketUrl,
    /// The key of that bucket.
    pub key: Credentials,
}

/// The node of a localnet that has the directory `dir`; none where it is in no localnet.
///
/// # Errors
/// The network's files are damaged.
pub fn member(dir: &Path) -> miette::Result<Option<Member>> {
    let Ok(dir) = dir.canonicalize() else { return Ok(None) };
    let nodes = dir.parent().filter(|nodes| nodes.file_name().is_some_and(|name| name == "nodes"));
    let (Some(root), Some(name)) = (nodes.and_then(Path::parent), dir.file_name().and_then(|name| name.to_str())) else { return Ok(None) };
    let Some(network) = known(root)? else { return Ok(None) };
    Ok(Some(Member {
        chain: format!("http://{}", network.chain),
        wallets: root.join("wallets"),
        name: name.to_owned(),
        hotkey: HOTKEY,
        bucket: BucketUrl::local(network.store, name).into_diagnostic()?,
        key: credentials(root, name)?,
    }))
}
