//! The reference's own figures (spec wire-protocol §12).

use super::*;
use crate::{
    aggregate, compress,
    dct::{Basis, ChunkTransform, matrix},
    pack12,
    quant::quantise,
    section::MAX_TABLE,
    sparse_update,
};
use serde_json::Value;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../tests/vectors/wire/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&read(name)).unwrap()
}

fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

fn shape(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * want.abs().max(1e-6), "{what}[{i}]: {got} is not {want}");
    }
}

#[test]
fn the_dct_is_that_of_the_reference() {
    let json = json("dct.json");
    for (n, want) in json["basis_f"].as_object().unwrap() {
        for (got, want) in matrix(n.parse().unwrap()).iter().zip(flat(want)) {
            assert!((got - want).abs() < 2e-7, "basis of {n}: {got} is not {want}");
        }
    }
    for case in json["encode"].as_array().unwrap() {
        let config = CodecConfig { target_chunk: case["target_chunk"].as_u64().unwrap() as usize, ..CodecConfig::default() };
        let layout = layout(&[&shape(&case["input_shape"])], config);
        let param = &layout.params()[0];
        let (input, want) = (flat(&case["input"]), flat(&case["encoded_dct"]));
        let basis = Basis::of(param);
        let mut chunk = ChunkTransform::new(&basis);
        for (i, want) in want.chunks(param.chunk_len()).enumerate() {
            let band = i / param.band_chunks() * param.band_len();
            chunk.load(param, &input[band..band + param.band_len()], i % param.band_chunks());
            let before = chunk.data().to_vec();
            chunk.encode();
            assert!(chunk.data().iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6));
            chunk.decode();
            assert!(chunk.data().iter().zip(&before).all(|(got, want)| (got - want).abs() < 1e-6));
        }
    }
}

fn config_of(case: &Value) -> CodecConfig {
    let number = |name: &str| case[name].as_u64().unwrap() as usize;
    CodecConfig {
        target_chunk: number("target_chunk"),
        topk: number("topk_arg"),
        use_dct: case["use_dct"] == true,
        bins: number("bins"),
        range: number("range") as f32,
    }
}

