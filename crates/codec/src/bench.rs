//! Timing of the codec on this machine, beside the memory bandwidth that it has.
//!
//! The figures are for people and for a check of targets; nothing in the protocol depends on them. Inputs come from a fixed
//! generator, so two runs compress the same bytes.

use crate::{
    CodecConfig, Expect, Header, Layout, LayoutError, Opened, Refusal, aggregate, compress, container, max_object_bytes, open, seal,
};
use rayon::prelude::*;
use serde::Serialize;
use std::time::Instant;
use templar_protocol::{AccountId, Digest, GlobalStep, ParamSpec, Uid, Window};
use templar_wallet::{Keypair, Signer};

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The parameters.
    pub specs: Vec<ParamSpec>,
    /// Settings of the codec.
    pub codec: CodecConfig,
    /// Objects that are aggregated, at least 1.
    pub peers: usize,
    /// Repetitions, of which the best counts, at least 1.
    pub rounds: usize,
}

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The shapes or settings do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An object of our own was refused: a defect.
    #[error("an object made here was refused: {0}; please report this")]
    Refused(#[from] Refusal),
}

/// What was measured. Rates count 10⁹ model elements (times peers) in a second.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Elements of the model.
    pub params: u64,
    /// Objects aggregated.
    pub peers: usize,
    /// Threads used.
    pub threads: usize,
    /// Bytes read and written per second by a parallel copy of one large array, in GB/s.
    pub copy_gb_s: f64,
    /// Compression: residual, selection, quantiser, coding and digest.
    pub compress_gparam_s: f64,
    /// That, as a share of the rate at which 16 bytes per element can be moved.
    pub compress_of_memory: f64,
    /// Opening (seal, digest, structure) and aggregating, per element and peer.
    pub aggregate_gparam_peer_s: f64,
    /// Bits of an object per element of the model.
    pub bits_per_param: f64,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Most bytes that an object of this layout may have.
    pub max_object_bytes: u64,
    /// Object size as a share of the reference's (index pairs in 3 bytes, a byte per code).
    pub of_reference_bytes: f64,
    /// Milliseconds of the phases.
    pub phases_ms: PhasesMs,
}

/// Milliseconds by phase, each the best of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct PhasesMs {
    /// Compression without digest and seal.
    pub compress: f64,
    /// Digest and seal.
    pub seal: f64,
    /// Opening all peers' objects.
    pub open: f64,
    /// Clipping, averaging and the outer step.
    pub aggregate: f64,
}

/// The parameters of a Llama-like model: `layers` layers of width `dim` and hidden width `ffn`, with untied embeddings.
pub fn llama_specs(dim: usize, ffn: usize, layers: usize, vocab: usize) -> Vec<ParamSpec> {
    let spec = |name: String, shape: &[usize]| ParamSpec { name, shape: shape.to_vec() };
    let mut specs = vec![spec("tok_embeddings.weight".into(), &[vocab, dim])];
    for layer in 0..layers {
        for (name, shape) in [
            ("attention.wq", vec![dim, dim]),
            ("attention.wk", vec![dim, dim]),
            ("attention.wv", vec![dim, dim]),
            ("attention.wo", vec![dim, dim]),
            ("feed_forward.w1", vec![ffn, dim]),
            ("feed_forward.w2", vec![dim, ffn]),
            ("feed_forward.w3", vec![ffn, dim]),
            ("attention_norm", vec![dim]),
            ("ffn_norm", vec![dim]),
        ] {
            specs.push(spec(format!("layers.{layer}.{name}.weight"), &shape));
        }
    }
    specs.push(spec("norm.weight".into(), &[dim]));
    specs.push(spec("output.weight".into(), &[vocab, dim]));
    specs
}

impl BenchConfig {
    /// The model that the targets are stated for: width 2048, two layers, 234 million parameters.
    pub fn standard(peers: usize) -> Self {
        Self { specs: llama_specs(2048, 5632, 2, 32_000), codec: CodecConfig::default(), peers, rounds: 3 }
    }

    /// Square matrices of width 2048 with about `params` elements together, and one vector.
    pub fn of_size(params: usize, peers: usize) -> Self {
        let matrices = (params / (2048 * 2048)).max(1);
        let mut specs: Vec<ParamSpec> = (0..matrices).map(|i| ParamSpec { name: format!("matrix.{i}"), shape: vec![2048, 2048] }).collect();
        specs.push(ParamSpec { name: "vector".into(), shape: vec![2048] });
        Self { specs, ..Self::standard(peers) }
    }
}

