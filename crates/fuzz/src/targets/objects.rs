//! Sealed objects: what peers put into their buckets, opened, measured, aggregated and given back.
//!
//! An input has the number of a layout (1 byte), what it is (1 byte), and the bytes. An even kind is a whole object; an odd one is a payload, sealed
//! here with a header that fits, so that changed payloads come past the seal.

use crate::{Dice, Shapes, Target, mutate, normal};
use templar_codec::{
    CodecConfig, Expect, HEADER_BYTES, Header, Layout, Opened, Refusal, Sketch, aggregate, compress, describe, give_back, max_object_bytes,
    norms, open, seal, seal_holds, sparse_update,
};
use templar_protocol::{AccountId, Digest, GlobalStep, ParamSpec, Uid, Window};
use templar_wallet::{Keypair, Signer as _};

/// The layouts, and the key that seals.
pub struct Objects {
    layouts: Vec<Layout>,
    key: Keypair,
}

impl Objects {
    /// Layouts of all kinds: small and dense, many chunks, transformed, with few and with many levels.
    pub fn new() -> Self {
        let layout = |shapes: &[&[usize]], config: CodecConfig| {
            let spec = |(i, shape): (usize, &&[usize])| ParamSpec { name: format!("p{i}"), shape: shape.to_vec() };
            let specs: Vec<ParamSpec> = shapes.iter().enumerate().map(spec).collect();
            Layout::new(&specs, config).expect("these shapes can be chunked")
        };
        let config = |target_chunk, topk, use_dct, bins| CodecConfig { target_chunk, topk, use_dct, bins, range: 6.0 };
        let layouts = vec![
            layout(&[&[8, 8], &[10]], config(4, 3, false, 4)),
            layout(&[&[12]], config(64, 64, false, 2)),
            layout(&[&[16, 8]], config(8, 5, true, 4)),
            layout(&[&[64, 16]], config(2, 1, false, 16)),
            layout(&[&[64, 64], &[64]], CodecConfig::default()),
        ];
        Self { layouts, key: Keypair::from_seed([7; 32]) }
    }

