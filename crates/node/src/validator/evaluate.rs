//! Measuring what an object does to the loss: on random sequences, the same for all miners of a window, and on the miner's own.
//!
//! The sequences are drawn by the hash of a block that did not exist when the objects were committed, so nobody can prepare for them. All losses
//! before, of the random sequences and of everybody's own, are measured in one pass at θ; then each update is applied, measured in one
//! pass over its sequences, and undone bit for bit. There is no copy of θ.

use crate::timeline::{Timeline, WAIT, WORKER};
use crate::workspace::{WorkError, Workspace};
use templar_codec::Opened;
use templar_data::ShardReader;
use templar_gauntlet::{Losses, Measurement};
use templar_protocol::hparams::Evaluation;
use templar_protocol::sampler::{Assignment, Pcg64};
use templar_protocol::{AccountId, Digest, Uid};

/// Reads the tokens of some sequences, by their index, one after the other.
pub type ReadRows<'a> = dyn Fn(&[u64]) -> Result<Vec<u32>, WorkError> + 'a;

/// Sequences by their index.
pub struct Source<'a> {
    /// How many there are.
    pub n_samples: u64,
    /// The tokens of some.
    pub read: &'a ReadRows<'a>,
}

/// Reads the sequences of a shard.
///
/// # Errors
/// The shard cannot be read.
pub fn read_shard(reader: &ShardReader, rows: &[u64]) -> Result<Vec<u32>, WorkError> {
    reader.samples(rows).map_err(|error| WorkError::Data(error.to_string()))
}

/// What one miner is measured on.
pub struct Subject<'a> {
    /// Its opened object.
    pub object: &'a Opened,
    /// Its assignment in the window.
    pub assignment: Assignment,
}

impl Subject<'_> {
    fn uid(&self) -> Uid {
        self.object.header().uid
    }

    fn hotkey(&self) -> AccountId {
        self.object.header().hotkey
    }
}

/// Which sequences an evaluation has drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// The shared random ones.
    pub random: Vec<u64>,
    /// Of each subject's trained assignment, in the subjects' order.
    pub own: Vec<Vec<u64>>,
}

/// What was measured of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// By miner, in the order of evaluation.
    pub measurements: Vec<Measurement>,
    /// Which sequences were drawn.
    pub drawn: Drawn,
    /// Who was not reached because time was over; they keep their turn.
    pub left_out: Vec<Uid>,
}

/// Draws the sequences of an evaluation: a function of `seed`, the numbers and the assignments alone.
///
/// # Errors
/// More sequences than the sampler supports.
pub fn draw(evaluation: &Evaluation, n_samples: u64, seed: &Digest, subjects: &[Subject]) -> Result<Drawn, WorkError> {
    let random = places(seed, n_samples, evaluation.random_sequences, b"random")?;
    let own = subjects.iter().map(|subject| {
        let pool = subject.assignment.trained();
        let label = [b"own".as_slice(), &subject.uid().0.to_le_bytes()].concat();
        let places = places(seed, pool.len() as u64, evaluation.own_sequences, &label)?;
        Ok(places.into_iter().filter_map(|place| pool.get(usize::try_from(place).ok()?).copied()).collect())
    });
    Ok(Drawn { random, own: own.collect::<Result<_, WorkError>>()? })
}

/// `count` of `n` places (all, if there are fewer), by `label`.
fn places(seed: &Digest, n: u64, count: usize, label: &[u8]) -> Result<Vec<u64>, WorkError> {
    let mut hasher = [seed.0.as_slice(), label].concat();
    hasher.push(0);
    let digest = Digest::of(&hasher).0;
    let seed = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Pcg64::new(seed).choice(n, n.min(count as u64)).map_err(|error| WorkError::Data(error.to_string()))
}

/// Measures each of `subjects` in their order at the workspace's θ, until all are done or `is_over` says after a whole one that there is no time for
/// another. θ is as before afterwards.
///
/// # Errors
/// The data or the engine failed; never a peer's fault, because its object has been checked.
pub fn evaluate(
    work: &mut Workspace,
    evaluation: &Evaluation,
    source: &Source,
    seed: &Digest,
    subjects: &[Subject],
    clip_norms: &[f32],
    mut is_over: impl FnMut() -> bool,
) -> Result<Evaluated, WorkError> {
    let drawn = draw(evaluation, source.n_samples, seed, subjects)?;
    let timeline = work.timeline().clone();
    let tokens = |rows: &[u64], timeline: &Timeline| timeline.time(WORKER, WAIT, || (source.read)(rows)).0;
    let random = tokens(&drawn.random, &timeline)?;
    let own = drawn.own.iter().map(|rows| tokens(rows, &timeline)).collect::<Result<Vec<_>, _>>()?;
    // One pass over everything at θ.
    let all: Vec<u32> = random.iter().chain(own.iter().flatten()).copied().collect();
    let mut before = work.losses(&all)?.into_iter();
    let random_before: Vec<f64> = before.by_ref().take(drawn.random.len()).collect();
    let mut evaluated = Evaluated::default();
    for ((subject, rows), own) in subjects.iter().zip(&drawn.own).zip(&own) {
        let own_before: Vec<f64> = before.by_ref().take(rows.len()).collect();
        if !evaluated.left_out.is_empty() || (!evaluated.measurements.is_empty() && is_over()) {
            evaluated.left_out.push(subject.uid());
            continue;
        }
        let update = work.trial_update(subject.object, clip_norms);
        let both: Vec<u32> = random.iter().chain(own).copied().collect();
        let mut after = work.losses_with(&update, &[&both])?.pop().unwrap_or_default();
        let own_after = after.split_off(drawn.random.len().min(after.len()));
        evaluated.measurements.push(Measurement {
            uid: subject.uid(),
            hotkey: subject.hotkey(),
            random: Losses { before: random_before.clone(), after },
            own: Losses { before: own_before, after: own_after },
        });
    }
    Ok(Evaluated { drawn, ..evaluated })
}
