//! What needs no node: calls, keys and transactions against the main network's metadata, with and without the fee wrapper. The metadata is
//! large and lies beside the repository, not in it: where it is absent the tests say so and check nothing.

use crate::{
    calls,
    runtime::{Birth, ERA_BLOCKS, Runtime},
    state::{SUBTENSOR, account, number, subnet},
};
use parity_scale_codec::{Compact, Encode as _};
use serde_json::Value as Json;
use std::sync::Arc;
use templar_chain::{Axon, BlockHash, ChainError};
use templar_protocol::{AccountId, Netuid, Uid};
use templar_wallet::{Keypair, SUBSTRATE_CONTEXT, Signer as _, verify};

/// Where the folder with the metadata may be: in the repository's own folder or beside it.
const FOLDERS: [&str; 2] = ["/../../shared", "/../../../shared"];

fn genesis() -> BlockHash {
    BlockHash([0x2f; 32])
}

/// One of the metadata files; `None`, said aloud, where the folder is absent.
fn metadata(file: &str) -> Option<Vec<u8>> {
    let path = |folder: &&str| format!("{}{folder}/spec/vectors/chain/metadata/{file}", env!("CARGO_MANIFEST_DIR"));
    let found = FOLDERS.iter().find_map(|folder| std::fs::read(path(folder)).ok());
    if found.is_none() {
        println!("not checked: the metadata {file} is not here");
    }
    found
}

fn runtime(file: &str) -> Option<Arc<Runtime>> {
    let bytes = metadata(file)?;
    Some(Runtime::new(&genesis(), "node-subtensor", (365, 1), &bytes).unwrap())
}

const PLAIN: &str = "finney-365-v16.scale";
const WRAPPED: &str = "finney-365-v16-fee-wrapper.scale";
const ALL: [&str; 4] = ["finney-365-v14.scale", "finney-365-v15.scale", PLAIN, WRAPPED];

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(value: &Json) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn alice() -> AccountId {
    "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".parse().unwrap()
}

#[test]
fn storage_keys_are_the_chains() {
    for runtime in ALL.iter().filter_map(|file| runtime(file)) {
        let netuid = subnet(Netuid(3));
        let keys = [
            runtime.key(SUBTENSOR, "Tempo", vec![netuid.clone()]),
            runtime.key(SUBTENSOR, "Keys", vec![netuid.clone(), number(0u16)]),
            runtime.key(SUBTENSOR, "Uids", vec![netuid.clone(), account(&alice())]),
            runtime.key("Commitments", "CommitmentOf", vec![netuid.clone(), account(&alice())]),
            runtime.key("Commitments", "CommitmentOf", vec![netuid]),
            runtime.key("System", "Account", vec![account(&alice())]),
            runtime.key("Timestamp", "Now", vec![]),
            runtime.key("System", "Events", vec![]),
        ];
        let all = vectors();
        let expected = all["storage_keys"].as_array().unwrap();
        assert_eq!(keys.len(), expected.len());
        for (key, case) in keys.into_iter().zip(expected) {
            assert_eq!(key.unwrap(), bytes(&case["key"]), "{}", case["entry"]);
        }
    }
}

#[test]
fn commitments_have_the_chains_bytes() {
    let Some(runtime) = runtime(PLAIN) else { return };
    for case in vectors()["commitments"].as_array().unwrap() {
        let call = runtime.call_data(&calls::set_commitment(Netuid(3), &bytes(&case["data"]))).unwrap();
        assert_eq!(call, bytes(&case["call_set_commitment_netuid3"]), "{}", case["name"]);
        let stored = bytes(&case["storage_registration_deposit0_block123"]);
        let read: crate::values::StoredCommitment = runtime.value("Commitments", "CommitmentOf", &stored).unwrap();
        let commitment = read.into_commitment().unwrap();
        assert_eq!((commitment.block.0, commitment.data), (123, bytes(&case["data"])));
    }
}

fn every_call() -> Vec<crate::runtime::Call> {
    let (netuid, key) = (Netuid(3), alice());
    let axon = Axon { version: 1, ip: "1.2.3.4".parse().unwrap(), port: 8091, protocol: 4 };
    let axon6 = Axon { ip: "2001:db8::1".parse().unwrap(), ..axon.clone() };
    vec![
        calls::set_commitment(netuid, &[7; 128]),
        calls::set_weights(netuid, &[(Uid(0), 65535), (Uid(7), 1)], 9),
        calls::commit_timelocked_weights(netuid, &[1; 430], 1000, 4),
        calls::burned_register(netuid, &key),
        calls::serve_axon(netuid, &axon),
        calls::serve_axon(netuid, &axon6),
        calls::add_stake(&key, netuid, 5),
        calls::remove_stake(&key, netuid, 5),
        calls::transfer(&key, u64::MAX),
        calls::transfer_all(&key, false),
        calls::associate_hotkey(&key),
        calls::swap_hotkey(&key, &AccountId([9; 32]), Some(netuid)),
        calls::swap_hotkey(&key, &AccountId([9; 32]), None),
        calls::schedule_swap_coldkey(&key),
        calls::set_identity(&calls::Identity { name: "x".into(), ..Default::default() }),
    ]
}

