//! Bit fields and unary runs, least significant bit first.
//!
//! What always holds: readers never index outside their slice (bytes past the end read as zero) and every loop is bounded by
//! the slice or by the number of fields asked for. Hot functions are inlined into callers compiled for the machine at hand.

/// Runs `work` compiled for the best instruction set of this machine. Results do not depend on which one that is.
#[inline(always)]
pub fn simd<R>(work: impl FnOnce() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Op<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Op(work))
}

/// Eight bytes from `at` on as a little-endian word; bytes past the end are zero.
#[inline(always)]
pub(crate) fn word_at(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(word) => u64::from_le_bytes(*word),
        None => tail_word(bytes, at),
    }
}

#[cold]
fn tail_word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let rest = bytes.get(at..).unwrap_or(&[]);
    word[..rest.len().min(8)].copy_from_slice(&rest[..rest.len().min(8)]);
    u64::from_le_bytes(word)
}

/// Reads `out.len()` fields of `width` bits (at most 12) from bit `first_bit` on.
#[inline(always)]
pub(crate) fn read_fields(bytes: &[u8], first_bit: usize, width: u32, out: &mut [u16]) {
    let mask = (1u64 << width) - 1;
    let mut bit = first_bit;
    let (quads, rest) = out.as_chunks_mut::<4>();
    for quad in quads {
        // Four fields and the offset in the first byte are at most 55 bits.
        let word = word_at(bytes, bit >> 3) >> (bit & 7);
        *quad = [
            (word & mask) as u16,
            ((word >> width) & mask) as u16,
            ((word >> (2 * width)) & mask) as u16,
            ((word >> (3 * width)) & mask) as u16,
        ];
        bit += 4 * width as usize;
    }
    for value in rest {
        *value = ((word_at(bytes, bit >> 3) >> (bit & 7)) & mask) as u16;
        bit += width as usize;
    }
}

/// Writes fields one after another into a slice from its first bit on; bits after the last field are zero.
pub(crate) struct FieldWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    word: u64,
    bits: u32,
}

impl<'a> FieldWriter<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, word: 0, bits: 0 }
    }

    /// Appends the low `width` bits (at most 12) of `value`, whose other bits are zero.
    #[inline(always)]
    pub(crate) fn push(&mut self, value: u16, width: u32) {
        self.word |= u64::from(value) << self.bits;
        self.bits += width;
        if self.bits >= 32 {
            self.flush(4);
        }
    }

    #[inline(always)]
    fn flush(&mut self, bytes: usize) {
        self.out[self.at..self.at + bytes].copy_from_slice(&self.word.to_le_bytes()[..bytes]);
        self.at += bytes;
        self.word >>= 8 * bytes as u32;
        self.bits -= (8 * bytes as u32).min(self.bits);
    }

    /// Writes what is left. The slice must be filled by then.
    pub(crate) fn finish(mut self) {
        let bytes = self.bits.div_ceil(8) as usize;
        self.flush(bytes);
    }
}

/// Position of the set bit number `n` (from 0) of `word`, which has more than `n` set bits.
#[inline(always)]
pub(crate) fn select_bit(word: u64, n: u32) -> u32 {
    let (mut word, mut n, mut at) = (word, n, 0);
    for half in [32, 16, 8, 4, 2, 1] {
        let low = (word & ((1u64 << half) - 1)).count_ones();
        let up = n >= low;
        n -= if up { low } else { 0 };
        at += if up { half } else { 0 };
        word >>= if up { half } else { 0 };
    }
    at
}

