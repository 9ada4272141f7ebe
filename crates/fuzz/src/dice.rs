//! Random numbers from a seed, with a liking for the edges.

/// Numbers at which code tends to break.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    16,
    63,
    64,
    127,
    128,
    255,
    256,
    1 << 15,
    (1 << 16) - 1,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
    u64::MAX,
];

/// A source of choices.
#[derive(Clone, Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// The same seed gives the same choices.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number from 0 to `limit` less 1; 0 where the limit is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { self.0.usize(..limit) }
    }

    /// Whether something that happens once in `n` times does.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `all`, which is not empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.0.u8(..)
    }

    /// Any number: often one at an edge or near it, often a small one.
    pub fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => *self.pick(&EDGES),
            1 => self.pick(&EDGES).wrapping_add(self.0.u64(..3)).wrapping_sub(1),
            2 => self.0.u64(..20),
            _ => self.0.u64(..) >> self.below(64),
        }
    }

    /// From 0 to `most` bytes, any.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        std::iter::repeat_with(|| self.byte()).take(length).collect()
    }

    /// Bytes of a fixed number, any.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Up to `most` characters, some of them strange.
    pub fn text(&mut self, most: usize) -> String {
        const STRANGE: [char; 10] = ['\0', '"', '\\', '\n', '\u{7f}', 'é', '\u{202e}', '😀', '\u{feff}', '/'];
        let length = self.below(most + 1);
        let one = |dice: &mut Self| if dice.once_in(8) { *dice.pick(&STRANGE) } else { char::from(b' ' + dice.byte() % 95) };
        std::iter::repeat_with(|| one(self)).take(length).collect()
    }

    /// A number of 32 bits that code is seldom shown, or any.
    pub fn float(&mut self) -> f32 {
        const STRANGE: [f32; 10] = [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        if self.once_in(2) { *self.pick(&STRANGE) } else { f32::from_bits(self.0.u32(..)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (dice.number(), dice.bytes(40), dice.text(40), dice.below(10))
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        assert_eq!(Dice::new(1).below(0), 0);
    }
}
