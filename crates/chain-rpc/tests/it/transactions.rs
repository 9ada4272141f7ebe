//! Signed transactions: what the pool refuses, what a block says of the others, and what nobody can forge.

use super::*;
use templar_chain_rpc::runtime::{Address, pallet_balances, sp_core::crypto::AccountId32, sp_runtime::multiaddress::MultiAddress};
use templar_chain_rpc::storage::Args;

fn transfer(to: u8, value: u64) -> RuntimeCall {
    let dest: Address = MultiAddress::Id(AccountId32(id(to).0));
    RuntimeCall::Balances(pallet_balances::pallet::Call::transfer_keep_alive { dest, value })
}

fn free(face: &Face, who: u8) -> u64 {
    let account = storage(face, "System", "Account", &Args { account: id(who), ..Args::default() });
    account.map_or(0, |bytes| u64::from_le_bytes(bytes[16..24].try_into().unwrap()))
}

/// Names of the events of the newest block, with the place of the transaction.
fn events(face: &Face) -> Vec<String> {
    let view = templar_chain_rpc::view::View::at(face.chain(), None).unwrap();
    templar_chain_rpc::events::records(&view).into_iter().map(|record| format!("{:?} {:?}", record.phase, record.event)).collect()
}

#[test]
fn a_transaction_is_in_its_block_with_its_events() {
    let face = face();
    let raw = signed(&face, 100, &transfer(200, 5_000));
    let hash = ask(&face, "author_submitExtrinsic", json!([hexed(&raw)]));
    assert_eq!(bytes(&hash), templar_chain::blake2_256(&raw).0);
    assert_eq!(ask(&face, "templar_decided", json!([hash])), json!({ "ok": true }));
    assert_eq!(ask(&face, "author_pendingExtrinsics", json!([])), json!([hexed(&raw)]));
    // The same again, before and after its block.
    assert_eq!(try_ask(&face, "author_submitExtrinsic", json!([hexed(&raw)])).unwrap_err()["code"], 1013);
    assert_eq!(free(&face, 200), 0);
    face.chain().close_block().unwrap();
    let again = try_ask(&face, "author_submitExtrinsic", json!([hexed(&raw)])).unwrap_err();
    assert_eq!((&again["code"], &again["data"]), (&json!(1010), &json!("Transaction is outdated")));
    assert_eq!((free(&face, 200), free(&face, 100)), (5_000, 9_999_995_000));
    let block = ask(&face, "chain_getBlock", json!([]));
    let extrinsics = block["block"]["extrinsics"].as_array().unwrap();
    assert_eq!((extrinsics.len(), &extrinsics[1]), (2, &json!(hexed(&raw))));
    let events = events(&face);
    assert!(events.iter().any(|event| event.starts_with("ApplyExtrinsic(1)") && event.contains("Transfer")), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("ApplyExtrinsic(1)") && event.contains("ExtrinsicSuccess")), "{events:?}");
    assert_eq!((nonce(&face, 100), ask(&face, "system_accountNextIndex", json!([id(100).to_string()]))), (1, json!(1)));
}

#[test]
fn a_call_that_fails_is_in_its_block_by_the_chains_name() {
    let face = face();
    // Uid 2 is a miner: no permit.
    submit(&face, 2, &set_weights(&[(0, 1)])).unwrap();
    face.chain().close_block().unwrap();
    let failed = events(&face).into_iter().find(|event| event.contains("ExtrinsicFailed")).unwrap();
    // NeuronNoValidatorPermit is the sixteenth reason of pallet 7.
    assert!(failed.contains("ModuleError { index: 7, error: [15, 0, 0, 0] }"), "{failed}");
    assert_eq!(nonce(&face, 2), 1);
    let too_much = submit(&face, 100, &transfer(200, u64::MAX)).unwrap();
    assert_eq!(ask(&face, "templar_decided", json!([too_much]))["error"], "FundsUnavailable");
    face.chain().close_block().unwrap();
    assert!(events(&face).iter().any(|event| event.contains("Token(FundsUnavailable)")));
}