#[test]
fn every_call_is_signed_for_its_chain_with_and_without_the_fee_wrapper() {
    let key = Keypair::from_seed([3; 32]);
    let birth = Birth { number: 1000, hash: BlockHash([5; 32]) };
    for runtime in [PLAIN, WRAPPED].iter().filter_map(|file| runtime(file)) {
        for call in every_call() {
            let data = runtime.call_data(&call).unwrap();
            let signed = runtime.sign(&call, &key, 12, birth).unwrap();
            // The parts of a signed transaction of version 4 in their order.
            let mut rest = &signed.bytes[..];
            let length = <Compact<u32> as parity_scale_codec::Decode>::decode(&mut rest).unwrap();
            assert_eq!(length.0 as usize, rest.len());
            assert_eq!(rest[..2], [0x84, 0], "signed, version 4, an address by id");
            assert_eq!(rest[2..34], key.account_id().0);
            assert_eq!(rest[34], 1, "sr25519");
            let signature: [u8; 64] = rest[35..99].try_into().unwrap();
            // Era of 64 blocks from block 1000 (its phase is 1000 mod 64 = 40), nonce 12, no tip, no hash of metadata.
            let phase = (1000 % ERA_BLOCKS) as u16;
            let extra = [&((phase << 4) | 5).to_le_bytes()[..], &Compact(12u32).encode(), &Compact(0u64).encode(), &[0]].concat();
            assert_eq!(rest[99..], [&extra[..], &data[..]].concat());
            let implicit = [&365u32.to_le_bytes()[..], &1u32.to_le_bytes(), &genesis().0, &birth.hash.0, &[0]].concat();
            let payload = [&data[..], &extra, &implicit].concat();
            // A long payload is signed by its hash.
            let payload = if payload.len() > 256 { runtime.hash(&payload).0.to_vec() } else { payload };
            assert!(verify(SUBSTRATE_CONTEXT, &key.account_id(), &payload, &signature), "{}", call.call_name());
            assert_eq!(signed.hash, runtime.hash(&signed.bytes));
        }
    }
}

#[test]
fn what_a_runtime_lacks_is_named() {
    let Some(runtime) = runtime(PLAIN) else { return };
    let key = Keypair::from_seed([3; 32]);
    let birth = Birth { number: 0, hash: BlockHash::default() };
    let refused = runtime.sign(&calls::register_limit(Netuid(3), &alice(), 1), &key, 0, birth).unwrap_err();
    let ChainError::Unsupported { what } = &refused else { panic!("{refused}") };
    assert!(what.contains("SubtensorModule.register_limit") && what.contains("365"), "{what}");
    let refused = runtime.key(SUBTENSOR, "LastEpochBlock", vec![subnet(Netuid(3))]).unwrap_err();
    assert!(refused.to_string().contains("LastEpochBlock"), "{refused}");
    let refused = runtime.api_input("SubnetInfoRuntimeApi", "get_next_epoch_start_block", vec![subnet(Netuid(3))]).unwrap_err();
    assert!(refused.to_string().contains("get_next_epoch_start_block"), "{refused}");
}

#[test]
fn damaged_metadata_is_refused_without_a_panic() {
    let Some(good) = metadata(PLAIN) else { return };
    let refused = |bytes: &[u8]| assert!(Runtime::new(&genesis(), "x", (1, 1), bytes).is_err());
    refused(&[]);
    refused(b"meta\x10");
    refused(&good[..good.len() / 2]);
    // Bytes changed here and there: read or refused, never a panic.
    for place in (5..good.len()).step_by(good.len() / 40) {
        let mut damaged = good.clone();
        damaged[place] ^= 0x55;
        let _ = Runtime::new(&genesis(), "x", (1, 1), &damaged);
    }
}

#[test]
fn a_blocks_time_is_found_in_its_body() {
    let Some(runtime) = runtime(PLAIN) else { return };
    let inherent = |version: u8, ms: u64| {
        let inner = [&[version, 2, 0][..], &Compact(ms).encode()].concat();
        [Compact(inner.len() as u32).encode(), inner].concat()
    };
    assert_eq!(runtime.time_of_body(&[inherent(4, 1_764_000_000_123)]), Some(1_764_000_000_123));
    assert_eq!(runtime.time_of_body(&[vec![], vec![4], inherent(5, 77)]), Some(77));
    assert_eq!(runtime.time_of_body(&[inherent(0x84, 77)]), None, "a signed transaction sets no time");
}
