//! Measuring what an object does to the loss: on random sequences, the same for all miners of a window, and on the miner's own.
//!
//! The sequences are drawn by the hash of a block that did not exist when the objects were committed, so nobody can prepare for them.

use crate::timeline::{Timeline, WAIT, WORKER};
use crate::workspace::{WorkError, Workspace};
use std::sync::Arc;
use templar_codec::Opened;
use templar_data::ShardReader;
use templar_gauntlet::{Losses, Measurement};
use templar_protocol::hparams::Evaluation;
use templar_protocol::sampler::{Assignment, Pcg64};
use templar_protocol::{Digest, Uid};

/// What one miner is measured on.
pub struct Subject {
    /// Its uid.
    pub uid: Uid,
    /// Its assignment in the window.
    pub assignment: Assignment,
}

/// Sample indices drawn for an evaluation.
struct Draw<'a> {
    reader: &'a ShardReader,
    seed: Digest,
    timeline: Timeline,
}

impl Draw<'_> {
    /// `count` of the entries of `pool` (all, if there are fewer), by `label`.
    fn of_pool(&self, pool: &[u64], count: usize, label: &[u8]) -> Result<Vec<u32>, WorkError> {
        let places = self.places(pool.len() as u64, count, label)?;
        let rows: Vec<u64> = places.into_iter().filter_map(|place| pool.get(usize::try_from(place).ok()?).copied()).collect();
        self.read(&rows)
    }

    /// `count` samples of the whole shard.
    fn of_shard(&self, count: usize, label: &[u8]) -> Result<Vec<u32>, WorkError> {
        self.read(&self.places(self.reader.n_samples(), count, label)?)
    }

    fn places(&self, n: u64, count: usize, label: &[u8]) -> Result<Vec<u64>, WorkError> {
        let mut hasher = [self.seed.0.as_slice(), label].concat();
        hasher.push(0);
        let digest = Digest::of(&hasher).0;
        let seed = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Pcg64::new(seed).choice(n, n.min(count as u64)).map_err(|error| WorkError::Data(error.to_string()))
    }

    fn read(&self, rows: &[u64]) -> Result<Vec<u32>, WorkError> {
        let (read, _) = self.timeline.time(WORKER, WAIT, || self.reader.samples(rows));
        read.map_err(|error| WorkError::Data(error.to_string()))
    }
}

/// Measures each of `peers` (whose subjects are in the same order) at the workspace's θ. θ is as before afterwards.
///
/// # Errors
/// The data or the engine failed; never a peer's fault, because its object has been checked.
pub fn evaluate(
    work: &mut Workspace,
    evaluation: &Evaluation,
    reader: &Arc<ShardReader>,
    seed: Digest,
    subjects: &[Subject],
    peers: &[Opened],
    clip_norms: &[f32],
) -> Result<Vec<Measurement>, WorkError> {
    let draw = Draw { reader, seed, timeline: work.timeline().clone() };
    let random = draw.of_shard(evaluation.random_sequences, b"random")?;
    let random_before = work.losses(&random)?;
    let mut measurements = Vec::with_capacity(peers.len());
    for (subject, peer) in subjects.iter().zip(peers) {
        let label = [b"own".as_slice(), &subject.uid.0.to_le_bytes()].concat();
        let own = draw.of_pool(subject.assignment.trained(), evaluation.own_sequences, &label)?;
        let own_before = work.losses(&own)?;
        let update = work.trial_update(peer, clip_norms);
        let mut after = work.losses_with(&update, &[&random, &own])?;
        let own_after = after.pop().unwrap_or_default();
        measurements.push(Measurement {
            uid: subject.uid,
            hotkey: peer.header().hotkey,
            random: Losses { before: random_before.clone(), after: after.pop().unwrap_or_default() },
            own: Losses { before: own_before, after: own_after },
        });
    }
    Ok(measurements)
}
