//! What holds for any shapes, settings and values.

use super::*;
use crate::{aggregate, compress, give_back};
use proptest::prelude::*;

fn config() -> impl Strategy<Value = CodecConfig> {
    (1usize..=64, 1usize..=80, prop::bool::weighted(0.2), 2usize..=16).prop_map(|(target_chunk, topk, use_dct, bins)| CodecConfig {
        target_chunk,
        topk,
        use_dct,
        bins,
        range: 6.0,
    })
}

fn shapes() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let dim = || prop_oneof![1usize..40, Just(64), Just(128), Just(67)];
    prop::collection::vec(prop_oneof![dim().prop_map(|n| vec![n]), (dim(), dim()).prop_map(|(r, c)| vec![r, c])], 1..4)
}

/// Values with ties, zeros and very different sizes.
fn values(len: usize, seed: u64, kind: u8) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len)
        .map(|i| match kind % 4 {
            0 => (next() as i32) as f32 * 1e-12,
            1 => ((next() % 5) as f32 - 2.0) * 1e-3,
            2 => ((next() as i32) as f32 * 1e-12) * if i % 97 < 20 { 1e4 } else { 1.0 },
            _ => 0.0,
        })
        .collect()
}

fn tensors(layout: &Layout, seed: u64, kind: u8) -> Vec<Vec<f32>> {
    layout
        .params()
        .iter()
        .enumerate()
        .map(|(i, param)| values(param.len(), seed.wrapping_mul(31).wrapping_add(i as u64 + 1), kind))
        .collect()
}