    fn header(&self) -> Header {
        Header {
            version: 1,
            run_id: Digest::of(b"run"),
            uid: Uid(3),
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

    /// What a receiver does with an object that it has opened.
    fn used(layout: &Layout, object: &Opened) -> String {
        let zeros = || layout.params().iter().map(|param| vec![0.0f32; param.len()]).collect::<Vec<_>>();
        let norms = norms(object);
        assert!(norms.iter().all(|norm| norm.is_finite()), "a peer cannot send what has no norm: {norms:?}");
        let clip: Vec<f32> = norms.iter().map(|norm| *norm as f32).collect();
        let update = sparse_update(layout, object, &clip, 1.0);
        assert_eq!(update.params.len(), layout.params().len());
        let sketch = Sketch::of(layout, object, &Digest::of(b"seed"));
        let mut theta = zeros();
        let peers = [object.clone(), object.clone()];
        let aggregated = aggregate(layout, &peers, &mut theta, 1.0);
        assert!(aggregated.factors.iter().flatten().all(|factor| factor.is_finite()));
        assert!(theta.iter().flatten().all(|value| value.is_finite()), "a peer cannot make the parameters other than finite");
        let mut residual = zeros();
        let given = give_back(layout, object.payload(), &mut residual);
        assert!(given.is_ok(), "what opens can be given back: {given:?}");
        format!("opened: sketch zero {}, norm zero {}", sketch.is_zero(), norms.iter().all(|norm| *norm == 0.0))
    }

    fn payload(&self, layout: &Layout, dice: &mut Dice) -> Vec<u8> {
        let strange = dice.once_in(4);
        let scale = 10f32.powi(dice.below(60) as i32 - 30);
        let value = |dice: &mut Dice| match strange {
            true if dice.once_in(8) => dice.float(),
            _ => (f32::from(dice.byte()) - 127.5) * scale,
        };
        let fill = |dice: &mut Dice| -> Vec<Vec<f32>> {
            layout.params().iter().map(|param| std::iter::repeat_with(|| value(dice)).take(param.len()).collect()).collect()
        };
        let (start, end) = (fill(dice), fill(dice));
        let mut residual: Vec<Vec<f32>> = layout.params().iter().map(|param| vec![0.0; param.len()]).collect();
        compress(layout, &start, &end, &mut residual, 0.999, dice.once_in(10)).payload
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Malformed { why, .. } | Refusal::MalformedHeader { why } => format!("{}: {}", refusal.kind(), normal(why)),
        other => other.kind().into(),
    }
}

impl Target for Objects {
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8> {
        let number = dice.below(self.layouts.len());
        let payload = self.payload(&self.layouts[number], dice);
        if dice.once_in(4) {
            let object = seal(&self.header(), &payload, &self.key);
            return [&[number as u8, 0][..], &object].concat();
        }
        [&[number as u8, 1][..], &payload].concat()
    }

    fn mutate(&mut self, input: &[u8], dice: &mut Dice) -> Vec<u8> {
        let Some(([layout, kind], body)) = input.split_first_chunk::<2>() else { return self.generate(dice) };
        let mut body = body.to_vec();
        match dice.below(4) {
            // The heads of sections and the header of an object are where the numbers are.
            0 if !body.is_empty() => {
                let at = dice.below(body.len().min(96));
                let bytes = if dice.once_in(2) { dice.float().to_le_bytes() } else { (dice.number() as u32).to_le_bytes() };
                for (place, byte) in body[at..].iter_mut().zip(bytes) {
                    *place = byte;
                }
            }
            1 if dice.once_in(4) => return [&[dice.byte(), *kind][..], &body].concat(),
            _ => body = mutate::bytes(&body, dice),
        }
        [&[*layout, *kind][..], &body].concat()
    }

    fn run(&mut self, input: &[u8]) -> Shapes {
        let Some(([number, kind], body)) = input.split_first_chunk::<2>() else { return Shapes::from(["nothing".into()]) };
        let layout = &self.layouts[usize::from(*number) % self.layouts.len()];
        let object = if kind % 2 == 0 { body.to_vec() } else { seal(&self.header(), body, &self.key) };
        let header = self.header();
        let expect = Expect { run_id: header.run_id, uid: header.uid, hotkey: self.key.account_id(), window: header.window };
        let mut shapes = Shapes::new();
        if let Some(payload) = object.get(HEADER_BYTES..) {
            let described = describe(payload).map(|layout| layout.params().len().min(3));
            shapes.insert(described.map_or_else(|why| format!("described: {}", refusal(&why)), |params| format!("described: {params}")));
        }
        // Whether it holds is asked of what does not fit as well.
        let _ = seal_holds(&object);
        shapes.insert(match open(object.clone(), layout, &expect) {
            Ok(opened) => {
                assert!(object.len() <= max_object_bytes(layout));
                format!("{number}: {}", Self::used(layout, &opened))
            }
            Err(why) => format!("refused: {}", refusal(&why)),
        });
        shapes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_objects_open_and_changed_ones_are_refused_in_many_ways() {
        let (mut target, mut dice) = (Objects::new(), Dice::new(6));
        let mut shapes = Shapes::new();
        for _ in 0..200 {
            let input = target.generate(&mut dice);
            shapes.extend(target.run(&input));
            let changed = target.mutate(&input, &mut dice);
            shapes.extend(target.run(&changed));
        }
        for number in 0..5 {
            assert!(shapes.iter().any(|shape| shape.starts_with(&format!("{number}: opened"))), "{number}: {shapes:?}");
        }
        assert!(shapes.iter().filter(|shape| shape.starts_with("refused: malformed")).count() >= 5, "{shapes:?}");
    }
}
