//! `templar setup --practice`: makes what a miner of a network of one's own still lacks, a hotkey, a bucket with its key and a place for its store, and names the
//! commands that follow.
//!
//! What always holds: what is there stays; nothing is made for a public network, where keys and buckets are not made in passing.

use super::localnet::{free_ports, own_address};
use super::next::quoted;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::net::SocketAddr;
use std::path::Path;
use templar_ops::settings::CONFIG_FILE;
use templar_ops::setup::{Secrets, Values, checked};
use templar_s3::AccessFile;
use templar_store::{BucketUrl, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY};
use templar_subtensor::Network;
use templar_wallet::{Slot, WalletDir};

/// The name of the bucket, also that of the node's directory.
const MINER: &str = "miner";
const ACCESS: &str = "access.json";
const STORE: &str = "store";
const DEFAULT: &str = "default";

/// Makes what is missing in the folder `to`, and completes the settings.
///
/// # Errors
/// No chain is named, or a public one; the disk refuses.
pub fn furnish(to: &Path, values: &mut Values, secrets: &mut Secrets) -> miette::Result<()> {
    let chain = chain(values)?;
    std::fs::create_dir_all(to).into_diagnostic().wrap_err_with(|| format!("the folder {} cannot be made", to.display()))?;
    let to = to.canonicalize().into_diagnostic()?;
    let mut set = |key: &str, value: String| checked(key, &value).map(|key| values.entry(key).or_insert(value).clone()).into_diagnostic();
    let wallets = WalletDir::new(set("wallet.path", to.join("wallets").display().to_string())?);
    let slot = Slot::hotkey(&set("wallet.name", DEFAULT.into())?, &set("wallet.hotkey", DEFAULT.into())?);
    set("node.dir", to.join(MINER).display().to_string())?;
    if wallets.secret_state(&slot).into_diagnostic()?.is_none() {
        let (wallet, hotkey) = (values["wallet.name"].clone(), values["wallet.hotkey"].clone());
        let key = wallets.new_hotkey(&wallet, &hotkey).into_diagnostic().wrap_err("the hotkey cannot be made")?;
        println!("{slot} is new: {}", templar_wallet::Signer::account_id(&key));
    }
    if !values.contains_key("bucket.url") {
        let host = own_address(&chain)?;
        let [port] = free_ports(host)?;
        let url = BucketUrl::local(SocketAddr::from((host, port)), MINER).into_diagnostic()?.to_string();
        values.insert(checked("bucket.url", &url).into_diagnostic()?, url);
    }
    if !secrets.contains_key(ENV_SECRET_ACCESS_KEY) {
        // A file that is there has the key already.
        let entry = AccessFile::edit(&to.join(ACCESS), |file| match file.buckets().iter().find(|bucket| bucket.name == MINER) {
            Some(entry) => Ok(entry.clone()),
            None => file.add_bucket(MINER, true).cloned(),
        });
        let entry = entry.into_diagnostic().wrap_err("the bucket's key cannot be made")?;
        secrets.insert(ENV_ACCESS_KEY_ID.to_owned(), templar_store::Secret::new(entry.access_key_id.clone()));
        secrets.insert(ENV_SECRET_ACCESS_KEY.to_owned(), entry.secret);
    }
    Ok(())
}

/// The endpoint of the chain, which is no public network's.
fn chain(values: &Values) -> miette::Result<String> {
    let help = "give the endpoint that a local network prints: --set network.chain=http://127.0.0.1:PORT";
    let named = values.get("network.chain").ok_or_else(|| miette!(help = help, "--practice needs to know the chain"))?;
    let network: Network = named.parse().into_diagnostic()?;
    if network.genesis().is_some() {
        return Err(miette!(help = help, "--practice is for a network of one's own, and {} is a public one", network.name()));
    }
    Ok(network.endpoints().first().cloned().unwrap_or_default())
}

/// After the set-up: the store of the bucket, when its access file is here.
pub fn next(to: &Path, values: &Values) -> Option<String> {
    let address = address_of(values.get("bucket.url")?)?;
    let access = to.join(ACCESS);
    let path = |path: &Path| quoted(&path.strip_prefix(".").unwrap_or(path).display().to_string());
    let words = format!("templar store serve --dir {} --access {} --listen {address}", path(&to.join(STORE)), path(&access));
    access.is_file().then(|| format!("next: {}", super::next::under(&to.join(CONFIG_FILE), &words)))
}

/// After the store at `address` has been started: the registration of the miner whose bucket it serves, if there are settings of one.
pub fn after_store(address: SocketAddr) -> Option<String> {
    let config = crate::config::load().ok()?;
    let values = config.values();
    if address_of(values.get("bucket.url")?)? != address {
        return None;
    }
    let flags = [
        ("netuid", "network.netuid", Some("3")),
        ("chain", "network.chain", None),
        ("wallet-path", "wallet.path", None),
        ("wallet", "wallet.name", None),
        ("hotkey", "wallet.hotkey", None),
    ];
    let words = flags.iter().filter_map(|(flag, key, default)| {
        let value = values.get(key).map(String::as_str).or(*default)?;
        Some(format!(" --{flag} {}", quoted(value)))
    });
    let words = format!("templar chain register --faucet{}", words.collect::<String>());
    Some(format!("next, in another terminal: {}", super::next::here(&words)))
}

/// After the registration of a hotkey: the miner, if the settings name this very hotkey.
pub fn after_registration(wallets: &Path, wallet: &str, hotkey: &str) -> Option<String> {
    let config = crate::config::load().ok()?;
    let values = config.values();
    let same = |key: &str, is: &str| values.get(key).map_or(DEFAULT, String::as_str) == is;
    let path = Path::new(values.get("wallet.path")?) == wallets;
    (path && same("wallet.name", wallet) && same("wallet.hotkey", hotkey)).then(|| super::next::start(MINER))
}

fn address_of(bucket: &str) -> Option<SocketAddr> {
    bucket.strip_prefix("http://")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_there_stays_and_the_next_command_serves_the_bucket() {
        let root = tempfile::tempdir().unwrap();
        let mut values = Values::from([("network.chain", "ws://127.0.0.1:9944".to_owned())]);
        let mut secrets = Secrets::new();
        furnish(root.path(), &mut values, &mut secrets).unwrap();
        let (before, key) = (values.clone(), secrets[ENV_SECRET_ACCESS_KEY].expose().clone());
        assert!(values["bucket.url"].starts_with("http://127.0.0.1:") && values["bucket.url"].ends_with("/miner"), "{values:?}");
        let next = next(root.path(), &values).unwrap();
        assert!(
            next.contains("templar store serve --dir ") && next.ends_with(&address_of(&values["bucket.url"]).unwrap().to_string()),
            "{next}"
        );
        assert!(!next.contains(&key));
        furnish(root.path(), &mut values, &mut secrets).unwrap();
        assert_eq!((values, secrets[ENV_SECRET_ACCESS_KEY].expose()), (before, &key));
    }

    #[test]
    fn nothing_is_made_for_a_public_network() {
        let root = tempfile::tempdir().unwrap();
        for chain in [None, Some("finney"), Some("wss://test.finney.opentensor.ai:443")] {
            let mut values = Values::new();
            chain.map(|chain| values.insert("network.chain", chain.to_owned()));
            assert!(furnish(&root.path().join("new"), &mut values, &mut Secrets::new()).is_err(), "{chain:?}");
        }
        assert!(!root.path().join("new").exists());
    }
}
