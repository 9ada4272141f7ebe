//! Which samples a uid trains on in a window (spec wire-protocol §8.3 to §8.5).
//!
//! Everybody can compute everybody's assignment: it follows from uid, window and the number of samples of the shard,
//! through numpy's `default_rng(seed).choice(n, k, replace=False)`, rebuilt here word for word. Memory is
//! proportional to the number of samples chosen, never to the number of samples there are.

use crate::{Uid, Window};
use blake2::{Blake2b, Digest as _, digest::consts};
use std::collections::{HashMap, HashSet};

/// The largest pool of one window. The reference's is 30,720.
pub const POOL_SAMPLES_MAX: u64 = 1 << 24;

/// The largest number of samples in a shard. The reference's shards hold 52,428,800.
pub const SHARD_SAMPLES_MAX: u64 = 1 << 36;

/// Why no samples can be assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// The shard is smaller than the pool of one window.
    #[error(
        "the shard has {have} samples, but a window assigns {needed} to each miner (inner steps × target batch size); \
         prepare the data set with a shorter sequence length or from more text, or run with fewer inner steps or a smaller target batch"
    )]
    TooFewSamples {
        /// Samples that one window needs.
        needed: u64,
        /// Samples that the shard has.
        have: u64,
    },
    /// The pool or the shard is larger than this implementation handles.
    #[error("{what} is {value}, but at most {max} is supported; lower it")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The largest supported value.
        max: u64,
    },
    /// The hyper-parameters contradict each other.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The seed of `(uid, window)` (§8.3). `uid` is wider than a [`Uid`] because random data takes a larger number in its place.
pub fn window_seed(uid: u64, window: Window) -> u32 {
    (uid.wrapping_mul(1_000_003) ^ window.0) as u32
}

/// Expands a one-word seed to four 64-bit words as numpy's `SeedSequence` does (§8.4).
pub fn seed_sequence(seed: u32) -> [u64; 4] {
    const A0: u32 = 0x43b0_d7e5;
    const AM: u32 = 0x931e_8875;
    const B0: u32 = 0x8b51_f9dd;
    const BM: u32 = 0x58f3_8ded;
    const L: u32 = 0xca01_f9dd;
    const R: u32 = 0x4973_f715;
    fn scramble(value: u32, running: &mut u32, multiplier: u32) -> u32 {
        let mut value = value ^ *running;
        *running = running.wrapping_mul(multiplier);
        value = value.wrapping_mul(*running);
        value ^ (value >> 16)
    }
    let mut running = A0;
    let mut pool = [0u32; 4];
    for (i, slot) in pool.iter_mut().enumerate() {
        *slot = scramble(if i == 0 { seed } else { 0 }, &mut running, AM);
    }
    for source in 0..4 {
        for target in 0..4 {
            if source != target {
                let hashed = scramble(pool[source], &mut running, AM);
                let mixed = L.wrapping_mul(pool[target]).wrapping_sub(R.wrapping_mul(hashed));
                pool[target] = mixed ^ (mixed >> 16);
            }
        }
    }
    let mut running = B0;
    let mut words = [0u32; 8];
    for (i, word) in words.iter_mut().enumerate() {
        *word = scramble(pool[i % 4], &mut running, BM);
    }
    std::array::from_fn(|j| u64::from(words[2 * j]) | u64::from(words[2 * j + 1]) << 32)
}

/// numpy's PCG64 (XSL-RR 128/64) with its half-word buffer (§8.4).
#[derive(Clone, Debug)]
pub struct Pcg64 {
    state: u128,
    inc: u128,
    half: Option<u32>,
}

impl Pcg64 {
    /// The generator that `default_rng(seed)` gives.
    pub fn new(seed: u32) -> Self {
        let q = seed_sequence(seed);
        let init = u128::from(q[0]) << 64 | u128::from(q[1]);
        let sequence = u128::from(q[2]) << 64 | u128::from(q[3]);
        let mut rng = Self { state: 0, inc: sequence << 1 | 1, half: None };
        rng.step();
        rng.state = rng.state.wrapping_add(init);
        rng.step();
        rng
    }