#[test]
fn compression_gives_what_the_reference_decodes() {
    let mut compared = 0;
    for case in json("compress_quantize.json")["cases"].as_array().unwrap() {
        let config = config_of(case);
        if config.bins > 16 {
            continue;
        }
        let label = case["label"].as_str().unwrap();
        let layout = layout(&[&shape(&case["input_shape"])], config);
        let mut residual = zeros(&layout);
        let start = vec![flat(&case["input"])];
        let compressed = compress(&layout, &start, &zeros(&layout), &mut residual, 0.95, false);
        let want = flat(&case["decoded_dense"]);
        let sent: Vec<f32> = start[0].iter().zip(&residual[0]).map(|(before, after)| before - after).collect();
        // Where absolute values tie at the cut, the reference chooses any of them: then only the values themselves are compared.
        if !["constant", "2d_4bins_dct"].contains(&label) {
            assert!(sent.iter().zip(&want).all(|(got, want)| (got - want).abs() < 3e-6), "{label}: {sent:?} is not {want:?}");
        }
        let plain = &decode(&layout, &compressed.payload).unwrap()[0];
        let values: Vec<f32> = plain.codes.iter().map(|code| plain.table.levels()[usize::from(*code)]).collect();
        for (got, want) in values.chunks(layout.params()[0].k).zip(flat(&case["dequantized"]).chunks(layout.params()[0].k)) {
            let sorted = |values: &[f32]| {
                let mut values = values.to_vec();
                values.sort_by(f32::total_cmp);
                values
            };
            assert!(sorted(got).iter().zip(sorted(want)).all(|(got, want)| (got - want).abs() < 3e-6), "{label}: {got:?} is not {want:?}");
        }
        assert_close(&[plain.table.shift], &flat(&case["quant_params"]["shift"]), 1e-5, label);
        assert_close(&plain.table.lookup[..config.bins], &flat(&case["quant_params"]["lookup"]), 1e-4, label);
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn codes_and_tables_are_those_of_the_reference() {
    for case in json("compress_quantize.json")["quantizer_only"].as_array().unwrap() {
        let got = quantise(&flat(&case["values"]), &CodecConfig::default());
        let codes: Vec<u8> = flat(&case["codes"]).iter().map(|code| *code as u8).collect();
        assert_eq!(got.codes, codes, "{}", case["label"]);
        assert_close(&[got.scale], &flat(&case["quant_params"]["scale"]), 1e-6, "scale");
        assert_close(&[got.table.shift], &flat(&case["quant_params"]["shift"]), 1e-6, "shift");
        assert_close(&got.table.lookup[..4], &flat(&case["quant_params"]["lookup"]), 1e-6, "lookup");
    }
}

#[test]
fn huge_values_are_clipped_to_the_table_and_stay_in_the_residual() {
    let layout = layout(&[&[4, 4]], CodecConfig { target_chunk: 4, topk: 4, ..CodecConfig::default() });
    let mut start = zeros(&layout);
    start[0][5] = 1e30;
    let mut residual = zeros(&layout);
    let compressed = compress(&layout, &start, &zeros(&layout), &mut residual, 0.95, false);
    let plain = &decode(&layout, &compressed.payload).unwrap()[0];
    assert!(plain.table.lookup.iter().all(|mean| mean.abs() <= MAX_TABLE));
    assert!(residual[0][5] > 9e29);
}

/// A peer of `batch_decompress.json`: unordered indices and codes of all chunks.
fn peer_content(peer: &Value, k: usize) -> Plain {
    let indices: Vec<u16> = flat(&peer["indices"]).iter().map(|i| *i as u16).collect();
    assert_eq!(pack12::pack(&indices).unwrap(), hex::decode(peer["idxs_hex"].as_str().unwrap()).unwrap());
    let codes = hex::decode(peer["vals_hex"].as_str().unwrap()).unwrap();
    let mut plain = Plain { table: Table::default(), positions: Vec::new(), codes: Vec::new() };
    plain.table.shift = flat(&peer["quant_params"]["shift"])[0];
    plain.table.lookup[..4].copy_from_slice(&flat(&peer["quant_params"]["lookup"]));
    for (indices, codes) in indices.chunks(k).zip(codes.chunks(k)) {
        let mut pairs: Vec<(u16, u8)> = indices.iter().copied().zip(codes.iter().copied()).collect();
        pairs.sort_unstable();
        plain.positions.extend(pairs.iter().map(|pair| pair.0));
        plain.codes.extend(pairs.iter().map(|pair| pair.1));
    }
    plain
}

#[test]
fn aggregation_is_that_of_the_reference() {
    let json = json("batch_decompress.json");
    for case in json["cases"].as_array().unwrap() {
        let label = case["label"].as_str().unwrap();
        let config = CodecConfig { target_chunk: 4, topk: 4, use_dct: case["use_dct"] == true, ..CodecConfig::default() };
        let layout = layout(&[&shape(&case["param_shape"])], config);
        let k = layout.params()[0].k;
        let peers: Vec<Opened> = (0..)
            .zip(case["peers"].as_array().unwrap())
            .map(|(uid, peer)| opened(&layout, uid, &encode(&layout, &[peer_content(peer, k)])))
            .collect();
        let mut theta = zeros(&layout);
        let done = aggregate(&layout, &peers, &mut theta, 1.0);
        let norms: Vec<f32> = done.norms.iter().map(|norms| norms[0] as f32).collect();
        assert_close(&norms, &flat(&case["block_norms"]), 1e-6, label);
        assert_close(&[done.medians[0] as f32], &flat(&case["median"]), 1e-6, label);
        let factors: Vec<f32> = done.factors.iter().map(|factors| factors[0]).collect();
        assert_close(&factors, &flat(&case["clip_factors"]), 1e-6, label);
        let got: Vec<f32> = theta[0].iter().map(|value| -value).collect();
        let want = flat(&case["decoded_dense"]);
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 2e-6), "{label}: {got:?} is not {want:?}");
    }
}

#[test]
fn error_feedback_over_five_windows_is_that_of_the_reference() {
    let json = json("error_feedback.json");
    let config = CodecConfig { target_chunk: 4, topk: 4, ..CodecConfig::default() };
    let layout = layout(&[&[8, 12], &[16]], config);
    let mut residual = zeros(&layout);
    for step in json["steps"].as_array().unwrap() {
        let start = vec![flat(&step["delta"]["w"]), flat(&step["delta"]["b"])];
        compress(&layout, &start, &zeros(&layout), &mut residual, 0.95, step["null_round"] == true);
        for (got, name) in residual.iter().zip(["w", "b"]) {
            let want = flat(&step["error_feedback_after"][name]);
            assert!(
                got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-9),
                "window {}: {got:?} is not {want:?}",
                step["window"]
            );
        }
    }
}

