//! Which chain, by the names and flags that Bittensor's tools use.

use clap::Args;
use miette::{IntoDiagnostic as _, miette};
use templar_subtensor::Network;

/// Variables that give a chain when no flag does, the nearest first.
pub const VARIABLES: [&str; 4] = ["TEMPLAR_CHAIN", "BT_SUBTENSOR_CHAIN_ENDPOINT", "BT_SUBTENSOR_NETWORK", "NETWORK"];

/// Variables that give a subnet when no flag does, the nearest first.
pub const NETUID_VARIABLES: [&str; 3] = ["TEMPLAR_NETUID", "BT_NETUID", "NETUID"];
/// The subnet when nobody says another.
const NETUID: u16 = 3;

/// What holds for the setting `key` when nothing says another, for settings whose flags have no default of their own.
pub fn default_of(key: &str) -> Option<String> {
    match key {
        "network.chain" => Some("local".into()),
        "network.netuid" => Some(NETUID.to_string()),
        _ => None,
    }
}

/// The chain, by either of its flags.
#[derive(Clone, Debug, Default, Args)]
pub struct NetworkFlags {
    /// The chain's endpoint, or several with commas between them, or the name of a network: finney, lite, archive, test or local [default: local].
    /// Without the flag, TEMPLAR_CHAIN, BT_SUBTENSOR_CHAIN_ENDPOINT, BT_SUBTENSOR_NETWORK or NETWORK says it.
    #[arg(long, visible_alias = "subtensor.chain_endpoint", alias = "subtensor.chain-endpoint", value_name = "URL|NAME")]
    chain: Option<String>,
    /// The same; an endpoint given as well decides.
    #[arg(long, visible_alias = "subtensor.network", value_name = "NAME|URL")]
    network: Option<String>,
}

impl NetworkFlags {
    /// Whether a flag or a variable names a chain.
    pub fn is_given(&self) -> bool {
        let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        self.chain.is_some() || self.network.is_some() || VARIABLES.into_iter().any(set)
    }

    /// The network, with its endpoints and, where it is a public one, its genesis hash.
    ///
    /// # Errors
    /// A name that is no network's.
    pub fn network(&self) -> miette::Result<Network> {
        self.resolve(|name| std::env::var(name).ok())
    }

    fn resolve(&self, variable: impl Fn(&str) -> Option<String>) -> miette::Result<Network> {
        let given = self.chain.clone().or_else(|| self.network.clone());
        let given = given.or_else(|| VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.is_empty())));
        match given {
            Some(given) => given.parse().into_diagnostic(),
            None => Ok(Network::local()),
        }
    }
}

/// The subnet.
#[derive(Clone, Debug, Default, Args)]
pub struct NetuidFlag {
    /// The subnet [default: 3]. Without the flag, TEMPLAR_NETUID, BT_NETUID or NETUID says it.
    #[arg(long, value_name = "N")]
    netuid: Option<u16>,
}

impl NetuidFlag {
    /// The subnet, 3 when nobody says another.
    ///
    /// # Errors
    /// A variable that is no number.
    pub fn netuid(&self) -> miette::Result<u16> {
        self.resolve(|name| std::env::var(name).ok())
    }

    fn resolve(&self, variable: impl Fn(&str) -> Option<String>) -> miette::Result<u16> {
        if let Some(netuid) = self.netuid {
            return Ok(netuid);
        }
        let set = NETUID_VARIABLES.iter().find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
        let Some((name, value)) = set else { return Ok(NETUID) };
        value
            .trim()
            .parse()
            .map_err(|_| miette!(help = "set it to a number up to 65535, or give --netuid", "{name} is {value:?}, which is no subnet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(chain: Option<&str>, network: Option<&str>) -> NetworkFlags {
        NetworkFlags { chain: chain.map(str::to_owned), network: network.map(str::to_owned) }
    }

    #[test]
    fn the_nearest_word_decides_which_chain() {
        let nothing = |_: &str| None;
        assert_eq!(flags(None, None).resolve(nothing).expect("the default"), Network::local());
        assert_eq!(flags(None, Some("finney")).resolve(nothing).expect("a name"), Network::finney());
        let endpoint = |flags: NetworkFlags| flags.resolve(nothing).expect("a URL").endpoints()[0].clone();
        assert_eq!(endpoint(flags(Some("ws://h:1"), Some("finney"))), "ws://h:1");
        assert_eq!(endpoint(flags(None, Some("http://h:1"))), "ws://h:1", "a URL as network");
        let set = |name: &str| {
            ["NETWORK", "BT_SUBTENSOR_NETWORK"].contains(&name).then(|| if name == "NETWORK" { "test" } else { "archive" }.to_owned())
        };
        assert_eq!(flags(None, None).resolve(set).expect("from the environment").name(), "archive");
        assert_eq!(flags(None, Some("local")).resolve(set).expect("flags come first"), Network::local());
        let refused = flags(None, Some("nakamoto")).resolve(nothing).expect_err("no such network");
        assert!(refused.to_string().contains("nakamoto"));
    }

    #[test]
    fn the_nearest_word_decides_which_subnet() {
        let set = |name: &str| (name == "NETUID").then(|| "268".to_owned());
        assert_eq!(NetuidFlag { netuid: None }.resolve(set).expect("from the environment"), 268);
        assert_eq!(NetuidFlag { netuid: Some(5) }.resolve(set).expect("the flag"), 5);
        assert_eq!(NetuidFlag { netuid: None }.resolve(|_| None).expect("the default"), 3);
        assert!(NetuidFlag { netuid: None }.resolve(|_| Some("many".into())).is_err());
    }
}
