//! Errors with the codes and words of Substrate nodes, since clients look at both.

use serde_json::{Value, json};
use templar_chain::{BlockHash, ChainError, PoolCode};

/// Why a call was not answered.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    /// The code.
    pub code: i64,
    /// The kind in words.
    pub message: String,
    /// The reason.
    pub data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>, data: Option<Value>) -> Self {
        Self { code, message: message.into(), data }
    }

    /// The bytes are no JSON.
    pub(super) fn parse(why: &str) -> Self {
        Self::new(-32700, format!("Parse error: {why}"), None)
    }

    /// The JSON is no request.
    pub(super) fn invalid_request(why: impl Into<String>) -> Self {
        Self::new(-32600, "Invalid request", Some(why.into().into()))
    }

    pub(super) fn method_not_found(method: &str) -> Self {
        // The name comes from outside; a long one is not sent back whole.
        let shown: String = method.chars().take(64).collect();
        Self::new(-32601, "Method not found", Some(format!("this chain has no method {shown:?}: see rpc_methods").into()))
    }

    pub(super) fn invalid_params(why: impl Into<String>) -> Self {
        Self::new(-32602, "Invalid params", Some(why.into().into()))
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

/// Why a block's state cannot be read.
pub(super) fn state(error: &ChainError, hash: Option<&BlockHash>) -> RpcError {
    let hash = hash.map(|hash| format!("0x{hash}")).unwrap_or_default();
    match error {
        ChainError::StatePruned { .. } => {
            RpcError::new(4003, format!("Client error: UnknownBlock: State already discarded for {hash}"), None)
        }
        ChainError::NotFound { .. } => {
            RpcError::new(4003, format!("Client error: UnknownBlock: Header was not found in the database: {hash}"), None)
        }
        other => RpcError::new(4003, format!("Client error: {other}"), None),
    }
}

/// Why a transaction was not taken. The words in front are those that clients know; what follows says more.
pub(super) fn pool(error: &ChainError) -> RpcError {
    let ChainError::PoolRejected { code, meaning } = error else {
        return RpcError::new(1000, "Unknown error", Some(error.to_string().into()));
    };
    let known = match code {
        PoolCode::BadProof => "Transaction has a bad signature".to_owned(),
        PoolCode::Stale => "Transaction is outdated".to_owned(),
        PoolCode::Future => "Transaction will be valid in the future".to_owned(),
        PoolCode::Payment => "Inability to pay some fees (e.g. account balance too low)".to_owned(),
        PoolCode::AncientBirthBlock => "Transaction has an ancient birth block".to_owned(),
        PoolCode::Custom(number) => format!("Custom error: {number}"),
        PoolCode::Other(number) => return RpcError::new(i64::from(*number), meaning.clone(), None),
    };
    tracing::debug!(%known, %meaning, "a transaction was not taken");
    RpcError::new(1010, "Invalid Transaction", Some(known.into()))
}
