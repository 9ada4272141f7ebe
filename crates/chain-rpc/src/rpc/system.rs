//! `system_…` and what else a client asks to find its way.

use super::{Face, Params, RpcError};
use crate::version::IMPL_NAME;
use serde_json::{Value, json};
use templar_chain::BlockTime;

/// Every method, subscriptions included.
pub(super) const METHODS: [&str; 54] = [
    "account_nextIndex",
    "author_pendingExtrinsics",
    "author_submitAndWatchExtrinsic",
    "author_submitExtrinsic",
    "author_unwatchExtrinsic",
    "chain_getBlock",
    "chain_getBlockHash",
    "chain_getFinalisedHead",
    "chain_getFinalizedHead",
    "chain_getHead",
    "chain_getHeader",
    "chain_getRuntimeVersion",
    "chain_subscribeAllHeads",
    "chain_subscribeFinalisedHeads",
    "chain_subscribeFinalizedHeads",
    "chain_subscribeNewHead",
    "chain_subscribeNewHeads",
    "chain_subscribeRuntimeVersion",
    "chain_unsubscribeAllHeads",
    "chain_unsubscribeFinalisedHeads",
    "chain_unsubscribeFinalizedHeads",
    "chain_unsubscribeNewHead",
    "chain_unsubscribeNewHeads",
    "chain_unsubscribeRuntimeVersion",
    "payment_queryInfo",
    "rpc_methods",
    "state_call",
    "state_callAt",
    "state_getKeysPaged",
    "state_getKeysPagedAt",
    "state_getMetadata",
    "state_getRuntimeVersion",
    "state_getStorage",
    "state_getStorageAt",
    "state_getStorageHash",
    "state_getStorageHashAt",
    "state_getStorageSize",
    "state_getStorageSizeAt",
    "state_queryStorageAt",
    "state_subscribeRuntimeVersion",
    "state_subscribeStorage",
    "state_unsubscribeRuntimeVersion",
    "state_unsubscribeStorage",
    "system_accountNextIndex",
    "system_chain",
    "system_chainType",
    "system_health",
    "system_name",
    "system_nodeRoles",
    "system_peers",
    "system_properties",
    "system_syncState",
    "system_version",
    "templar_decided",
];

pub(super) fn call(face: &Face, method: &str, params: &Params) -> Option<Result<Value, RpcError>> {
    let head = || face.chain().best().number.0;
    Some(Ok(match method {
        "rpc_methods" => {
            let control = face.inner.permissions.control.then_some(super::control::METHODS).into_iter().flatten();
            json!({ "methods": METHODS.into_iter().chain(control).collect::<Vec<_>>() })
        }
        "system_chain" => json!("Templar development"),
        "system_name" => json!(IMPL_NAME),
        "system_version" => json!(env!("CARGO_PKG_VERSION")),
        "system_chainType" => json!("Development"),
        "system_nodeRoles" => json!(["Authority"]),
        "system_peers" => json!([]),
        "system_properties" => {
            let time = face.chain().block_time();
            json!({
                "isEthereum": false, "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO",
                "virtualTime": matches!(time, BlockTime::Virtual(_)), "blockTimeMs": time.interval_ms(),
            })
        }
        "system_health" => json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }),
        "system_syncState" => json!({ "startingBlock": 0, "currentBlock": head(), "highestBlock": head() }),
        "system_accountNextIndex" | "account_nextIndex" => return Some(params.account(0).map(|who| face.chain().next_nonce(&who).into())),
        "payment_queryInfo" => {
            json!({ "weight": { "ref_time": 0, "proof_size": 0 }, "class": "normal", "partialFee": "0" })
        }
        _ => return None,
    }))
}
