//! What hostile bytes do: nothing but an error.

use super::*;
use proptest::prelude::*;

fn methods(face: &Face) -> Vec<String> {
    serde_json::from_value(ask(face, "rpc_methods", json!([]))["methods"].clone()).unwrap()
}

#[test]
fn requests_that_are_none_are_refused_by_the_known_codes() {
    let face = face();
    let code = |text: &str| {
        let answer: Value = serde_json::from_str(&handle(&face, text.as_bytes(), None).unwrap()).unwrap();
        answer["error"]["code"].as_i64().unwrap()
    };
    assert_eq!(code("no json"), -32700);
    assert_eq!(code("[]"), -32600);
    assert_eq!(code("5"), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":{},"method":"system_name"}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"system_name","params":{"a":1}}"#), -32602);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"no_such"}"#), -32601);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"state_getStorage","params":["0xzz"]}"#), -32602);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"author_submitExtrinsic","params":["0x00"]}"#), 1002);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"chain_subscribeNewHeads"}"#), -32000);
    assert_eq!(code(&format!("[{}]", vec!["1"; 65].join(","))), -32600);
    assert_eq!(handle(&face, br#"{"jsonrpc":"2.0","method":"system_name"}"#, None), None);
    let batch = br#"[{"jsonrpc":"2.0","id":1,"method":"system_name"},{"jsonrpc":"2.0","method":"system_name"},7]"#;
    let batch: Value = serde_json::from_str(&handle(&face, batch, None).unwrap()).unwrap();
    assert_eq!((batch.as_array().unwrap().len(), &batch[0]["result"]), (2, &json!("templar-development")));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Value::from(hexed(&bytes))),
        prop_oneof![
            Just("SubnetInfoRuntimeApi_get_metagraph"),
            Just("NeuronInfoRuntimeApi_get_neuron"),
            Just("Metadata_metadata_at_version")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| proptest::collection::vec(inner, 0..4).prop_map(Value::from))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever a method is called with, it answers.
    #[test]
    fn any_parameters_are_answered(params in proptest::collection::vec(any_value(), 0..5)) {
        let face = face();
        // Blocks are not asked for by the million here: that is a bound of its own.
        for method in methods(&face).into_iter().filter(|method| method != "dev_advance") {
            let _ = try_ask(&face, &method, Value::Array(params.clone()));
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let answer = handle(&face(), &bytes, None);
        if let Some(answer) = answer {
            serde_json::from_str::<Value>(&answer).unwrap();
        }
    }

    /// A transaction with any byte changed, cut or added is not taken.
    #[test]
    fn a_changed_transaction_is_not_taken(by in prop_oneof![Just(0u8), Just(100)], at: prop::sample::Index, flip in 1u8.., grow in 0usize..3) {
        let face = face();
        let raw = signed(&face, by, &set_weights(&[(2, 9), (3, 8)]));
        let mut changed = raw.clone();
        *at.get_mut(&mut changed) ^= flip;
        prop_assert!(try_ask(&face, "author_submitExtrinsic", json!([hexed(&changed)])).is_err());
        let cut = &raw[..at.index(raw.len())];
        prop_assert!(try_ask(&face, "author_submitExtrinsic", json!([hexed(cut)])).is_err());
        let longer = [raw.as_slice(), &vec![flip; grow + 1]].concat();
        prop_assert!(try_ask(&face, "author_submitExtrinsic", json!([hexed(&longer)])).is_err());
        ask(&face, "author_submitExtrinsic", json!([hexed(&raw)]));
    }

    /// Bytes that claim to be a call, signed by somebody who may sign: the chain reads them or not, and goes on.
    #[test]
    fn any_signed_bytes_leave_the_chain_whole(body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let face = face();
        let raw = body.encode();
        let _ = try_ask(&face, "author_submitExtrinsic", json!([hexed(&raw)]));
        let mut plausible = vec![0x84, 0x00];
        plausible.extend(id(0).0);
        plausible.push(1);
        plausible.extend(&body);
        let _ = try_ask(&face, "author_submitExtrinsic", json!([hexed(&plausible.encode())]));
        face.chain().close_block().unwrap();
    }

    /// Any call of the runtime's types that reads back can be submitted, and the books stay right.
    #[test]
    fn any_call_is_decided(bytes in proptest::collection::vec(any::<u8>(), 2..90), pallet in prop_oneof![Just(0u8), Just(5), Just(7), Just(18)]) {
        let face = face();
        let mut bytes = bytes;
        bytes[0] = pallet;
        if let Ok(call) = RuntimeCall::decode(&mut &bytes[..]) {
            let _ = submit(&face, 100, &call);
            let _ = submit(&face, 0, &call);
            face.chain().close_blocks(12).unwrap();
        }
    }
}
