//! `dev_…`: what the owner of a development chain may do, where the chain was started with that permission.

use super::{Face, Params, RpcError, hexed};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use templar_chain::{ChainError, SubnetRules};
use templar_protocol::Netuid;

/// The methods that the permission opens.
pub(super) const METHODS: [&str; 4] = ["dev_advance", "dev_createSubnet", "dev_fund", "dev_setRules"];
/// Blocks in one call.
const BLOCKS_MAX: u64 = 100_000;

pub(super) fn call(face: &Face, method: &str, params: &Params) -> Option<Result<Value, RpcError>> {
    if !METHODS.contains(&method) {
        return None;
    }
    if !face.inner.permissions.control {
        let why = "the chain was started without the permission to control it: start it with --allow-control";
        return Some(Err(RpcError::new(-32000, "Not permitted", Some(why.into()))));
    }
    Some(match method {
        "dev_fund" => fund(face, params),
        "dev_createSubnet" => create(face, params),
        "dev_setRules" => set_rules(face, params),
        _ => advance(face, params),
    })
}

fn refused(error: &ChainError) -> RpcError {
    let why = match error {
        ChainError::Unsupported { what } => format!("it does not support {what}"),
        other => other.to_string(),
    };
    RpcError::new(-32001, "Refused", Some(why.into()))
}

fn parse<T: DeserializeOwned>(params: &Params, place: usize) -> Result<T, RpcError> {
    let value = params.get(place).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|e| RpcError::invalid_params(format!("parameter {place}: {e}")))
}

fn fund(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let (who, amount) = (params.account(0)?, params.number(1)?.ok_or_else(|| RpcError::invalid_params("how much, in rao?"))?);
    face.chain().create_balance(&who, amount).map(|()| Value::Null).map_err(|e| refused(&e))
}

fn netuid(params: &Params) -> Result<Netuid, RpcError> {
    let number = params.number(0)?.and_then(|n| u16::try_from(n).ok());
    number.map(Netuid).ok_or_else(|| RpcError::invalid_params("parameter 0 must be the number of a subnet"))
}

fn create(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let rules: SubnetRules = if params.get(1).is_some() { parse(params, 1)? } else { SubnetRules::default() };
    face.chain().create_subnet_now(netuid(params)?, rules).map(|()| Value::Null).map_err(|e| refused(&e))
}

fn set_rules(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let netuid = netuid(params)?;
    // What is not named stays as it is.
    let current = face.chain().rules_of(netuid).map_err(|e| refused(&e))?;
    let mut rules = serde_json::to_value(current).map_err(|e| RpcError::invalid_params(e.to_string()))?;
    let changes: serde_json::Map<String, Value> = parse(params, 1)?;
    for (name, value) in changes {
        rules[name] = value;
    }
    let rules = serde_json::from_value(rules).map_err(|e| RpcError::invalid_params(format!("parameter 1: {e}")))?;
    face.chain().set_rules_now(netuid, rules).map(|()| Value::Null).map_err(|e| refused(&e))
}

fn advance(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let blocks = params.number(0)?.unwrap_or(1);
    if blocks > BLOCKS_MAX {
        return Err(RpcError::invalid_params(format!("at most {BLOCKS_MAX} blocks at once")));
    }
    let block = face.chain().advance_now(blocks).map_err(|e| refused(&e))?;
    Ok(json!({ "number": block.number, "hash": hexed(&block.hash.0) }))
}
