//! The metadata describes what is served, to the last byte.

use super::*;
use frame_metadata::{
    RuntimeMetadata, RuntimeMetadataPrefixed,
    v14::StorageEntryType,
    v16::{RuntimeMetadataV16, StorageEntryMetadata},
};
use scale_info::{PortableRegistry, form::PortableForm};
use templar_chain_rpc::storage::{Args, twox_128};

fn metadata(face: &Face, format: u32) -> RuntimeMetadata {
    let bytes = face.metadata().format(format).unwrap();
    let mut rest = bytes;
    let metadata = RuntimeMetadataPrefixed::decode(&mut rest).unwrap();
    assert!(rest.is_empty());
    metadata.1
}

fn latest(face: &Face) -> RuntimeMetadataV16 {
    match metadata(face, 16) {
        RuntimeMetadata::V16(metadata) => metadata,
        other => panic!("{}", other.version()),
    }
}

/// Reads `bytes` as the type says, and fails when some are left.
fn read(types: &PortableRegistry, ty: u32, bytes: &[u8], what: &str) -> String {
    let mut rest = bytes;
    let value = scale_value::scale::decode_as_type(&mut rest, ty, types).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(rest.is_empty(), "{what}: {} bytes are left", rest.len());
    value.to_string()
}

/// A chain with something in every place.
fn busy() -> Face {
    let mut config = config();
    config.rules.tempo = 5;
    let face = face_of(&config);
    let axon = Subtensor::serve_axon {
        netuid: 3,
        version: 1,
        ip: 0x0102_0304,
        port: 80,
        ip_type: 4,
        protocol: 4,
        placeholder1: 0,
        placeholder2: 0,
    };
    submit(&face, 0, &set_weights(&[(2, 2), (3, 1)])).unwrap();
    submit(&face, 2, &RuntimeCall::SubtensorModule(axon)).unwrap();
    submit(&face, 2, &commitment(b"t1 http://here")).unwrap();
    face.chain().close_blocks(7).unwrap();
    submit(&face, 3, &commitment(b"")).unwrap();
    submit(&face, 100, &RuntimeCall::SubtensorModule(Subtensor::burned_register { netuid: 3, hotkey: id(50).into() })).unwrap();
    submit(&face, 2, &set_weights(&[(0, 1)])).unwrap();
    face.chain().close_block().unwrap();
    face
}

fn commitment(data: &[u8]) -> RuntimeCall {
    use templar_chain_rpc::runtime::{bounded_collections::bounded_vec::BoundedVec, pallet_commitments};
    let field = pallet_commitments::types::Data(templar_chain::CommitmentField::Raw(data.to_vec()));
    let info = pallet_commitments::types::CommitmentInfo { fields: BoundedVec(vec![field]) };
    RuntimeCall::Commitments(pallet_commitments::pallet::Call::set_commitment { netuid: 3, info: Box::new(info) })
}

fn value_type(entry: &StorageEntryMetadata<PortableForm>) -> u32 {
    match &entry.ty {
        StorageEntryType::Plain(ty) => ty.id,
        StorageEntryType::Map { value, .. } => value.id,
    }
}

#[test]
fn every_value_in_storage_is_as_described() {
    let face = busy();
    let metadata = latest(&face);
    let (mut entries, mut values) = (0, 0);
    for pallet in &metadata.pallets {
        for entry in pallet.storage.iter().flat_map(|storage| &storage.entries) {
            let what = format!("{}.{}", pallet.name, entry.name);
            let ty = value_type(entry);
            if entry.modifier == frame_metadata::v14::StorageEntryModifier::Default {
                read(&metadata.types, ty, &entry.default, &what);
            }
            let prefix = [twox_128(&pallet.name), twox_128(&entry.name)].concat();
            let keys = ask(&face, "state_getKeysPaged", json!([hexed(&prefix), 1000, null]));
            for key in keys.as_array().unwrap() {
                let value = ask(&face, "state_getStorage", json!([key]));
                read(&metadata.types, ty, &bytes(&value), &what);
                values += 1;
            }
            entries += 1;
        }
    }
    assert!(entries > 140 && values > 130, "{entries} entries, {values} values");
}

