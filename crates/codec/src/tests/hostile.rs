//! Bytes from strangers: refused by name, never a panic, never a second encoding.

use super::*;
use crate::{HEADER_BYTES, Refusal, compress, container::payload_digest, max_object_bytes, seal_holds};
use proptest::prelude::*;

fn small() -> (Layout, Vec<u8>) {
    let layout = layout(&[&[64, 96], &[20], &[3, 7]], CodecConfig { target_chunk: 16, topk: 10, ..CodecConfig::default() });
    let start: Vec<Vec<f32>> = layout.params().iter().zip(5..).map(|(param, seed)| lcg(param.len(), seed, 1e-3)).collect();
    let payload = compress(&layout, &start, &zeros(&layout), &mut zeros(&layout), 0.95, false).payload;
    (layout, payload)
}

fn refusal(layout: &Layout, bytes: &[u8]) -> &'static str {
    open(bytes, layout, &expect(1)).err().map_or("none", |refusal| refusal.kind())
}

#[test]
fn each_reason_has_its_name() {
    let (layout, payload) = small();
    let good = seal(&header(1), &payload, &key(1));
    assert_eq!(refusal(&layout, &good), "none");
    assert!(seal_holds(&good).unwrap());
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    assert_eq!(refusal(&layout, &good[..100]), "truncated");
    assert_eq!(refusal(&layout, &good[..good.len() - 1]), "truncated");
    assert_eq!(refusal(&layout, &[&good[..], &[0]].concat()), "oversized");
    assert_eq!(refusal(&layout, &changed(0, 1)), "bad-magic");
    assert_eq!(refusal(&layout, &changed(8, 2)), "bad-version");
    assert_eq!(refusal(&layout, &changed(13, 2)), "malformed-header");
    assert_eq!(refusal(&layout, &changed(20, 2)), "wrong-run");
    assert_eq!(refusal(&layout, &changed(10, 2)), "wrong-uid");
    assert_eq!(refusal(&layout, &changed(50, 2)), "wrong-hotkey");
    assert_eq!(refusal(&layout, &changed(80, 2)), "wrong-window");
    assert_eq!(refusal(&layout, &changed(130, 2)), "bad-seal");
    assert_eq!(refusal(&layout, &changed(200, 2)), "bad-seal");
    assert_eq!(refusal(&layout, &changed(HEADER_BYTES + 9, 2)), "bad-digest");
    let mut claims_more = good.clone();
    claims_more[152..160].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(refusal(&layout, &claims_more), "oversized");
    let stranger = seal(&header(1), &payload, &key(2));
    assert_eq!(refusal(&layout, &stranger), "wrong-hotkey");
}

#[test]
fn a_header_reads_back_as_written() {
    let (_, payload) = small();
    let bytes = seal(&header(1), &payload, &key(1));
    let want =
        Header { hotkey: key(1).public(), payload_digest: payload_digest(&payload), payload_bytes: payload.len() as u64, ..header(1) };
    assert_eq!(Header::parse(&bytes).unwrap(), want);
}

/// Seals `payload` properly, so that only its structure can be refused.
fn structure(layout: &Layout, payload: &[u8]) -> Result<Opened, Refusal> {
    open(seal(&header(1), payload, &key(1)), layout, &expect(1))
}

#[test]
fn absurd_tables_and_wrong_counts_are_refused_with_the_parameter() {
    let (layout, payload) = small();
    // Section 0 begins with kind, the name "p0", rows, columns and rows of a chunk: 15 bytes. From there: chunks at 0, k at 4, chunk
    // length at 6, bins at 8, Rice parameter at 9, shift at 10, lookup from 14.
    const TITLE: usize = 15;
    let with = |at: usize, bytes: &[u8]| {
        let mut payload = payload.clone();
        payload[TITLE + at..TITLE + at + bytes.len()].copy_from_slice(bytes);
        structure(&layout, &payload).unwrap_err().to_string()
    };
    for (at, bytes, says) in [
        (0, &[9, 9, 9, 9][..], "chunk count"),
        (8, &[5], "number of levels"),
        (9, &[12], "Rice parameter"),
        (10, &f32::NAN.to_le_bytes(), "not finite"),
        (10, &f32::INFINITY.to_le_bytes(), "not finite"),
        (10, &2e6f32.to_le_bytes(), "absurdly large"),
        (10, &(-0.0f32).to_le_bytes(), "negative zero"),
    ] {
        let sentence = with(at, bytes);
        assert!(sentence.contains(says) && sentence.contains("p0"), "{sentence}");
    }
}

