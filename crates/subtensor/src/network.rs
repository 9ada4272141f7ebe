//! Which chain is meant, and where it is asked: networks by their names in `btcli`, or endpoints of one's own (spec chain-and-wallet §B.1).
//!
//! What always holds: a public network carries its genesis hash, also when only its endpoint was named, so an endpoint that serves
//! another chain cannot be mistaken for it.

use std::{fmt, str::FromStr};
use templar_chain::BlockHash;

/// Genesis hash of the main network.
const FINNEY_GENESIS: &str = "2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03";
/// Genesis hash of the test network.
const TEST_GENESIS: &str = "8f9cf856bf558a14440e75569c9e58594757048d7b3a84b5d25f6bd978263105";
const FINNEY_ENDPOINTS: [&str; 2] = ["wss://entrypoint-finney.opentensor.ai:443", "wss://lite.chain.opentensor.ai:443"];
const FINNEY_ARCHIVE: &str = "wss://archive.chain.opentensor.ai:443";
const TEST_ENDPOINT: &str = "wss://test.finney.opentensor.ai:443";
const LOCAL_ENDPOINT: &str = "ws://127.0.0.1:9944";
/// The most endpoints that may be named.
const ENDPOINTS_MAX: usize = 16;

/// A chain: its name, where it is asked, and how it is told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    name: String,
    endpoints: Vec<String>,
    archives: Vec<String>,
    genesis: Option<BlockHash>,
}

/// Why a text names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no network: {why}; write finney, lite, archive, test, local, or one or more endpoints such as ws://127.0.0.1:9944")]
pub struct NetworkError {
    text: String,
    why: String,
}

impl Network {
    /// The main network, asked at its public endpoints; its archive node answers for old blocks.
    pub fn finney() -> Self {
        Self {
            name: "finney".into(),
            endpoints: FINNEY_ENDPOINTS.map(str::to_owned).into(),
            archives: vec![FINNEY_ARCHIVE.into()],
            genesis: Some(known(FINNEY_GENESIS)),
        }
    }

    /// The test network.
    pub fn test() -> Self {
        Self { name: "test".into(), endpoints: vec![TEST_ENDPOINT.into()], archives: Vec::new(), genesis: Some(known(TEST_GENESIS)) }
    }

    /// A node on this machine, at its usual port. Which chain it serves is not prescribed.
    pub fn local() -> Self {
        Self { name: "local".into(), endpoints: vec![LOCAL_ENDPOINT.into()], archives: Vec::new(), genesis: None }
    }

    /// The same with another order of endpoints: these first. For a main network's node of one's own before the public ones.
    #[must_use]
    pub fn preferring(mut self, endpoints: &[String]) -> Self {
        self.endpoints.retain(|known| !endpoints.contains(known));
        self.endpoints.splice(0..0, endpoints.iter().cloned());
        self.endpoints.truncate(ENDPOINTS_MAX);
        self
    }

    /// The same, refused wherever the genesis hash is another.
    #[must_use]
    pub fn with_genesis(self, genesis: BlockHash) -> Self {
        Self { genesis: Some(genesis), ..self }
    }

    /// Its name: `finney`, `test`, `local`, or the first endpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is asked, the preferred first; at least one.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Where old states are asked for, which ordinary nodes no longer keep.
    pub fn archives(&self) -> &[String] {
        &self.archives
    }

    /// Its genesis hash, where it is prescribed.
    pub fn genesis(&self) -> Option<BlockHash> {
        self.genesis
    }

    /// Whether this is the main network, where tokens are worth money.
    pub fn is_main(&self) -> bool {
        self.genesis == Some(known(FINNEY_GENESIS))
    }
}

fn known(hash: &str) -> BlockHash {
    hash.parse().expect("a constant of 64 hexadecimal digits")
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let failed = |why: String| NetworkError { text: text.chars().take(200).collect(), why };
        match text.trim() {
            "finney" | "main" | "mainnet" => return Ok(Self::finney()),
            "test" | "testnet" => return Ok(Self::test()),
            "local" => return Ok(Self::local()),
            "lite" => return Ok(Self { name: "lite".into(), ..Self::finney().preferring(&[FINNEY_ENDPOINTS[1].into()]) }),
            "archive" => return Ok(Self { name: "archive".into(), ..Self::finney().preferring(&[FINNEY_ARCHIVE.into()]) }),
            "" => return Err(failed("it is empty".into())),
            _ => {}
        }
        let endpoints: Vec<String> = text.split(',').map(|one| endpoint(one.trim())).collect::<Result<_, _>>().map_err(&failed)?;
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(failed(format!("there are more than {ENDPOINTS_MAX} endpoints")));
        }
        let genesis = endpoints.iter().find_map(|endpoint| public(endpoint));
        Ok(Self { name: endpoints.first().cloned().unwrap_or_default(), endpoints, archives: Vec::new(), genesis })
    }
}

/// The genesis hash of the public network that this endpoint belongs to.
fn public(endpoint: &str) -> Option<BlockHash> {
    let bare = |url: &str| url.trim_end_matches('/').trim_end_matches(":443").to_owned();
    let is = |other: &&str| bare(endpoint) == bare(other);
    if FINNEY_ENDPOINTS.iter().chain([&FINNEY_ARCHIVE]).any(is) {
        return Some(known(FINNEY_GENESIS));
    }
    is(&TEST_ENDPOINT).then(|| known(TEST_GENESIS))
}

/// An endpoint in its canonical form: HTTP schemes become those of the WebSocket on the same port, as `btcli` users write both.
fn endpoint(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").ok_or("an endpoint begins with ws:// or wss://")?;
    let scheme = match scheme {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        other => return Err(format!("{other}:// is no scheme of a chain's endpoint")),
    };
    let host = rest.trim_end_matches('/').split('/').next().unwrap_or_default();
    if host.is_empty() || host.contains('@') || !text.is_ascii() || text.len() > 512 {
        return Err("an endpoint is a scheme, a host and a port, without a user".into());
    }
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_endpoints_are_read() {
        assert!("finney".parse::<Network>().unwrap().is_main());
        let own = "http://127.0.0.1:9944/".parse::<Network>().unwrap();
        assert_eq!((own.endpoints(), own.genesis()), (&["ws://127.0.0.1:9944".to_owned()][..], None));
        let two = "wss://a.example:443, ws://b.example:9944".parse::<Network>().unwrap();
        assert_eq!(two.endpoints().len(), 2);
        for bad in ["", "mainnnet", "ftp://x", "ws://", "ws://user@host", "ws://ho\u{301}st"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_public_endpoint_brings_its_genesis_hash() {
        let named = "wss://entrypoint-finney.opentensor.ai".parse::<Network>().unwrap();
        assert!(named.is_main());
        assert_eq!(TEST_ENDPOINT.parse::<Network>().unwrap().genesis(), Network::test().genesis());
        let own = Network::finney().preferring(&["ws://127.0.0.1:9944".into()]);
        assert!(own.is_main() && own.endpoints()[0] == "ws://127.0.0.1:9944");
    }
}
