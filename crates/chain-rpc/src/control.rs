//! The owner's side of `dev_…`: what `templar chain fund`, `subnet`, `rule` and `advance` send.

use serde_json::{Value, json};
use std::time::Duration;
use templar_chain::SubnetRules;
use templar_protocol::{AccountId, BlockNumber, Netuid};

/// The longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long an answer may take: a hundred thousand blocks are closed in less.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Why the chain did not do what its owner asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The chain could not be reached, or answered nonsense.
    #[error("the chain at {endpoint} did not answer: {why}: check that a development chain listens there")]
    Transport {
        /// Where it was asked.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// The chain refused.
    #[error("the chain refused: {0}")]
    Refused(String),
}

type Result<T> = std::result::Result<T, ControlError>;

/// Controls a development chain that was started with `--allow-control`.
#[derive(Clone, Debug)]
pub struct Control {
    client: reqwest::Client,
    endpoint: String,
}

impl Control {
    /// The chain at `endpoint`, for example `ws://127.0.0.1:9944`; nothing is sent yet.
    ///
    /// # Errors
    /// `Transport` when it is no address of this kind.
    pub fn new(endpoint: &str) -> Result<Self> {
        let endpoint = endpoint.trim_end_matches('/').replacen("ws://", "http://", 1);
        let bad = |why: String| ControlError::Transport { endpoint: endpoint.clone(), why };
        if !endpoint.starts_with("http://") {
            return Err(bad("the address must begin with ws:// or http://".into()));
        }
        // The chain is on this machine, so neither certificates nor proxies are asked.
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(TIMEOUT).build().map_err(|e| bad(e.to_string()))?;
        Ok(Self { client, endpoint })
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let failed = |why: String| ControlError::Transport { endpoint: self.endpoint.clone(), why };
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.client.post(&self.endpoint).header("content-type", "application/json").body(request);
        let mut response = request.send().await.map_err(|e| failed(e.to_string()))?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(e.to_string()))? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(failed(format!("its answer exceeds {ANSWER_BYTES_MAX} bytes")));
            }
            answer.extend_from_slice(&chunk);
        }
        let answer: Value = serde_json::from_slice(&answer).map_err(|e| failed(format!("its answer cannot be read: {e}")))?;
        match answer.get("error") {
            None => Ok(answer.get("result").cloned().unwrap_or(Value::Null)),
            Some(error) => {
                let why = error.get("data").or(error.get("message")).and_then(Value::as_str).unwrap_or("it does not say why");
                Err(ControlError::Refused(why.into()))
            }
        }
    }

    /// Creates `amount` rao for an account.
    ///
    /// # Errors
    /// `Transport` when the chain is not there; `Refused` with its reason otherwise. The same holds for all that follows.
    pub async fn fund(&self, who: &AccountId, amount: u64) -> Result<()> {
        self.call("dev_fund", json!([who.to_string(), amount])).await.map(drop)
    }

    /// Adds a subnet without neurons.
    ///
    /// # Errors
    /// As [`Control::fund`].
    pub async fn create_subnet(&self, netuid: Netuid, rules: &SubnetRules) -> Result<()> {
        self.call("dev_createSubnet", json!([netuid.0, rules])).await.map(drop)
    }

    /// Changes the rules that are named, a JSON object.
    ///
    /// # Errors
    /// As [`Control::fund`].
    pub async fn change_rules(&self, netuid: Netuid, changes: Value) -> Result<()> {
        self.call("dev_setRules", json!([netuid.0, changes])).await.map(drop)
    }

    /// Closes `blocks` blocks and tells the newest.
    ///
    /// # Errors
    /// As [`Control::fund`].
    pub async fn advance(&self, blocks: u64) -> Result<BlockNumber> {
        let head = self.call("dev_advance", json!([blocks])).await?;
        let number = head.get("number").and_then(Value::as_u64);
        number.map(BlockNumber).ok_or_else(|| ControlError::Refused("its answer has no number of a block".into()))
    }
}