fn refs(shapes: &[Vec<usize>]) -> Vec<&[usize]> {
    shapes.iter().map(Vec::as_slice).collect()
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn bits(tensors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    tensors.iter().map(|tensor| tensor.iter().map(|v| v.to_bits()).collect()).collect()
}

/// The k largest of a chunk by absolute value, of equals the lowest position, ascending.
fn naive_top_k(chunk: &[f32], k: usize) -> Vec<u16> {
    let mut order: Vec<usize> = (0..chunk.len()).collect();
    order.sort_by(|a, b| chunk[*b].abs().total_cmp(&chunk[*a].abs()).then(a.cmp(b)));
    let mut top: Vec<u16> = order[..k].iter().map(|p| *p as u16).collect();
    top.sort_unstable();
    top
}

/// Spec wire-protocol §6.5, dense and simple.
fn naive_step(layout: &Layout, peers: &[Opened], theta: &mut [Vec<f32>], lr: f32) {
    let norms: Vec<Vec<f64>> = peers.iter().map(crate::norms).collect();
    for (i, param) in layout.params().iter().enumerate() {
        let (mut sums, mut counts) = (vec![0.0f32; param.len()], vec![0u16; param.len()]);
        let mut sorted: Vec<f64> = norms.iter().map(|norms| norms[i]).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[(sorted.len() - 1) / 2];
        for (peer, norms) in peers.iter().zip(&norms) {
            let factor = (median / (norms[i] + 1e-8)).min(1.0) as f32;
            let plain = &decode(layout, peer.payload()).unwrap()[i];
            for (n, (position, code)) in plain.positions.iter().zip(&plain.codes).enumerate() {
                let at = param.flat_index(n / param.k, usize::from(*position));
                sums[at] += factor * plain.table.levels()[usize::from(*code)];
                counts[at] += 1;
            }
        }
        for ((theta, sum), count) in theta[i].iter_mut().zip(sums).zip(counts) {
            *theta -= lr * (sum / f32::from(count.max(1)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_selection_is_exact_and_the_rest_stays(config in config(), shapes in shapes(), seed: u64, kinds: (u8, u8)) {
        let layout = layout(&refs(&shapes), CodecConfig { use_dct: false, ..config });
        let (start, end) = (tensors(&layout, seed, kinds.0), tensors(&layout, seed ^ 7, 0));
        let mut residual = tensors(&layout, seed ^ 99, kinds.1);
        let updated: Vec<Vec<f32>> = residual.iter().zip(start.iter().zip(&end))
            .map(|(e, (s, t))| e.iter().zip(s.iter().zip(t)).map(|(e, (s, t))| 0.95 * e + (s - t)).collect()).collect();
        let compressed = compress(&layout, &start, &end, &mut residual, 0.95, false);
        let sent = dense(&layout, &compressed.payload);
        let contents = decode(&layout, &compressed.payload).unwrap();
        for (i, param) in layout.params().iter().enumerate() {
            for (c, got) in contents[i].positions.chunks(param.k).enumerate() {
                let chunk: Vec<f32> = (0..param.chunk_len()).map(|p| updated[i][param.flat_index(c, p)]).collect();
                prop_assert_eq!(got, &naive_top_k(&chunk, param.k)[..]);
            }
            for ((after, before), sent) in residual[i].iter().zip(&updated[i]).zip(&sent[i]) {
                prop_assert_eq!(after.to_bits(), (before - sent).to_bits());
            }
        }
    }

    #[test]
    fn giving_back_restores_the_updated_residual(config in config(), shapes in shapes(), seed: u64, kind: u8) {
        let layout = layout(&refs(&shapes), config);
        let start = tensors(&layout, seed, kind);
        let mut residual = zeros(&layout);
        let compressed = compress(&layout, &start, &zeros(&layout), &mut residual, 0.95, false);
        give_back(&layout, &compressed.payload, &mut residual).unwrap();
        for (got, want) in residual.iter().flatten().zip(start.iter().flatten()) {
            let size = start.iter().flatten().fold(0.0f32, |size, v| size.max(v.abs()));
            prop_assert!((got - want).abs() <= 1e-5 * size, "{} is not {}", got, want);
        }
    }

    #[test]
    fn one_content_has_one_encoding_and_a_bound(config in config(), shapes in shapes(), seed: u64, kind: u8) {
        let layout = layout(&refs(&shapes), config);
        let payload = compress(&layout, &tensors(&layout, seed, kind), &zeros(&layout), &mut zeros(&layout), 0.95, false).payload;
        prop_assert_eq!(encode(&layout, &decode(&layout, &payload).unwrap()), payload.clone());
        prop_assert!(crate::HEADER_BYTES + payload.len() <= crate::max_object_bytes(&layout));
    }

    #[test]
    fn threads_change_no_bit(config in config(), shapes in shapes(), seed: u64, kinds: [u8; 3]) {
        let layout = layout(&refs(&shapes), config);
        let all = [1, 2, 7].map(|threads| in_pool(threads, || {
            let mut peers = Vec::new();
            let mut residuals = Vec::new();
            for (uid, kind) in (0u16..).zip(kinds) {
                let mut residual = zeros(&layout);
                let payload = compress(&layout, &tensors(&layout, seed ^ u64::from(uid), kind), &zeros(&layout), &mut residual, 0.95, false).payload;
                residuals.push(bits(&residual));
                peers.push(opened(&layout, uid, &payload));
            }
            let mut theta = tensors(&layout, seed ^ 5, 0);
            let done = aggregate(&layout, &peers, &mut theta, 0.4);
            let payloads: Vec<Vec<u8>> = peers.iter().map(|peer| peer.payload().to_vec()).collect();
            (payloads, residuals, bits(&theta), done)
        }));
        prop_assert_eq!(&all[0], &all[1]);
        prop_assert_eq!(&all[0], &all[2]);
    }

    #[test]
    fn aggregation_equals_the_simple_one_bit_for_bit(config in config(), shapes in shapes(), seed: u64, kinds in prop::collection::vec(any::<u8>(), 1..6)) {
        let layout = layout(&refs(&shapes), CodecConfig { use_dct: false, ..config });
        let peers: Vec<Opened> = (0u16..).zip(&kinds).map(|(uid, kind)| {
            let start = tensors(&layout, seed ^ u64::from(uid), *kind);
            opened(&layout, uid, &compress(&layout, &start, &zeros(&layout), &mut zeros(&layout), 0.95, false).payload)
        }).collect();
        let mut theta = tensors(&layout, seed ^ 5, 0);
        let mut want = theta.clone();
        aggregate(&layout, &peers, &mut theta, 0.4);
        naive_step(&layout, &peers, &mut want, 0.4);
        prop_assert_eq!(bits(&theta), bits(&want));
    }
}

#[test]
fn many_groups_and_bands_keep_their_order() {
    // 40 x 9 chunks of 64 x 64, more than one restart group, bands that begin within a group, a tile that is not full.
    let layout = layout(&[&[2560, 576], &[576, 2560], &[4096]], CodecConfig::default());
    let start = tensors(&layout, 17, 0);
    let mut residual = zeros(&layout);
    let compressed = compress(&layout, &start, &zeros(&layout), &mut residual, 0.95, false);
    assert_eq!(compressed.stats.non_finite, 0);
    let peer = opened(&layout, 0, &compressed.payload);
    let mut theta = tensors(&layout, 3, 0);
    let mut want = theta.clone();
    aggregate(&layout, std::slice::from_ref(&peer), &mut theta, 0.4);
    naive_step(&layout, &[peer], &mut want, 0.4);
    assert_eq!(bits(&theta), bits(&want));
    // Against the reference's 160 bytes per chunk.
    let chunks: usize = layout.params().iter().take(2).map(|param| param.chunks()).sum();
    assert!(compressed.payload.len() * 2 <= (chunks + 1) * 160);
}

#[test]
fn a_null_round_empties_the_residual_and_sends_zeros() {
    let layout = layout(&[&[8, 12], &[16]], CodecConfig { target_chunk: 4, topk: 4, ..CodecConfig::default() });
    let mut residual = tensors(&layout, 1, 0);
    let compressed = compress(&layout, &tensors(&layout, 2, 0), &zeros(&layout), &mut residual, 0.95, true);
    assert_eq!(residual, zeros(&layout));
    assert!(dense(&layout, &compressed.payload).iter().flatten().all(|v| *v == 0.0));
    assert!(decode(&layout, &compressed.payload).unwrap()[0].codes.iter().all(|code| *code == 2));
}

#[test]
fn what_is_not_finite_is_dropped_and_counted() {
    let layout = layout(&[&[64, 128], &[8]], CodecConfig::default());
    let mut start = tensors(&layout, 4, 0);
    (start[0][3], start[0][700], start[0][8191], start[1][2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN);
    let mut residual = zeros(&layout);
    let compressed = compress(&layout, &start, &zeros(&layout), &mut residual, 0.95, false);
    assert_eq!(compressed.stats.non_finite, 4);
    assert!(residual.iter().flatten().all(|v| v.is_finite()));
    assert!(opened(&layout, 0, &compressed.payload).sections().iter().all(|section| section.norm().is_finite()));
}

#[test]
fn no_peers_change_nothing() {
    let layout = layout(&[&[16]], CodecConfig::default());
    let mut theta = tensors(&layout, 1, 0);
    let before = theta.clone();
    aggregate(&layout, &[], &mut theta, 0.4);
    assert_eq!(theta, before);
}