#[test]
fn every_runtime_function_gives_what_is_described() {
    let face = busy();
    let metadata = latest(&face);
    let mut called = 0;
    for api in &metadata.apis {
        for method in &api.methods {
            let name = format!("{}_{}", api.name, method.name);
            let arguments: Vec<u8> = match method.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().as_slice() {
                [] => vec![],
                ["netuid"] => 3u16.encode(),
                ["netuid", "uid"] => (3u16, 2u16).encode(),
                ["netuid", "mecid"] => (3u16, 0u8).encode(),
                ["netuid", "metagraph_indexes"] => (3u16, (0u16..80).collect::<Vec<_>>()).encode(),
                ["netuid", "subid", "metagraph_indexes"] => (3u16, 0u8, vec![52u16, 73]).encode(),
                ["hotkey_account", "coldkey_account", "netuid"] => (id(0).0, id(100).0, 3u16).encode(),
                ["coldkey_account" | "delegatee_account"] => id(100).0.encode(),
                ["delegate_account" | "account"] => id(0).0.encode(),
                ["coldkey_accounts"] => vec![id(100).0, id(101).0].encode(),
                ["coldkey", "netuid"] => (id(100).0, 3u16).encode(),
                ["netuid", "tao" | "alpha"] => (3u16, 5u64).encode(),
                ["version"] => 15u32.encode(),
                ["weight"] => vec![0, 0],
                ["length"] => 5u32.encode(),
                ["uxt", "len"] => (vec![1u8, 2, 3], 3u32).encode(),
                ["origin", "origin_coldkey_account", "destination", "destination_coldkey_account", "amount"] => {
                    (None::<([u8; 32], u16)>, [1u8; 32], None::<([u8; 32], u16)>, [2u8; 32], 5u64).encode()
                }
                other => panic!("{name} takes {other:?}: say here with what it is called"),
            };
            let value = ask(&face, "state_call", json!([name, hexed(&arguments)]));
            let shown = read(&metadata.types, method.output.id, &bytes(&value), &name);
            assert!(!shown.is_empty());
            called += 1;
        }
    }
    assert!(called > 35, "{called}");
}

#[test]
fn calls_and_events_are_written_as_described() {
    let face = busy();
    let metadata = latest(&face);
    let call = read(&metadata.types, metadata.outer_enums.call_enum_ty.id, &commitment(b"hello").encode(), "a call");
    assert!(call.contains("Raw5") && call.contains("set_commitment"), "{call}");
    let events = metadata.pallets[0].storage.as_ref().unwrap().entries.iter().find(|entry| entry.name == "Events").unwrap();
    let value = storage(&face, "System", "Events", &Args::default()).unwrap();
    let shown = read(&metadata.types, value_type(events), &value, "events");
    for name in ["NeuronRegistered", "ExtrinsicSuccess", "Commitment", "ExtrinsicFailed"] {
        assert!(shown.contains(name), "{name} is not in {shown}");
    }
}