    fn step(&mut self) {
        const M: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
        self.state = self.state.wrapping_mul(M).wrapping_add(self.inc);
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// The next 32 random bits: the low half of a fresh word first, then its high half.
    pub fn next_u32(&mut self) -> u32 {
        if let Some(high) = self.half.take() {
            return high;
        }
        let word = self.next_u64();
        self.half = Some((word >> 32) as u32);
        word as u32
    }

    /// A uniform integer in `0..=max`, by Lemire's method as numpy applies it.
    pub fn bounded(&mut self, max: u64) -> u64 {
        match u32::try_from(max) {
            Ok(0) => 0,
            Ok(u32::MAX) => u64::from(self.next_u32()),
            Ok(max) => u64::from(self.bounded_u32(max)),
            Err(_) if max == u64::MAX => self.next_u64(),
            Err(_) => self.bounded_u64(max),
        }
    }

    fn bounded_u32(&mut self, max: u32) -> u32 {
        let span = max + 1;
        let mut product = u64::from(self.next_u32()) * u64::from(span);
        if (product as u32) < span {
            let threshold = (u32::MAX - max) % span;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(span);
            }
        }
        (product >> 32) as u32
    }

    fn bounded_u64(&mut self, max: u64) -> u64 {
        let span = max + 1;
        let mut product = u128::from(self.next_u64()) * u128::from(span);
        if (product as u64) < span {
            let threshold = (u64::MAX - max) % span;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(span);
            }
        }
        (product >> 64) as u64
    }

    /// `k` different integers below `n`, in random order: numpy's `choice(n, k, replace=False)`.
    ///
    /// # Errors
    /// [`SamplerError::TooFewSamples`] when `k > n`, [`SamplerError::TooLarge`] beyond [`POOL_SAMPLES_MAX`] or [`SHARD_SAMPLES_MAX`].
    pub fn choice(&mut self, n: u64, k: u64) -> Result<Vec<u64>, SamplerError> {
        if k > POOL_SAMPLES_MAX {
            return Err(SamplerError::TooLarge { what: "the number of samples of one window", value: k, max: POOL_SAMPLES_MAX });
        }
        if n > SHARD_SAMPLES_MAX {
            return Err(SamplerError::TooLarge { what: "the number of samples of a shard", value: n, max: SHARD_SAMPLES_MAX });
        }
        if k > n {
            return Err(SamplerError::TooFewSamples { needed: k, have: n });
        }
        if n > 10_000 && k > n / 50 { Ok(self.tail_shuffle(n, k)) } else { Ok(self.floyd(n, k)) }
    }

    /// The last `k` entries of `0..n` after shuffling only them. The array is kept as its differences from the identity.
    fn tail_shuffle(&mut self, n: u64, k: u64) -> Vec<u64> {
        let mut moved: HashMap<u64, u64> = HashMap::with_capacity(2 * k as usize);
        let mut tail = Vec::with_capacity(k as usize);
        let stop = (n - k).max(1);
        for i in (stop..n).rev() {
            let j = self.bounded(i);
            let at_i = moved.remove(&i).unwrap_or(i);
            // Position i is never looked at again: what it receives belongs to the result.
            tail.push(if i == j { at_i } else { moved.insert(j, at_i).unwrap_or(j) });
        }
        if stop > n - k {
            tail.push(moved.remove(&0).unwrap_or(0));
        }
        tail.reverse();
        tail
    }

    /// Floyd's set method, then a shuffle of the result.
    fn floyd(&mut self, n: u64, k: u64) -> Vec<u64> {
        let mut chosen = HashSet::with_capacity(k as usize);
        let mut out = Vec::with_capacity(k as usize);
        for j in n - k..n {
            let drawn = self.bounded(j);
            let value = if chosen.insert(drawn) { drawn } else { j };
            chosen.insert(value);
            out.push(value);
        }
        for i in (1..out.len()).rev() {
            let j = self.bounded(i as u64) as usize;
            out.swap(i, j);
        }
        out
    }
}

/// The samples assigned to a uid in a window: the pool, and the part of it that inner steps train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pool: Vec<u64>,
    inner_steps: usize,
    batch_size: usize,
}

impl Assignment {
    /// The assignment of `uid` in `window` over a shard of `n_samples` samples (§8.4).
    ///
    /// The pool has `inner_steps · target_batch_size` entries; of these the first `inner_steps · batch_size` are trained on.
    ///
    /// # Errors
    /// [`SamplerError`] when the shard is too small, a number is too large, or `batch_size` is 0 or above `target_batch_size`.
    pub fn new(
        uid: Uid,
        window: Window,
        n_samples: u64,
        inner_steps: u32,
        target_batch_size: u32,
        batch_size: u32,
    ) -> Result<Self, SamplerError> {
        Self::of_number(u64::from(uid.0), window, n_samples, inner_steps, target_batch_size, batch_size)
    }

