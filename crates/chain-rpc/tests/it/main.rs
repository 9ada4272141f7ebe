//! The face as a client meets it: values that the metadata describes to the last byte, transactions in and events out, subscriptions, and
//! what hostile bytes do.
#![allow(clippy::unwrap_used)]

mod described;
mod hostile;
mod served;
mod transactions;

use parity_scale_codec::{Decode as _, Encode as _};
use serde_json::{Value, json};
use templar_chain::{BlockTime, DevChain, GenesisConfig, GenesisNeuron, RuntimeOptions, Scheduler, SubnetOwner};
use templar_chain_rpc::{
    Face, Permissions, extrinsic,
    rpc::handle,
    runtime::{node_subtensor_runtime::RuntimeCall, pallet_subtensor::pallet::Call as Subtensor, sp_runtime::generic::era::Era},
};
use templar_protocol::{AccountId, Netuid};
use templar_wallet::{Keypair, Signer as _};

const NETUID: Netuid = Netuid(3);

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn id(seed: u8) -> AccountId {
    key(seed).account_id()
}

/// Two validators and two miners; coldkeys 100 to 103 with money.
fn config() -> GenesisConfig {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u8, stake| GenesisNeuron { hotkey: id(i), coldkey: id(100 + i), stake, permit: false };
    config.neurons = vec![neuron(0, 3_000_000_000_000), neuron(1, 1_000_000_000_000), neuron(2, 0), neuron(3, 0)];
    config.accounts = (100..104).map(|i| (id(i), 10_000_000_000)).collect();
    config.owner = Some(SubnetOwner { hotkey: id(0), coldkey: id(100) });
    config
}

fn options(scheduler: Scheduler, fee_wrapper: bool) -> RuntimeOptions {
    RuntimeOptions { scheduler, fee_wrapper, ..RuntimeOptions::default() }
}

fn face_of(config: &GenesisConfig) -> Face {
    let chain = DevChain::in_memory(config, BlockTime::Virtual(250)).unwrap();
    Face::new(chain, Permissions { control: true }).unwrap()
}

fn face() -> Face {
    face_of(&config())
}

fn try_ask(face: &Face, method: &str, params: Value) -> Result<Value, Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let answer: Value = serde_json::from_str(&handle(face, request.to_string().as_bytes(), None).unwrap()).unwrap();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
    match answer.get("error") {
        Some(error) => Err(error.clone()),
        None => Ok(answer["result"].clone()),
    }
}

fn ask(face: &Face, method: &str, params: Value) -> Value {
    try_ask(face, method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
}

fn hexed(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().strip_prefix("0x").unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn nonce(face: &Face, by: u8) -> u32 {
    let answer = ask(face, "state_call", json!(["AccountNonceApi_account_nonce", hexed(&id(by).0)]));
    u32::decode(&mut &bytes(&answer)[..]).unwrap()
}

fn signed(face: &Face, by: u8, call: &RuntimeCall) -> Vec<u8> {
    let era = Era::mortal(64, face.chain().best().number.0);
    extrinsic::sign(face.chain(), &key(by), nonce(face, by), era, call).unwrap()
}

fn submit(face: &Face, by: u8, call: &RuntimeCall) -> Result<Value, Value> {
    try_ask(face, "author_submitExtrinsic", json!([hexed(&signed(face, by, call))]))
}

fn storage(face: &Face, pallet: &str, entry: &str, args: &templar_chain_rpc::storage::Args) -> Option<Vec<u8>> {
    let key = face.storage().key(pallet, entry, args).unwrap();
    let value = ask(face, "state_getStorage", json!([hexed(&key)]));
    (!value.is_null()).then(|| bytes(&value))
}

fn set_weights(weights: &[(u16, u16)]) -> RuntimeCall {
    let (dests, weights) = weights.iter().copied().unzip();
    RuntimeCall::SubtensorModule(Subtensor::set_weights { netuid: NETUID.0, dests, weights, version_key: 0 })
}

fn head_hash(face: &Face) -> Value {
    ask(face, "chain_getBlockHash", json!([]))
}

fn u32_of(bytes: &[u8]) -> u32 {
    assert_eq!(bytes.len(), 0u32.encode().len());
    u32::decode(&mut &bytes[..]).unwrap()
}
