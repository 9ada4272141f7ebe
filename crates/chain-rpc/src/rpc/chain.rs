//! `chain_…`: headers, blocks and hashes.

use super::{Face, Params, RpcError, hexed};
use crate::extrinsic::timestamp;
use serde_json::{Value, json};
use templar_chain::{At, Header};
use templar_protocol::BlockNumber;

/// Numbers in one question for hashes.
const HASHES_MAX: usize = 1000;

/// A header as JSON.
pub(super) fn header_json(header: &Header) -> Value {
    json!({
        "parentHash": hexed(&header.parent.0),
        "number": format!("{:#x}", header.block.number.0),
        "stateRoot": hexed(&header.state_root.0),
        "extrinsicsRoot": hexed(&header.extrinsics_root.0),
        "digest": { "logs": [] },
    })
}

pub(super) fn call(face: &Face, method: &str, params: &Params) -> Option<Result<Value, RpcError>> {
    Some(match method {
        "chain_getHeader" => header(face, params),
        "chain_getBlock" => block(face, params),
        "chain_getBlockHash" | "chain_getHead" => block_hash(face, params),
        "chain_getFinalizedHead" | "chain_getFinalisedHead" => {
            let finalized = face.chain().block(At::Finalized).map(|block| hexed(&block.header.block.hash.0));
            finalized.map_err(|error| super::errors::state(&error, None))
        }
        _ => return None,
    })
}

fn number_of(face: &Face, params: &Params) -> Result<Option<BlockNumber>, RpcError> {
    Ok(match params.hash(0)? {
        None => Some(face.chain().best().number),
        Some(hash) => face.chain().number_of(&hash),
    })
}

/// The header; null when there is none of this hash.
fn header(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let header = number_of(face, params)?.and_then(|number| face.chain().header(number).ok());
    Ok(header.map_or(Value::Null, |header| header_json(&header)))
}

/// The block; null when there is none of this hash, or its transactions are no longer kept.
fn block(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let Some(block) = number_of(face, params)?.and_then(|number| face.chain().block(At::Number(number)).ok()) else {
        return Ok(Value::Null);
    };
    let mut extrinsics = Vec::with_capacity(1 + block.body.transactions.len());
    if block.header.block.number.0 > 0 {
        extrinsics.push(hexed(&timestamp(block.header.block.time_ms)));
    }
    extrinsics.extend(block.body.transactions.iter().filter_map(|tx| tx.raw.as_ref()).map(|raw| hexed(raw)));
    Ok(json!({ "block": { "header": header_json(&block.header), "extrinsics": extrinsics }, "justifications": null }))
}

/// The hash of a number, of many, or of the newest block; null where there is none.
fn block_hash(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let of = |number: u64| face.chain().hash_of(BlockNumber(number)).map_or(Value::Null, |hash| hexed(&hash.0));
    if let Some(Value::Array(numbers)) = params.get(0) {
        if numbers.len() > HASHES_MAX {
            return Err(RpcError::invalid_params(format!("at most {HASHES_MAX} numbers at once")));
        }
        let one = |value: &Value| Ok(Params(vec![value.clone()]).number(0)?.map_or(Value::Null, of));
        return Ok(Value::Array(numbers.iter().map(one).collect::<Result<_, RpcError>>()?));
    }
    let best = || hexed(&face.chain().best().hash.0);
    Ok(params.number(0)?.map_or_else(best, of))
}
