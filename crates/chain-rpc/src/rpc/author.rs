//! `author_…`: transactions.

use super::{Face, Params, RpcError, errors, hexed};
use crate::extrinsic::{BadExtrinsic, check};
use serde_json::{Value, json};
use templar_chain::{ChainError, TxReport};

pub(super) fn call(face: &Face, method: &str, params: &Params) -> Option<Result<Value, RpcError>> {
    Some(match method {
        "author_submitExtrinsic" => params.bytes(0).and_then(|bytes| submit(face, &bytes)).map(|report| hexed(&report.tx.0)),
        "author_pendingExtrinsics" => Ok(face.chain().pending_transactions().iter().map(|raw| hexed(raw)).collect()),
        "templar_decided" => decided(face, params),
        _ => return None,
    })
}

/// Takes a transaction into the block being built.
pub(super) fn submit(face: &Face, bytes: &[u8]) -> Result<TxReport, RpcError> {
    let tx = match check(face.chain(), bytes) {
        Ok(tx) => tx,
        Err(BadExtrinsic::Format(why)) => {
            return Err(RpcError::new(1002, format!("Extrinsic has invalid format: {why}"), None));
        }
        Err(BadExtrinsic::Invalid(error)) => return Err(errors::pool(&error)),
    };
    let hash = tx.hash();
    if face.chain().decided(&hash).is_some() {
        return Err(RpcError::new(1013, "Transaction Already Imported", Some(hexed(&hash.0))));
    }
    face.chain().submit_transaction(&tx).map_err(|error| errors::pool(&error))
}

/// What was decided about a transaction that waits in the block being built: null when none of this hash waits. The block may close much
/// later where time is virtual, and the decision does not change.
fn decided(face: &Face, params: &Params) -> Result<Value, RpcError> {
    let Some(hash) = params.hash(0)? else { return Err(RpcError::invalid_params("the hash of a transaction is wanted")) };
    Ok(match face.chain().decided(&hash) {
        None => Value::Null,
        Some(None) => json!({ "ok": true }),
        Some(Some(ChainError::Dispatch { pallet, error, meaning })) => {
            json!({ "ok": false, "pallet": pallet, "error": error, "meaning": meaning })
        }
        Some(Some(error)) => json!({ "ok": false, "error": error.to_string() }),
    })
}
