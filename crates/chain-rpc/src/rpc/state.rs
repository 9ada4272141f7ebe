//! `state_…`: storage, runtime functions, metadata and version.

use super::{Face, Params, RpcError, hexed};
use crate::{
    apis::{self, Called},
    metadata::FORMATS,
    version::runtime_version_json,
    view::View,
};
use parity_scale_codec::{Decode as _, Encode as _};
use serde_json::{Value, json};

/// Keys in one answer.
const KEYS_MAX: u64 = 1000;
/// Keys in one question for values.
const VALUES_MAX: usize = 1000;
/// The longest key, bytes.
const KEY_BYTES_MAX: usize = 512;

pub(super) fn call(face: &Face, method: &str, params: &Params) -> Option<Result<Value, RpcError>> {
    Some(match method {
        "state_getStorage" | "state_getStorageAt" => value(face, params).map(|value| value.map_or(Value::Null, |value| hexed(&value))),
        "state_getStorageSize" | "state_getStorageSizeAt" => {
            value(face, params).map(|value| value.map_or(Value::Null, |value| value.len().into()))
        }
        "state_getStorageHash" | "state_getStorageHashAt" => {
            value(face, params).map(|value| value.map_or(Value::Null, |value| hexed(&templar_chain::blake2_256(&value).0)))
        }
        "state_getKeysPaged" | "state_getKeysPagedAt" => keys(face, params),
        "state_queryStorageAt" => values(face, params),
        "state_call" | "state_callAt" => run(face, params),
        "state_getMetadata" => metadata(face, 14).map(|bytes| hexed(&bytes)),
        "state_getRuntimeVersion" | "chain_getRuntimeVersion" => {
            params.hash(0).and_then(|hash| face.view(hash.as_ref())).map(|view| runtime_version_json(&view.state().body.runtime))
        }
        _ => return None,
    })
}

fn key(params: &Params, place: usize) -> Result<Vec<u8>, RpcError> {
    Some(params.bytes(place)?)
        .filter(|key| key.len() <= KEY_BYTES_MAX)
        .ok_or_else(|| RpcError::invalid_params(format!("a key has at most {KEY_BYTES_MAX} bytes")))
}

pub(super) fn get(face: &Face, view: &View, key: &[u8]) -> Option<Vec<u8>> {
    face.storage().get(view, key)
}

fn value(face: &Face, params: &Params) -> Result<Option<Vec<u8>>, RpcError> {
    let (key, hash) = (key(params, 0)?, params.hash(1)?);
    Ok(get(face, &face.view(hash.as_ref())?, &key))
}

fn keys(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let prefix = if params.get(0).is_some() { key(params, 0)? } else { Vec::new() };
    let count = params.number(1)?.unwrap_or(KEYS_MAX);
    if count > KEYS_MAX {
        return Err(RpcError::new(4002, format!("count exceeds maximum value. value: {count}, max: {KEYS_MAX}"), None));
    }
    let after = params.get(2).is_some().then(|| key(params, 2)).transpose()?;
    let view = face.view(params.hash(3)?.as_ref())?;
    let found = face.storage().keys(&view, &prefix, count as usize, after.as_deref().filter(|after| !after.is_empty()));
    Ok(found.iter().map(|key| hexed(key)).collect())
}

/// The values of many keys at one block.
fn values(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let wanted = params.list(0)?;
    if wanted.len() > VALUES_MAX {
        return Err(RpcError::invalid_params(format!("at most {VALUES_MAX} keys at once")));
    }
    let hash = params.hash(1)?;
    let view = face.view(hash.as_ref())?;
    let mut changes = Vec::with_capacity(wanted.len());
    for key_text in wanted {
        let key = key(&Params(vec![key_text.clone()]), 0)?;
        changes.push(json!([hexed(&key), get(face, &view, &key).map(|value| hexed(&value))]));
    }
    Ok(json!([{ "block": hexed(&view.block.header.block.hash.0), "changes": changes }]))
}

fn metadata(face: &Face, format: u32) -> Result<Vec<u8>, RpcError> {
    let found = face.metadata().format(format).map(<[u8]>::to_vec);
    found.ok_or_else(|| RpcError::invalid_params(format!("there is no metadata of format {format}: one of {FORMATS:?}")))
}

fn run(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let name = params.text(0)?;
    let arguments = params.optional_bytes(1)?.unwrap_or_default();
    let hash = params.hash(2)?;
    match name {
        "Metadata_metadata" => return metadata(face, 14).map(|bytes| hexed(&bytes.encode())),
        "Metadata_metadata_versions" => return Ok(hexed(&FORMATS.to_vec().encode())),
        "Metadata_metadata_at_version" => {
            let format = u32::decode(&mut &arguments[..]).map_err(|e| RpcError::invalid_params(e.to_string()))?;
            return Ok(hexed(&face.metadata().format(format).map(<[u8]>::to_vec).encode()));
        }
        _ => {}
    }
    match apis::call(&face.view(hash.as_ref())?, name, &arguments) {
        Called::Value(value) => Ok(hexed(&value)),
        Called::BadArguments => {
            let why = format!("Client error: Execution failed: the arguments of {name} cannot be read");
            Err(RpcError::new(4003, why, None))
        }
        Called::Unknown => {
            let shown: String = name.chars().take(64).collect();
            let why = format!("Client error: Execution failed: Other: Exported method {shown} is not found");
            Err(RpcError::new(4003, why, None))
        }
    }
}