    /// As [`Assignment::new`], with any number in place of the uid: validators draw "random" data from a number in
    /// `1000..=10_000_000` that no miner has.
    ///
    /// # Errors
    /// As [`Assignment::new`].
    pub fn of_number(
        number: u64,
        window: Window,
        n_samples: u64,
        inner_steps: u32,
        target_batch_size: u32,
        batch_size: u32,
    ) -> Result<Self, SamplerError> {
        if inner_steps == 0 || batch_size == 0 {
            return Err(SamplerError::Invalid("inner steps and batch size must be at least 1"));
        }
        if batch_size > target_batch_size {
            return Err(SamplerError::Invalid("the batch size must not exceed the target batch size, from whose samples it is taken"));
        }
        let needed = u64::from(inner_steps) * u64::from(target_batch_size);
        let pool = Pcg64::new(window_seed(number, window)).choice(n_samples, needed)?;
        Ok(Self { pool, inner_steps: inner_steps as usize, batch_size: batch_size as usize })
    }

    /// All assigned samples, as indices into the shard. Their ids make the sample digest.
    pub fn pool(&self) -> &[u64] {
        &self.pool
    }

    /// The samples that inner steps consume, in order.
    pub fn trained(&self) -> &[u64] {
        &self.pool[..self.inner_steps * self.batch_size]
    }

    /// The rows of inner step `step`; empty past the last step.
    pub fn step(&self, step: usize) -> &[u64] {
        self.trained().chunks(self.batch_size).nth(step).unwrap_or(&[])
    }

    /// Number of inner steps.
    pub fn inner_steps(&self) -> usize {
        self.inner_steps
    }

    /// The entries that data-parallel rank `rank` of `world` trains on: every `world`-th, in order.
    pub fn rank(&self, rank: usize, world: usize) -> impl Iterator<Item = u64> + '_ {
        self.trained().iter().copied().skip(rank).step_by(world.max(1))
    }
}

/// The digest of the samples with these ids (§8.5): BLAKE2b with 16 bytes of output over the sorted ids, little-endian.
pub fn sample_digest(ids: &[u64]) -> [u8; 16] {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut hasher = Blake2b::<consts::U16>::new();
    for id in sorted {
        hasher.update(id.to_le_bytes());
    }
    hasher.finalize().into()
}

/// The id of a sequence of tokens (§8.2): BLAKE2b with 8 bytes of output over its little-endian bytes, read as little-endian.
pub fn sample_id(tokens: &[u32]) -> u64 {
    let mut hasher = Blake2b::<consts::U8>::new();
    let mut bytes = [0; 1024];
    for block in tokens.chunks(bytes.len() / 4) {
        for (slot, token) in bytes.chunks_exact_mut(4).zip(block) {
            slot.copy_from_slice(&token.to_le_bytes());
        }
        hasher.update(&bytes[..4 * block.len()]);
    }
    u64::from_le_bytes(hasher.finalize().into())
}