#[test]
fn every_refusal_of_the_engine_has_a_number_or_a_word() {
    use templar_chain::ChainError;
    let dispatch = |pallet: &str, error: &str| {
        let error = ChainError::Dispatch { pallet: pallet.into(), error: error.into(), meaning: String::new() };
        format!("{:?}", templar_chain_rpc::events::dispatch_error(&error))
    };
    // Names that the engine's sources refuse with.
    let sources = ["apply.rs", "apply/commitments.rs", "apply/money.rs", "apply/neurons.rs", "apply/swaps.rs", "apply/weights.rs"];
    let mut seen = std::collections::BTreeSet::new();
    for source in sources {
        let text = std::fs::read_to_string(format!("{}/../chain/src/{source}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let pallet = if source.contains("commitments") { "Commitments" } else { "SubtensorModule" };
        for part in text.split("refuse(\"").skip(1) {
            seen.insert((pallet, part.split('"').next().unwrap().to_owned()));
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
    // What only the owner of the chain is told, and a bound that no client of the chain can pass.
    let ours = ["SubnetAlreadyExists", "AmountTooLarge", "TooManyNeurons", "TooLong"];
    for (pallet, error) in seen.iter().filter(|(_, error)| !ours.contains(&error.as_str())) {
        assert!(dispatch(pallet, error).starts_with("Module"), "{pallet}::{error} has no number");
    }
    assert!(dispatch("Token", "BelowMinimum").contains("BelowMinimum"));
}

#[test]
fn the_pool_refuses_with_the_runtimes_numbers() {
    let mut config = config();
    config.rules.stake_threshold = 2_000_000_000_000;
    let face = face_of(&config);
    let custom = |result: Result<Value, Value>| {
        let error = result.unwrap_err();
        assert_eq!((&error["code"], &error["message"]), (&json!(1010), &json!("Invalid Transaction")));
        error["data"].as_str().unwrap().to_owned()
    };
    assert_eq!(custom(submit(&face, 1, &set_weights(&[(2, 1)]))), "Custom error: 1");
    let stake = |hotkey: u8, netuid, amount_staked| {
        RuntimeCall::SubtensorModule(Subtensor::add_stake { hotkey: id(hotkey).into(), netuid, amount_staked })
    };
    assert_eq!(custom(submit(&face, 100, &stake(0, 3, u64::MAX))), "Custom error: 2");
    assert_eq!(custom(submit(&face, 100, &stake(0, 9, 1))), "Custom error: 3");
    assert_eq!(custom(submit(&face, 100, &stake(77, 3, 1))), "Custom error: 4");
    let unstake = RuntimeCall::SubtensorModule(Subtensor::remove_stake { hotkey: id(0).into(), netuid: 3, amount_unstaked: u64::MAX });
    assert_eq!(custom(submit(&face, 100, &unstake)), "Custom error: 5");
    let unknown = submit(&face, 77, &transfer(0, 1));
    assert!(custom(unknown).starts_with("Inability to pay"));
    assert_eq!(nonce(&face, 100), 0);
}

#[test]
fn nobody_signs_for_another_or_for_another_chain() {
    let face = face();
    let refused = |raw: &[u8]| try_ask(&face, "author_submitExtrinsic", json!([hexed(raw)])).unwrap_err()["data"].clone();
    let bad = json!("Transaction has a bad signature");
    let era = Era::mortal(64, 0);
    // Of another chain: only its genesis differs.
    let other = face_of(&GenesisConfig { genesis_ms: 5, ..config() });
    assert_eq!(refused(&extrinsic::sign(other.chain(), &key(100), 0, era, &transfer(200, 5_000)).unwrap()), bad);
    // Another signer written over the true one.
    let mut raw = signed(&face, 100, &transfer(200, 5_000));
    let place = raw.windows(32).position(|window| window == id(100).0).unwrap();
    raw[place..place + 32].copy_from_slice(&id(101).0);
    assert_eq!(refused(&raw), bad);
    // A nonce ahead, and one that is over.
    let ahead = extrinsic::sign(face.chain(), &key(100), 5, era, &transfer(200, 5_000)).unwrap();
    assert_eq!(refused(&ahead), json!("Transaction will be valid in the future"));
    assert_eq!(face.chain().pending_transactions().len(), 0);
}

#[test]
fn a_transaction_lives_as_long_as_its_era() {
    let face = face();
    let early = extrinsic::sign(face.chain(), &key(100), 0, Era::mortal(8, 0), &transfer(200, 5_000)).unwrap();
    let immortal = extrinsic::sign(face.chain(), &key(101), 0, Era::Immortal, &transfer(200, 5_000)).unwrap();
    face.chain().close_blocks(8).unwrap();
    let error = try_ask(&face, "author_submitExtrinsic", json!([hexed(&early)])).unwrap_err();
    assert_eq!(error["data"], "Transaction has a bad signature");
    ask(&face, "author_submitExtrinsic", json!([hexed(&immortal)]));
    // A block whose hash is no longer kept.
    let old = extrinsic::sign(face.chain(), &key(100), 0, Era::mortal(65_536, 8), &transfer(200, 5_000)).unwrap();
    face.chain().close_blocks(4200).unwrap();
    let error = try_ask(&face, "author_submitExtrinsic", json!([hexed(&old)])).unwrap_err();
    assert_eq!(error["data"], "Transaction has an ancient birth block");
}

#[test]
fn eras_are_as_the_chain_writes_them() {
    // Known pairs: immortal, and 64 blocks at phase 42.
    assert_eq!(Era::Immortal.encode(), [0]);
    assert_eq!(Era::Mortal { period: 64, phase: 42 }.encode(), [0xa5, 0x02]);
    assert_eq!(Era::Mortal { period: 32_768, phase: 20_000 }.encode(), (14u16 | 2_500 << 4).to_le_bytes());
    for period in [4u64, 8, 64, 128, 4096, 8192, 65_536] {
        for current in [0u64, 1, 63, 64, 1000, 65_535, 1_000_003] {
            let era = Era::mortal(period, current);
            assert_eq!(Era::decode(&mut &era.encode()[..]).unwrap(), era);
            let birth = era.birth(current);
            assert!(birth <= current && current < birth + period, "{era:?} at {current}: born {birth}");
        }
    }
    assert!(Era::decode(&mut &[0x01, 0xff][..]).is_err());
}

#[test]
fn timelocked_weights_are_revealed_by_the_chain() {
    let mut config = config();
    config.rules.commit_reveal = true;
    config.rules.tempo = 20;
    let face = face_of(&config);
    assert!(try_submit_weights(&face).contains("CommitRevealEnabled"));
    let commit = RuntimeCall::SubtensorModule(Subtensor::commit_timelocked_weights {
        netuid: 3,
        commit: templar_chain_rpc::runtime::bounded_collections::bounded_vec::BoundedVec(vec![1, 2, 3]),
        reveal_round: 1,
        commit_reveal_version: 4,
    });
    // Round 1 is signed with block 0, and the newest round is not in the past.
    submit(&face, 0, &commit).unwrap();
    face.chain().close_blocks(13).unwrap();
    assert_eq!(submit(&face, 0, &commit).unwrap_err()["data"], "Custom error: 15");
    // What is no ciphertext is dropped when its epoch is over, and nothing else happens.
    face.chain().close_blocks(60).unwrap();
    let epoch = Args { netuid: 3, number: 0, ..Args::default() };
    assert_eq!(storage(&face, "SubtensorModule", "TimelockedWeightCommits", &epoch), None);
}

fn try_submit_weights(face: &Face) -> String {
    let hash = submit(face, 0, &set_weights(&[(2, 1)])).unwrap();
    ask(face, "templar_decided", json!([hash]))["error"].as_str().unwrap().to_owned()
}

#[test]
fn the_owner_of_the_chain_may_and_others_may_not() {
    let face = face();
    ask(&face, "dev_fund", json!([id(200).to_string(), 7_000]));
    ask(&face, "dev_createSubnet", json!([9]));
    ask(&face, "dev_setRules", json!([9, { "tempo": 33, "commit_reveal": true }]));
    let block = ask(&face, "dev_advance", json!([3]));
    assert_eq!((&block["number"], free(&face, 200)), (&json!(3), 7_000));
    let rules = face.chain().rules_of(Netuid(9)).unwrap();
    assert_eq!((rules.tempo, rules.commit_reveal, rules.kappa), (33, true, 32_767));
    for (method, params) in [
        ("dev_createSubnet", json!([9])),
        ("dev_setRules", json!([9, { "tempo": "no" }])),
        ("dev_setRules", json!([9, { "unknown": 1 }])),
        ("dev_setRules", json!([9, { "max_allowed_uids": 0 }])),
        ("dev_fund", json!(["nobody", 1])),
        ("dev_fund", json!([id(200).to_string(), u64::MAX])),
        ("dev_advance", json!([100_001])),
    ] {
        assert!(try_ask(&face, method, params.clone()).is_err(), "{method} {params}");
    }
    let chain = DevChain::in_memory(&config(), BlockTime::Virtual(250)).unwrap();
    let locked = Face::new(chain, Permissions::default()).unwrap();
    let error = try_ask(&locked, "dev_fund", json!([id(200).to_string(), 7_000])).unwrap_err();
    assert!(error["data"].as_str().unwrap().contains("--allow-control"), "{error}");
    assert!(!ask(&locked, "rpc_methods", json!([]))["methods"].as_array().unwrap().contains(&json!("dev_fund")));
}

#[test]
fn old_states_are_read_until_they_are_gone() {
    let face = face();
    let first = head_hash(&face);
    submit(&face, 100, &transfer(200, 5_000)).unwrap();
    face.chain().close_block().unwrap();
    let account = hexed(&face.storage().key("System", "Account", &Args { account: id(200), ..Args::default() }).unwrap());
    assert!(ask(&face, "state_getStorageAt", json!([account, first])).is_null());
    assert!(ask(&face, "state_getStorage", json!([account])).is_string());
    face.chain().close_blocks(600).unwrap();
    let error = try_ask(&face, "state_getStorage", json!([account, first])).unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("State already discarded"), "{error}");
    // Headers live longer than states.
    assert_eq!(ask(&face, "chain_getBlockHash", json!([0])), first);
    assert!(ask(&face, "chain_getBlock", json!([first])).is_null());
    let unknown = try_ask(&face, "state_getStorage", json!([account, hexed(&[9; 32])])).unwrap_err();
    assert!(unknown["message"].as_str().unwrap().contains("UnknownBlock"), "{unknown}");
    let number = storage(&face, "System", "Number", &Args::default()).unwrap();
    assert_eq!(u32_of(&number), 601);
}

#[test]
fn an_ed25519_key_signs_as_well() {
    use templar_chain_rpc::runtime::sp_runtime::MultiSignature;
    let face = face();
    let key = templar_wallet::WalletKey::from_seed(&[5; 32], templar_wallet::KeyType::Ed25519);
    let who = key.account();
    ask(&face, "dev_fund", json!([who.to_string(), 10_000]));
    let sign = |kind: fn([u8; 64]) -> MultiSignature| {
        let call = transfer(200, 5_000);
        let signature = |message: &[u8]| kind(key.sign_message(message));
        hexed(&extrinsic::sign_with(face.chain(), &who, 0, Era::Immortal, &call, signature).unwrap())
    };
    assert!(try_ask(&face, "author_submitExtrinsic", json!([sign(MultiSignature::Sr25519)])).is_err());
    ask(&face, "author_submitExtrinsic", json!([sign(MultiSignature::Ed25519)]));
    face.chain().close_block().unwrap();
    assert_eq!(free(&face, 200), 5_000);
}