/// Measures on the current rayon pool. Takes about six times the model's size in memory.
///
/// # Errors
/// When the settings do not fit the shapes.
pub fn run(config: &BenchConfig) -> Result<BenchReport, BenchError> {
    let layout = Layout::new(&config.specs, config.codec)?;
    let (peers, rounds) = (config.peers.max(1), config.rounds.max(1));
    let mut start: Vec<Vec<f32>> = config.specs.iter().map(|spec| vec![0.0; spec.len()]).collect();
    // Pages that were never written are all the same page, and reading them would cost no bandwidth.
    fill(&mut start, 0);
    let keys: Vec<Keypair> = (0..peers).map(|peer| Keypair::from_seed([peer as u8; 32])).collect();
    let mut best = PhasesMs { compress: f64::MAX, seal: f64::MAX, open: f64::MAX, aggregate: f64::MAX };
    let mut objects = Vec::new();
    let mut end: Vec<Vec<f32>> = start.clone();
    let mut residual = start.clone();
    for (peer, key) in keys.iter().enumerate() {
        fill(&mut end, 2 * peer as u64 + 1);
        for _ in 0..if peer == 0 { rounds } else { 1 } {
            fill(&mut residual, 2 * peer as u64 + 2);
            let compressed = timed(&mut best.compress, || compress(&layout, &start, &end, &mut residual, 0.95, false));
            let object = timed(&mut best.seal, || seal(&header(peer), &compressed.payload, key));
            objects.truncate(peer);
            objects.push(object);
        }
    }
    drop(residual);
    let mut theta = end;
    let copy_gb_s = copy_bandwidth(&start, &mut theta, rounds);
    for _ in 0..rounds {
        let fetched = objects.clone();
        let opened = timed(&mut best.open, || open_all(&layout, fetched, &keys))?;
        timed(&mut best.aggregate, || aggregate(&layout, &opened, &mut theta, 0.4));
    }
    Ok(report(&layout, peers, copy_gb_s, objects[0].len(), best))
}

fn report(layout: &Layout, peers: usize, copy_gb_s: f64, object_bytes: usize, best: PhasesMs) -> BenchReport {
    let params = layout.elements() as f64;
    let compress_gparam_s = params / (best.compress + best.seal) / 1e6;
    let reference: usize = layout.params().iter().map(|param| param.sent() * 5 / 2).sum();
    BenchReport {
        params: layout.elements() as u64,
        peers,
        threads: rayon::current_num_threads(),
        copy_gb_s,
        compress_gparam_s,
        compress_of_memory: compress_gparam_s / (copy_gb_s / 16.0),
        aggregate_gparam_peer_s: params * peers as f64 / (best.open + best.aggregate) / 1e6,
        bits_per_param: 8.0 * object_bytes as f64 / params,
        object_bytes: object_bytes as u64,
        max_object_bytes: max_object_bytes(layout) as u64,
        of_reference_bytes: object_bytes as f64 / reference as f64,
        phases_ms: best,
    }
}

/// Runs `work` and keeps its time in `best_ms` when it is the shortest so far.
fn timed<T>(best_ms: &mut f64, work: impl FnOnce() -> T) -> T {
    let from = Instant::now();
    let result = work();
    *best_ms = best_ms.min(from.elapsed().as_secs_f64() * 1e3);
    result
}

fn header(peer: usize) -> Header {
    Header {
        version: container::VERSION,
        run_id: Digest::of(b"bench"),
        uid: Uid(peer as u16),
        hotkey: AccountId::default(),
        window: Window(1),
        global_step: GlobalStep(0),
        theta: Digest::default(),
        sample_digest: [0; 16],
        sample_count: 0,
        payload_digest: Digest::default(),
        payload_bytes: 0,
    }
}

fn open_all(layout: &Layout, objects: Vec<Vec<u8>>, keys: &[Keypair]) -> Result<Vec<Opened>, Refusal> {
    let expect =
        |peer: usize| Expect { run_id: Digest::of(b"bench"), uid: Uid(peer as u16), hotkey: keys[peer].account_id(), window: Window(1) };
    objects.into_par_iter().enumerate().map(|(peer, object)| open(object, layout, &expect(peer))).collect()
}

/// GB/s of a parallel copy, reads and writes counted, the best of `rounds`.
fn copy_bandwidth(from: &[Vec<f32>], to: &mut [Vec<f32>], rounds: usize) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..rounds {
        timed(&mut best, || {
            for (from, to) in from.iter().zip(to.iter_mut()) {
                to.par_chunks_mut(1 << 20).zip(from.par_chunks(1 << 20)).for_each(|(to, from)| to.copy_from_slice(from));
            }
        });
    }
    let bytes: usize = from.iter().map(|tensor| 8 * tensor.len()).sum();
    bytes as f64 / best / 1e6
}

/// Fills with normal numbers of standard deviation 1e-3.
fn fill(tensors: &mut [Vec<f32>], seed: u64) {
    for (i, tensor) in tensors.iter_mut().enumerate() {
        tensor.par_chunks_mut(1 << 16).enumerate().for_each(|(block, values)| {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((i as u64) << 32) ^ block as u64;
            for pair in values.chunks_mut(2) {
                let normal = box_muller(next(&mut state), next(&mut state));
                pair.iter_mut().zip(normal).for_each(|(value, normal)| *value = normal * 1e-3);
            }
        });
    }
}

/// splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Two normal numbers from two uniform words.
fn box_muller(a: u64, b: u64) -> [f32; 2] {
    let unit = |word: u64| ((word >> 40) as f32 + 0.5) / (1u64 << 24) as f32;
    let radius = (-2.0 * unit(a).ln()).sqrt();
    let (sin, cos) = (std::f32::consts::TAU * unit(b)).sin_cos();
    [radius * cos, radius * sin]
}