/// What the reference's preparation script writes in place of `id` in a shard whose ids lie on both sides of 2⁶³ (§8.2):
/// numpy promotes such a list to float64, and the file holds the bits of that.
pub fn reference_id(id: u64) -> u64 {
    (id as f64).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/sampler.json");
        serde_json::from_slice(&std::fs::read(path).expect("vector file")).expect("valid JSON")
    }

    fn numbers(value: &Value) -> Vec<u64> {
        value.as_array().expect("list").iter().map(|v| v.as_u64().expect("number")).collect()
    }

    fn splitmix(i: u64) -> u64 {
        let mut z = i.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[test]
    fn seeds_and_generators_match_the_vectors() {
        let vectors = vectors();
        for case in vectors["window_seed"].as_array().expect("list") {
            let uid = case["uid"].as_u64().expect("uid");
            assert_eq!(u64::from(window_seed(uid, Window(case["window"].as_u64().expect("window")))), case["seed"]);
        }
        for case in vectors["rng"].as_array().expect("list") {
            let seed = case["seed"].as_u64().expect("seed") as u32;
            let words: Vec<u64> = seed_sequence(seed).iter().flat_map(|q| [q & 0xffff_ffff, q >> 32]).collect();
            assert_eq!(words, numbers(&case["seedsequence_u32x8"]));
            let mut rng = Pcg64::new(seed);
            for want in case["pcg64_first_u64"].as_array().expect("list") {
                assert_eq!(rng.next_u64().to_string(), want.as_str().expect("text"));
            }
        }
    }

    #[test]
    fn choices_match_the_vectors() {
        let vectors = vectors();
        let cases = vectors["choice_cases"].as_array().expect("list");
        assert!(cases.len() >= 8);
        for case in cases {
            let number = |name: &str| case[name].as_u64().expect("number");
            let (steps, target) = (number("steps_per_window") as u32, number("target_batch_size") as u32);
            let assignment = Assignment::of_number(number("uid"), Window(number("window")), number("dataset_len"), steps, target, target)
                .expect("assignable");
            let pool = assignment.pool();
            assert_eq!(pool.len() as u64, number("k"));
            assert_eq!(pool[..pool.len().min(16)], numbers(&case["first16"]), "{}", case["note"]);
            assert_eq!(pool[pool.len() - 4..], numbers(&case["last4"]), "{}", case["note"]);
            assert_eq!(hex::encode(sample_digest(pool)), case["sample_digest_ids_identity"]);
            let mixed: Vec<u64> = pool.iter().map(|&i| splitmix(i)).collect();
            assert_eq!(hex::encode(sample_digest(&mixed)), case["sample_digest_ids_splitmix"]);
            for rank in case["ranks_world2"].as_array().expect("list") {
                let first: Vec<u64> = assignment.rank(rank["rank"].as_u64().expect("rank") as usize, 2).take(3).collect();
                assert_eq!(first, numbers(&rank["first3"]));
            }
        }
    }

    #[test]
    fn the_tiny_shard_matches_the_vectors() {
        let vectors = vectors();
        let tiny = &vectors["tiny_shard"];
        let assignment = Assignment::new(Uid(7), Window(123), 64, 4, 8, 2).expect("assignable");
        assert_eq!(assignment.pool(), numbers(&tiny["sampler"]["indices"]));
        assert_eq!(assignment.step(1), &assignment.pool()[2..4]);
        assert_eq!(assignment.step(4), &[0u64; 0]);
        assert_eq!(assignment.trained().len(), 8);
        let tokens: Vec<u32> = numbers(&tiny["first_sequence_tokens"]).iter().map(|&t| t as u32).collect();
        let id = sample_id(&tokens);
        assert_eq!(format!("{id:016x}"), tiny["true_blake2b64_u64_hex"][0]);
        assert_eq!(format!("{:016x}", reference_id(id)), tiny["sample_ids_file_u64_hex"][0]);
    }

    #[test]
    fn too_small_data_says_what_to_do() {
        let error = Assignment::new(Uid(1), Window(1), 10, 4, 8, 8).expect_err("too few samples");
        assert_eq!(error, SamplerError::TooFewSamples { needed: 32, have: 10 });
        assert!(error.to_string().contains("32") && error.to_string().contains("fewer inner steps"));
        assert!(matches!(Assignment::new(Uid(1), Window(1), u64::MAX, 4, 8, 8), Err(SamplerError::TooLarge { .. })));
        assert!(matches!(Assignment::new(Uid(1), Window(1), 1 << 30, u32::MAX, 8, 8), Err(SamplerError::TooLarge { .. })));
        assert!(matches!(Assignment::new(Uid(1), Window(1), 100, 4, 8, 9), Err(SamplerError::Invalid(_))));
    }

    #[test]
    fn huge_shards_need_memory_for_the_pool_only() {
        let assignment = Assignment::new(Uid(9), Window(5), SHARD_SAMPLES_MAX, 30, 1024, 192).expect("assignable");
        assert!(assignment.pool().iter().any(|&i| i > u64::from(u32::MAX)));
        assert!(assignment.pool().iter().all(|&i| i < SHARD_SAMPLES_MAX));
    }

    /// The first branch of §8.4 as it is written there, with the whole array.
    fn tail_shuffle_by_the_letter(rng: &mut Pcg64, n: u64, k: u64) -> Vec<u64> {
        let mut a: Vec<u64> = (0..n).collect();
        for i in ((n - k).max(1)..n).rev() {
            let j = rng.bounded(i);
            a.swap(i as usize, j as usize);
        }
        a.split_off((n - k) as usize)
    }

    proptest! {
        #[test]
        fn the_sparse_tail_shuffle_is_the_dense_one(seed: u32, n in 1u64..300, part in 0u64..=100) {
            let k = n * part / 100;
            prop_assert_eq!(Pcg64::new(seed).tail_shuffle(n, k), tail_shuffle_by_the_letter(&mut Pcg64::new(seed), n, k));
        }

        #[test]
        fn choices_are_distinct_and_in_range(seed: u32, n in 0u64..20_000, part in 0u64..=100) {
            let k = n * part / 100;
            let chosen = Pcg64::new(seed).choice(n, k).expect("k is at most n");
            prop_assert_eq!(chosen.len() as u64, k);
            prop_assert!(chosen.iter().all(|&i| i < n));
            prop_assert_eq!(chosen.iter().collect::<HashSet<_>>().len() as u64, k);
        }
    }
}