#[test]
fn another_models_section_is_refused_and_described() {
    let (layout, payload) = small();
    let mut renamed = payload.clone();
    renamed[4] = b'9';
    let sentence = structure(&layout, &renamed).unwrap_err().to_string();
    assert!(sentence.contains("name, shape or transform"), "{sentence}");
    let described = crate::describe(&payload).unwrap();
    assert_eq!(described.params(), layout.params());
    assert_eq!(crate::describe(&renamed).unwrap().params()[0].name, "p9");
    for end in 0..payload.len() {
        // Any cut either falls between sections or is refused; nothing panics.
        let _ = crate::describe(&payload[..end]);
    }
}

#[test]
fn bytes_after_the_last_section_are_refused() {
    let (layout, mut payload) = small();
    payload.push(0);
    assert!(matches!(structure(&layout, &payload), Err(Refusal::Malformed { why: "bytes follow the last section", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_changed_payload_is_refused_or_is_another_content(at: prop::sample::Index, flip in 1u8..=255, second: prop::sample::Index) {
        let (layout, payload) = small();
        let mut changed = payload.clone();
        changed[at.index(payload.len())] ^= flip;
        changed[second.index(payload.len())] ^= 1;
        if let Ok(contents) = decode(&layout, &changed) {
            prop_assert_eq!(encode(&layout, &contents), changed);
            for (plain, param) in contents.iter().zip(layout.params()) {
                for chunk in plain.positions.chunks(param.k) {
                    prop_assert!(chunk.is_sorted_by(|a, b| a < b));
                    prop_assert!(usize::from(chunk[param.k - 1]) < param.chunk_len());
                }
            }
        }
    }

    #[test]
    fn a_cut_or_stretched_payload_is_refused(cut: prop::sample::Index, extra in prop::collection::vec(any::<u8>(), 1..20)) {
        let (layout, payload) = small();
        prop_assert!(decode(&layout, &payload[..cut.index(payload.len())]).is_err());
        prop_assert!(decode(&layout, &[&payload[..], &extra].concat()).is_err());
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (layout, payload) = small();
        prop_assert!(open(&noise[..], &layout, &expect(1)).is_err());
        prop_assert!(decode(&layout, &noise).is_err());
        // Noise behind a valid section head.
        prop_assert!(decode(&layout, &[&payload[..30], &noise].concat()).is_err() || noise == payload[30..]);
        let _ = Header::parse(&noise);
    }

    #[test]
    fn any_change_of_a_sealed_object_is_noticed(at: prop::sample::Index, flip in 1u8..=255) {
        let (layout, payload) = small();
        let mut bytes = seal(&header(1), &payload, &key(1));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(open(bytes, &layout, &expect(1)).is_err());
    }

    #[test]
    fn the_bound_covers_any_content(seed: u64, clustered: bool) {
        let layout = layout(&[&[64, 64], &[33, 70]], CodecConfig { topk: 12, ..CodecConfig::default() });
        let mut state = seed | 1;
        let contents: Vec<Plain> = layout.params().iter().map(|param| {
            let mut plain = Plain { table: Table::default(), positions: Vec::new(), codes: vec![0; param.sent()] };
            for _ in 0..param.chunks() {
                let mut set = std::collections::BTreeSet::new();
                while set.len() < param.k {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let room = if clustered { param.k + 2 } else { param.chunk_len() };
                    set.insert(((state >> 33) as usize % room.min(param.chunk_len())) as u16);
                }
                plain.positions.extend(set);
            }
            plain
        }).collect();
        let payload = encode(&layout, &contents);
        prop_assert!(HEADER_BYTES + payload.len() <= max_object_bytes(&layout));
        prop_assert_eq!(decode(&layout, &payload).unwrap(), contents);
    }
}
