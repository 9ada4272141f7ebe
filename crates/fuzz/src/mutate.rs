//! Changes of bytes that know nothing of what they mean.

use crate::{Dice, INPUT_BYTES_MAX};

/// `input` after one to four small changes; never longer than [`INPUT_BYTES_MAX`].
pub fn bytes(input: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=dice.below(4) {
        change(&mut out, dice);
    }
    out.truncate(INPUT_BYTES_MAX);
    out
}

fn change(out: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(out.len());
    match dice.below(8) {
        0 if !out.is_empty() => out[at] ^= 1 << dice.below(8),
        1 if !out.is_empty() => out[at] = dice.byte(),
        2 => drop(out.splice(at..at, dice.bytes(8))),
        3 => drop(out.drain(at..(at + dice.below(9)).min(out.len()))),
        4 => number(out, at, dice),
        5 => out.truncate(at),
        6 => {
            let part = out[at..(at + dice.below(64)).min(out.len())].to_vec();
            let to = dice.below(out.len() + 1);
            drop(out.splice(to..to, part));
        }
        _ => {
            let with = dice.byte();
            let end = (at + dice.below(16)).min(out.len());
            out[at..end].fill(with);
        }
    }
}

/// Puts a number of one to eight bytes at `at`, in either order.
fn number(out: &mut [u8], at: usize, dice: &mut Dice) {
    let width = 1 << dice.below(4);
    let value = dice.number();
    let bytes = if dice.once_in(4) { (value << (64 - 8 * width)).to_be_bytes() } else { value.to_le_bytes() };
    for (place, byte) in out[at..].iter_mut().zip(&bytes[..width]) {
        *place = *byte;
    }
}

/// The front of one input and the back of another.
pub fn splice(one: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (front, back) = (dice.below(one.len() + 1), dice.below(other.len() + 1));
    let mut out = [&one[..front], &other[back..]].concat();
    out.truncate(INPUT_BYTES_MAX);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_input_can_be_changed(input in prop::collection::vec(any::<u8>(), 0..200), seed: u64) {
            let mut dice = Dice::new(seed);
            prop_assert!(bytes(&input, &mut dice).len() <= INPUT_BYTES_MAX);
            prop_assert!(splice(&input, &input, &mut dice).len() <= 2 * input.len());
        }
    }

    #[test]
    fn most_changes_change_something() {
        let changed = (0..100).filter(|seed| bytes(&[7; 64], &mut Dice::new(*seed)) != [7; 64]).count();
        assert!(changed > 80, "{changed}");
    }
}