#[test]
fn the_formats_agree_and_accounts_come_first() {
    for wrapper in [false, true] {
        for scheduler in [Scheduler::Modular, Scheduler::Stateful] {
            let face = face_of(&GenesisConfig { runtime: options(scheduler, wrapper), ..config() });
            let (RuntimeMetadata::V14(old), RuntimeMetadata::V15(middle), RuntimeMetadata::V16(new)) =
                (metadata(&face, 14), metadata(&face, 15), metadata(&face, 16))
            else {
                panic!("a format is another than asked for");
            };
            assert_eq!(old.types, middle.types);
            assert_eq!(old.types, new.types);
            assert_eq!(new.types.resolve(0).unwrap().path.segments, ["sp_core", "crypto", "AccountId32"]);
            let named = |name: &str| new.extrinsic.transaction_extensions.iter().any(|extension| extension.identifier == name);
            assert_eq!((named("ChargeTransactionPaymentWrapper"), named("ChargeTransactionPayment")), (wrapper, !wrapper));
            let storage = new.pallets.iter().find(|pallet| pallet.name == "SubtensorModule").unwrap().storage.as_ref().unwrap();
            let stateful = storage.entries.iter().any(|entry| entry.name == "LastEpochBlock");
            assert_eq!(stateful, scheduler == Scheduler::Stateful);
            assert!(new.types.types.iter().all(|ty| ty.ty.path.segments.first().is_none_or(|first| !first.starts_with("templar"))));
        }
    }
}

#[test]
fn keys_equal_the_chains() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let face = face();
    let alice = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".parse().unwrap();
    let args = Args { netuid: 3, uid: 0, account: alice, ..Args::default() };
    let mut seen = 0;
    for case in all["storage_keys"].as_array().unwrap() {
        let (name, expected) = (case["entry"].as_str().unwrap(), case["key"].as_str().unwrap());
        let (pallet, entry) = name.split('(').next().unwrap().split_once('.').unwrap();
        let key = hexed(&face.storage().key(pallet, entry, &args).unwrap());
        if name.ends_with("prefix") {
            assert!(key.starts_with(expected), "{name}");
        } else {
            assert_eq!(key, expected, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn commitments_equal_the_chains() {
    use templar_chain_rpc::runtime::{
        bounded_collections::bounded_vec::BoundedVec,
        pallet_commitments::types::{CommitmentInfo, Data, Registration},
    };
    let read = |name: &str| -> Value {
        let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let info = |data: &[u8]| CommitmentInfo { fields: BoundedVec(vec![Data(templar_chain::CommitmentField::Raw(data.to_vec()))]) };
    for case in read("chain/chain.json")["commitments"].as_array().unwrap() {
        let data = bytes(&case["data"]);
        assert_eq!(info(&data).encode(), bytes(&case["commitment_info"]));
        assert_eq!(CommitmentInfo::decode(&mut &bytes(&case["commitment_info"])[..]).unwrap(), info(&data));
        assert_eq!(commitment(&data).encode(), bytes(&case["call_set_commitment_netuid3"]));
        let stored = Registration { deposit: 0, block: 123, info: info(&data) };
        assert_eq!(stored.encode(), bytes(&case["storage_registration_deposit0_block123"]));
    }
    let bucket = read("commitment.json");
    let text = bucket["committed_string"].as_str().unwrap();
    let fields = format!("0x{}", bucket["commitment_info_fields_scale_hex"].as_str().unwrap());
    assert_eq!(info(text.as_bytes()).encode(), bytes(&json!(fields)));
}

#[test]
fn keys_are_paged_without_gaps() {
    let face = busy();
    let whole = ask(&face, "state_getKeysPaged", json!([null, 1000, null]));
    let whole = whole.as_array().unwrap();
    assert!(whole.len() > 100);
    let (mut paged, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = ask(&face, "state_getKeysPaged", json!(["0x", 7, after]));
        let page = page.as_array().unwrap();
        let Some(last) = page.last() else { break };
        after = last.clone();
        paged.extend(page.iter().cloned());
    }
    assert_eq!(&paged, whole);
    let prefix = hexed(&twox_128("Commitments"));
    let some = ask(&face, "state_getKeysPaged", json!([prefix, 100, null]));
    assert!(some.as_array().unwrap().iter().all(|key| key.as_str().unwrap().starts_with(&prefix)));
    assert!(try_ask(&face, "state_getKeysPaged", json!([null, 1001, null])).is_err());
    let values = ask(&face, "state_queryStorageAt", json!([some, head_hash(&face)]));
    assert!(values[0]["changes"].as_array().unwrap().iter().all(|change| change[1].is_string()));
}