/// Sum of `count` fields of `width` bits from bit `first_bit` on.
#[inline(always)]
pub(crate) fn sum_fields(bytes: &[u8], first_bit: usize, width: u32, count: usize) -> u32 {
    let (mut bit, mut sum, mut left) = (first_bit, 0, count);
    if (4..=7).contains(&width) {
        // Eight fields of a word are added as four pairs; each pair's place of 2 · width bits holds eight such sums.
        let pair = 2 * width;
        let evens = ((1u64 << width) - 1) * (1 | 1 << pair | 1 << (2 * pair) | 1 << (3 * pair));
        while left >= 64 {
            let mut pairs = 0;
            for _ in 0..8 {
                let word = word_at(bytes, bit >> 3) >> (bit & 7);
                pairs += (word & evens) + ((word >> width) & evens);
                bit += 8 * width as usize;
            }
            let mask = (1u64 << pair) - 1;
            sum += (pairs & mask) + ((pairs >> pair) & mask) + ((pairs >> (2 * pair)) & mask) + (pairs >> (3 * pair));
            left -= 64;
        }
    }
    let mut fields = [0u16; 32];
    while left > 0 {
        let fields = &mut fields[..left.min(32)];
        read_fields(bytes, bit, width, fields);
        sum += fields.iter().map(|field| u64::from(*field)).sum::<u64>();
        bit += fields.len() * width as usize;
        left -= fields.len();
    }
    sum as u32
}

/// The ones of a byte string, as ascending bit positions.
#[derive(Clone, Copy)]
pub(crate) struct Ones<'a> {
    bytes: &'a [u8],
    word: u64,
    base: usize,
}

impl<'a> Ones<'a> {
    #[inline(always)]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, word: word_at(bytes, 0), base: 0 }
    }

    /// Moves on to the next word; `false` at the end.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        self.base += 64;
        self.word = word_at(self.bytes, self.base / 8);
        self.base / 8 < self.bytes.len()
    }

    /// Position of the next one; the length in bits, or more, when there is none.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> usize {
        while self.word == 0 {
            if !self.advance() {
                return self.base;
            }
        }
        let at = self.base + self.word.trailing_zeros() as usize;
        self.word &= self.word.wrapping_sub(1);
        at
    }

    /// Passes over `n` ones, at least 1, and gives the position of the last; `None` when there are fewer.
    #[inline(always)]
    pub(crate) fn nth(&mut self, n: usize) -> Option<usize> {
        let mut left = n;
        loop {
            let here = self.word.count_ones() as usize;
            if here >= left {
                let bit = select_bit(self.word, (left - 1) as u32);
                // Two shifts: a single one by 64 would overflow.
                self.word &= (u64::MAX << bit) << 1;
                return Some(self.base + bit as usize);
            }
            left -= here;
            if !self.advance() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_survive(width in 0u32..=12, raw in prop::collection::vec(any::<u16>(), 0..200), skip in 0usize..20) {
            let mask = ((1u32 << width) - 1) as u16;
            let values: Vec<u16> = raw.iter().map(|v| v & mask).collect();
            let mut bytes = vec![0; (values.len() * width as usize).div_ceil(8)];
            let mut writer = FieldWriter::new(&mut bytes);
            values.iter().for_each(|v| writer.push(*v, width));
            writer.finish();
            let skip = skip.min(values.len());
            let mut read = vec![0; values.len() - skip];
            read_fields(&bytes, skip * width as usize, width, &mut read);
            prop_assert_eq!(&read[..], &values[skip..]);
            let sum: u32 = read.iter().map(|v| u32::from(*v)).sum();
            prop_assert_eq!(sum_fields(&bytes, skip * width as usize, width, read.len()), sum);
        }

        #[test]
        fn ones_are_found_one_by_one_and_in_leaps(bytes in prop::collection::vec(any::<u8>(), 0..60), leap in 1usize..90) {
            let want: Vec<usize> = (0..bytes.len() * 8).filter(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect();
            let mut ones = Ones::new(&bytes);
            for at in &want {
                prop_assert_eq!(ones.next(), *at);
            }
            prop_assert!(ones.next() >= bytes.len() * 8);
            let mut ones = Ones::new(&bytes);
            let mut last = None;
            for chunk in want.chunks_exact(leap) {
                last = ones.nth(leap);
                prop_assert_eq!(last, chunk.last().copied());
            }
            let after = want.iter().find(|at| last.is_none_or(|last| **at > last));
            if let Some(after) = after {
                prop_assert_eq!(ones.next(), *after);
            }
        }

        #[test]
        fn select_finds_each_bit(word in any::<u64>()) {
            let bits: Vec<u32> = (0..64).filter(|i| word >> i & 1 == 1).collect();
            for (n, bit) in bits.iter().enumerate() {
                prop_assert_eq!(select_bit(word, n as u32), *bit);
            }
        }
    }
}