/// Flat index and value of the non-zero elements of a parameter, from a safetensors file.
fn nonzeros(file: &safetensors::SafeTensors, name: &str) -> Vec<(usize, f32)> {
    let bytes = |suffix: &str| file.tensor(&format!("{name}.{suffix}")).unwrap().data().as_chunks::<4>().0.to_vec();
    bytes("flat_index")
        .into_iter()
        .map(|b| i32::from_le_bytes(b) as usize)
        .zip(bytes("value").into_iter().map(f32::from_le_bytes))
        .collect()
}

#[test]
fn a_window_of_four_peers_ends_with_the_reference_parameters() {
    let expected = json("gradient-123-7.expected.json");
    let outer = json("outer_step-123.expected.json");
    let names: Vec<&str> =
        expected["key_order"].as_array().unwrap().iter().filter_map(|key| key.as_str().unwrap().strip_suffix("idxs")).collect();
    let shapes: Vec<Vec<usize>> = names.iter().map(|name| shape(&expected["params"][name]["shape"])).collect();
    let layout = layout(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>(), CodecConfig::default());
    let peers: Vec<Opened> = [(7u16, 1.0), (8, 1.3), (9, 5.0), (10, 0.5)]
        .iter()
        .map(|(uid, scale)| {
            let delta = layout
                .params()
                .iter()
                .zip(0..)
                .map(|(param, i)| lcg(param.len(), 1000 * u64::from(*uid) + i, 1e-3 * scale))
                .collect::<Vec<_>>();
            opened(&layout, *uid, &compress(&layout, &delta, &zeros(&layout), &mut zeros(&layout), 0.95, false).payload)
        })
        .collect();

    let bytes = read("gradient-123-7.decoded.safetensors");
    let decoded = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let alone = sparse_update(&layout, &peers[0], &vec![f32::INFINITY; names.len()], 1.0);
    for (name, got) in names.iter().zip(&alone.params) {
        let mut got: Vec<(usize, f32)> = got.iter().filter(|(_, value)| *value != 0.0).map(|(at, value)| (*at as usize, *value)).collect();
        got.sort_by_key(|(at, _)| *at);
        let mut want = nonzeros(&decoded, name);
        want.sort_by_key(|(at, _)| *at);
        assert_eq!(got.iter().map(|(at, _)| *at).collect::<Vec<_>>(), want.iter().map(|(at, _)| *at).collect::<Vec<_>>(), "{name}");
        assert!(got.iter().zip(&want).all(|(got, want)| (got.1 - want.1).abs() < 1e-8), "{name}");
    }

    let mut theta: Vec<Vec<f32>> = names
        .iter()
        .zip(layout.params())
        .zip(1000..)
        .map(|((name, param), seed)| if name.contains("norm") { vec![1.0; param.len()] } else { lcg(param.len(), seed, 0.05) })
        .collect();
    let before = theta.clone();
    let done = aggregate(&layout, &peers, &mut theta, 0.4);
    let bytes = read("aggregate-123.decoded.safetensors");
    let aggregate = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (i, name) in names.iter().enumerate() {
        let want = &outer["params"][name];
        assert_close(&done.norms.iter().map(|norms| norms[i] as f32).collect::<Vec<_>>(), &flat(&want["block_norms"]), 1e-5, name);
        assert_close(&done.factors.iter().map(|factors| factors[i]).collect::<Vec<_>>(), &flat(&want["clip_factors"]), 1e-5, name);
        assert_close(&before[i][..4], &flat(&want["before_first4"]), 1e-7, name);
        assert_close(&theta[i][..4], &flat(&want["after_first4"]), 1e-6, name);
        assert_close(&theta[i][10..12], &flat(&want["after_10_12"]), 1e-6, name);
        let mut stepped = before[i].clone();
        nonzeros(&aggregate, name).iter().for_each(|(at, value)| stepped[*at] -= 0.4 * value);
        assert!(theta[i].iter().zip(&stepped).all(|(got, want)| (got - want).abs() < 1e-7), "{name}");
    }
}
