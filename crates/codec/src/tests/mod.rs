//! Tests of the codec as a whole, and what they share.

mod hostile;
mod properties;
mod sketch;
mod vectors;

use crate::{
    CodecConfig, Expect, Header, Layout, Opened, open, seal,
    section::{self, Chunks, Content, Table},
};
use templar_protocol::{AccountId, Digest, GlobalStep, ParamSpec, Uid, Window};
use templar_wallet::Keypair;

/// `lcg(shape, seed, scale)` of the vectors' conventions, flat.
fn lcg(len: usize, seed: u64, scale: f64) -> Vec<f32> {
    let element = |i: u64| {
        let u = (i * 2_654_435_761 + seed * 40_503) % (1 << 32);
        ((u as f64 / 4_294_967_296.0 - 0.5) * 2.0 * scale) as f32
    };
    (0..len as u64).map(element).collect()
}

fn layout(shapes: &[&[usize]], config: CodecConfig) -> Layout {
    let specs: Vec<ParamSpec> =
        shapes.iter().enumerate().map(|(i, shape)| ParamSpec { name: format!("p{i}"), shape: shape.to_vec() }).collect();
    Layout::new(&specs, config).unwrap()
}

fn zeros(layout: &Layout) -> Vec<Vec<f32>> {
    layout.params().iter().map(|param| vec![0.0; param.len()]).collect()
}

fn key(uid: u16) -> Keypair {
    Keypair::from_seed([uid as u8 + 1; 32])
}

fn header(uid: u16) -> Header {
    Header {
        version: 1,
        run_id: Digest::of(b"run"),
        uid: Uid(uid),
        hotkey: AccountId::default(),
        window: Window(123),
        global_step: GlobalStep(42),
        theta: Digest::of(b"theta"),
        sample_digest: *b"0123456789abcdef",
        sample_count: 80,
        payload_digest: Digest::default(),
        payload_bytes: 0,
    }
}

fn expect(uid: u16) -> Expect {
    Expect { run_id: Digest::of(b"run"), uid: Uid(uid), hotkey: key(uid).public(), window: Window(123) }
}

/// `payload` sealed by `uid` and opened again.
fn opened(layout: &Layout, uid: u16, payload: &[u8]) -> Opened {
    open(seal(&header(uid), payload, &key(uid)), layout, &expect(uid)).unwrap()
}

/// Positions, codes and table of one parameter.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    table: Table,
    positions: Vec<u16>,
    codes: Vec<u8>,
}

fn encode(layout: &Layout, contents: &[Plain]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (param, plain) in layout.params().iter().zip(contents) {
        let content = Content { table: plain.table, positions: &plain.positions, codes: &plain.codes };
        section::write(layout, param, &content, &mut payload);
    }
    payload
}

fn decode(layout: &Layout, payload: &[u8]) -> Result<Vec<Plain>, crate::Refusal> {
    let sections = section::read_all(layout, payload)?;
    Ok(layout.params().iter().zip(&sections).map(|(param, section)| plain(layout, param, section, payload)).collect())
}

fn plain(layout: &Layout, param: &crate::ParamLayout, section: &section::Section, payload: &[u8]) -> Plain {
    let mut chunks = Chunks::new(layout, param, section, payload, 0);
    let (mut positions, mut codes) = (vec![0; param.sent()], vec![0; param.sent()]);
    positions.chunks_mut(param.k).zip(codes.chunks_mut(param.k)).for_each(|(positions, codes)| chunks.next(positions, codes));
    Plain { table: section.table, positions, codes: codes.iter().map(|code| *code as u8).collect() }
}

/// What a payload sends, dense, without DCT.
fn dense(layout: &Layout, payload: &[u8]) -> Vec<Vec<f32>> {
    let mut out = zeros(layout);
    for ((param, plain), out) in layout.params().iter().zip(decode(layout, payload).unwrap()).zip(&mut out) {
        for (i, (position, code)) in plain.positions.iter().zip(&plain.codes).enumerate() {
            out[param.flat_index(i / param.k, usize::from(*position))] = plain.table.levels()[usize::from(*code)];
        }
    }
    out
}
