//! The heavy state of all nodes at once: one workspace, θ by digest, and the memory of what was computed before.
//!
//! Whatever is a pure function of bytes is computed once: opening an object (by its digest), an outer step (by θ and the objects), an evaluation
//! (by θ, objects and seed), the held-out loss (by θ and window). Nodes that agree therefore share one θ, and one that has another has it
//! under its own digest.

use crate::draw::Draw;
use crate::learn::convex::{Convex, Epoch};
use crate::learn::real;
use crate::scenario::{Learning, Scenario};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use templar_codec::{Expect, Layout, Opened, Refusal, Sketch, max_object_bytes};
use templar_data::ShardReader;
use templar_gauntlet::{Measurement, Survey};
use templar_model::{Moments, Trainer};
use templar_node::conduct::{Conduct, Task};
use templar_node::position::Position;
use templar_node::validator::evaluate::{Source, Subject, evaluate, read_shard};
use templar_node::workspace::{TrainReport, WorkError, Workspace};
use templar_protocol::hparams::Hparams;
use templar_protocol::sampler::{Assignment, sample_digest};
use templar_protocol::{Digest, ParamSpec, Theta, ThetaDigest, Uid, Window};
use templar_wallet::Signer;

/// Memory for θ's of the past, bytes: whoever is further behind has to load a checkpoint.
const THETAS_BYTES_MAX: usize = 256 << 20;
/// Windows for which results are remembered.
const MEMORY_WINDOWS: u64 = 12;

/// Why a simulation cannot go on: never a node's doing.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The learner.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The learner.
    #[error(transparent)]
    Model(#[from] templar_model::ModelError),
    /// The generated data.
    #[error("the generated data cannot be written or read: {0}")]
    Data(#[from] templar_data::ShardError),
    /// The temporary directory.
    #[error("a temporary directory for the generated data cannot be made: {0}")]
    Dir(#[from] std::io::Error),
    /// The layout.
    #[error("the codec cannot carry the model: {0}")]
    Layout(#[from] templar_codec::LayoutError),
}

/// A miner's private learning state.
#[derive(Clone, Default)]
pub struct Private {
    /// The error-feedback residual; empty: zero.
    pub residual: Theta,
    /// State of the inner optimiser.
    pub moments: Moments,
}

/// What a miner's training made.
pub struct Trained {
    /// How it went.
    pub report: TrainReport,
    /// The sealed object.
    pub object: Vec<u8>,
    /// The private state after it.
    pub private: Private,
}

/// What a training is to do.
pub struct Training<'a> {
    /// Where the miner stands.
    pub at: Position,
    /// Its uid.
    pub uid: Uid,
    /// The run.
    pub run_id: Digest,
    /// Its key.
    pub key: &'a dyn Signer,
    /// Its private state.
    pub private: Private,
    /// Most inner steps that it has time for.
    pub steps_max: u32,
}

/// A memory with the window in which each entry was made.
struct Memory<K, V>(HashMap<K, (u64, V)>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq, V: Clone> Memory<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|(_, value)| value.clone())
    }

    fn keep(&mut self, window: u64, key: K, value: V) {
        self.0.insert(key, (window, value));
    }

    fn forget(&mut self, before: u64) {
        self.0.retain(|_, (window, _)| *window >= before);
    }
}

/// An evaluation's measurements; an error is told by its sentence.
pub type Evaluated = Rc<Result<Vec<Measurement>, String>>;

/// The shared heavy state.
pub struct Lab {
    work: Workspace,
    specs: Vec<ParamSpec>,
    layout: Layout,
    hparams: Hparams,
    epoch: Epoch,
    shard: Arc<ShardReader>,
    held_out: Vec<u32>,
    thetas: BTreeMap<Digest, Rc<Theta>>,
    age: VecDeque<Digest>,
    loaded: Digest,
    opened: Memory<(Digest, Uid, u64), Result<Opened, Refusal>>,
    stepped: Memory<(Digest, Digest), Digest>,
    evaluated: Memory<(Digest, Digest, Digest), Evaluated>,
    losses: Memory<(Digest, u64), f64>,
    sketches: Memory<(Digest, u64), Rc<Sketch>>,
    surveys: Memory<Digest, Rc<Survey>>,
    assignments: Memory<(Uid, u64), Rc<Assignment>>,
    samples: Memory<(Uid, u64), ([u8; 16], u64)>,
    /// Where the generated shard is; it lives as long as its reader.
    _dir: tempfile::TempDir,
}

impl Lab {
    /// The learner of a scenario, with the θ that the run starts from.
    ///
    /// # Errors
    /// The learner cannot be made, or there is no place for its data.
    pub fn new(scenario: &Scenario, hparams: &Hparams, draw: Draw) -> Result<(Self, Digest), LabError> {
        let dir = tempfile::tempdir()?;
        let epoch = Epoch::default();
        let (trainer, theta, shard, held_out): (Box<dyn Trainer>, Theta, _, _) = match scenario.learning {
            Learning::Fast(fast) => {
                let (shard, held_out) = numbers(dir.path(), hparams)?;
                (Box::new(Convex::new(fast, draw.of("convex"), epoch.clone())), Convex::initial(), shard, held_out)
            }
            Learning::Real => {
                let (shard, held_out) = real::corpus(dir.path(), hparams, draw.of("corpus"))?;
                let (trainer, theta) = real::trainer(hparams)?;
                (Box::new(trainer), theta, shard, held_out)
            }
        };
        let specs = trainer.specs().to_vec();
        let layout = Layout::new(&specs, templar_node::recipe::codec(hparams))?;
        let mut work = Workspace::new(hparams.clone(), trainer)?;
        let root = work.set_theta(theta.clone())?;
        let lab = Self {
            work,
            specs,
            layout,
            hparams: hparams.clone(),
            epoch,
            shard: Arc::new(shard),
            held_out,
            thetas: BTreeMap::from([(root, Rc::new(theta))]),
            age: VecDeque::from([root]),
            loaded: root,
            opened: Memory::default(),
            stepped: Memory::default(),
            evaluated: Memory::default(),
            losses: Memory::default(),
            sketches: Memory::default(),
            surveys: Memory::default(),
            assignments: Memory::default(),
            samples: Memory::default(),
            _dir: dir,
        };
        Ok((lab, root))
    }

    /// The codec's view of the model.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Most bytes that an object can have.
    pub fn object_bytes_max(&self) -> u64 {
        max_object_bytes(&self.layout) as u64
    }

    /// Bytes of θ in a checkpoint.
    pub fn theta_bytes(&self) -> u64 {
        self.specs.iter().map(|spec| 4 * spec.len() as u64).sum()
    }

    /// Whether θ with this digest is still at hand.
    pub fn holds(&self, theta: &Digest) -> bool {
        self.thetas.contains_key(theta)
    }

    /// The digests of the single parameters of a θ that is at hand.
    pub fn parts(&self, theta: &Digest) -> Vec<Digest> {
        self.thetas.get(theta).map(|theta| ThetaDigest::of(&self.specs, theta).parts).unwrap_or_default()
    }

    /// Forgets what is older than a node may need; called once a window.
    pub fn forget(&mut self, window: Window, checkpoints: &[Digest]) {
        let before = window.0.saturating_sub(MEMORY_WINDOWS);
        self.opened.forget(before);
        self.stepped.forget(before);
        self.evaluated.forget(before);
        self.losses.forget(before);
        self.sketches.forget(before);
        self.surveys.forget(before);
        self.assignments.forget(before);
        self.samples.forget(before);
        let most = (THETAS_BYTES_MAX / self.theta_bytes().max(1) as usize).clamp(8, 256);
        while self.age.len() > most {
            let Some(oldest) = self.age.pop_front() else { break };
            if checkpoints.contains(&oldest) {
                self.age.push_back(oldest);
                break;
            }
            self.thetas.remove(&oldest);
        }
    }

    fn keep_theta(&mut self, digest: Digest, theta: Rc<Theta>) {
        if self.thetas.insert(digest, theta).is_none() {
            self.age.push_back(digest);
        }
    }

    fn stand_at(&mut self, theta: &Digest, window: Window) -> Result<(), String> {
        self.epoch.store(window.0, Ordering::Relaxed);
        if self.loaded == *theta {
            return Ok(());
        }
        let known = self.thetas.get(theta).ok_or_else(|| format!("θ {} is no longer at hand", theta.short()))?;
        self.work.set_theta(known.as_ref().clone()).map_err(|error| error.to_string())?;
        self.loaded = *theta;
        Ok(())
    }

    /// The assignment of `uid` in `window`.
    pub fn assignment(&mut self, uid: Uid, window: Window) -> Rc<Assignment> {
        if let Some(known) = self.assignments.get(&(uid, window.0)) {
            return known;
        }
        let hparams = &self.hparams;
        let [steps, target, batch] =
            [hparams.inner_steps, hparams.target_batch_size, hparams.batch_size].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let assignment = Assignment::new(uid, window, self.shard.n_samples(), steps, target, batch);
        let assignment = Rc::new(assignment.expect("the generated shard has more samples than a window assigns"));
        self.assignments.keep(window.0, (uid, window.0), assignment.clone());
        assignment
    }

    /// Digest and number of the samples assigned to `uid` in `window`.
    pub fn assigned(&mut self, uid: Uid, window: Window) -> ([u8; 16], u64) {
        if let Some(known) = self.samples.get(&(uid, window.0)) {
            return known;
        }
        let assignment = self.assignment(uid, window);
        let ids = self.shard.ids(assignment.pool()).expect("the generated shard stays readable while its directory lives");
        let assigned = (sample_digest(&ids), ids.len() as u64);
        self.samples.keep(window.0, (uid, window.0), assigned);
        assigned
    }

    /// Trains, compresses and seals as [`templar_node`]'s miner does, with its conduct.
    ///
    /// # Errors
    /// θ is not at hand, or training diverged.
    pub fn train(&mut self, training: Training<'_>, conduct: &mut dyn Conduct) -> Result<Trained, WorkError> {
        let Training { at, uid, run_id, key, private, steps_max } = training;
        self.stand_at(&at.theta, at.window).map_err(WorkError::Shape)?;
        let (assignment, (digest, count)) = (self.assignment(uid, at.window), self.assigned(uid, at.window));
        let task = Task { at: &at, uid, assignment: &assignment, n_samples: self.shard.n_samples() };
        let chosen = conduct.rows(&task);
        let start = conduct.start(&at, self.work.theta());
        self.work.restore(self.residual_of(private.residual), private.moments)?;
        let shard = self.shard.clone();
        let rows = |step: u32| {
            let assigned = || assignment.step(step as usize);
            let rows = chosen.as_ref().map_or_else(assigned, |chosen| chosen.get(step as usize).map_or(&[], Vec::as_slice));
            if rows.is_empty() || step >= steps_max {
                return Ok(None);
            }
            shard.samples(rows).map(Some).map_err(|error| WorkError::Data(error.to_string()))
        };
        let report = self.work.train_here(at.global_step, start.as_deref(), rows, || false)?;
        let header = templar_codec::Header {
            run_id,
            uid,
            hotkey: key.account_id(),
            window: at.window,
            global_step: at.global_step,
            theta: at.theta,
            sample_digest: digest,
            sample_count: count,
            version: templar_codec::container::VERSION,
            payload_digest: Digest::default(),
            payload_bytes: 0,
        };
        let compressed = self.work.compress(header, false, key, conduct)?;
        let (residual, moments) = self.work.private()?;
        Ok(Trained { report, object: compressed.object, private: Private { residual, moments } })
    }

    fn residual_of(&self, residual: Theta) -> Theta {
        if residual.is_empty() { self.specs.iter().map(|spec| vec![0.0; spec.len()]).collect() } else { residual }
    }

    /// Gives what `object` sent back to the residual.
    pub fn give_back(&self, private: &mut Private, payload: &[u8]) {
        private.residual = self.residual_of(std::mem::take(&mut private.residual));
        // An attacker's object need not be one of this model; it is the attacker's own residual.
        let _ = templar_codec::give_back(&self.layout, payload, &mut private.residual);
    }

    /// Opens an object.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&mut self, bytes: &[u8], expect: &Expect) -> Result<Opened, Refusal> {
        let key = (Digest::of(bytes), expect.uid, expect.window.0);
        if let Some(known) = self.opened.get(&key) {
            return known;
        }
        let opened = templar_codec::open(bytes, &self.layout, expect);
        self.opened.keep(expect.window.0, key, opened.clone());
        opened
    }

    /// The clipping thresholds of these objects.
    pub fn clip_norms(&self, peers: &[Opened]) -> Vec<f32> {
        self.work.clip_norms(peers)
    }

    /// Takes the outer step from θ with `peers`; gives the digest of the new θ.
    ///
    /// # Errors
    /// θ is not at hand.
    pub fn aggregate(&mut self, theta: &Digest, window: Window, peers: &[Opened]) -> Result<Digest, String> {
        if peers.is_empty() {
            return Ok(*theta);
        }
        let key = (*theta, list_digest(peers));
        if let Some(known) = self.stepped.get(&key)
            && self.holds(&known)
        {
            return Ok(known);
        }
        self.stand_at(theta, window)?;
        let next = self.work.aggregate(peers);
        self.loaded = next;
        self.keep_theta(next, Rc::new(self.work.theta().to_vec()));
        self.stepped.keep(window.0, key, next);
        Ok(next)
    }

    /// Measures the `chosen` of `peers` at θ, as [`templar_node`]'s validator does; only the first of them, as many as the number says, are applied.
    pub fn evaluate(&mut self, theta: &Digest, window: Window, seed: Digest, peers: (&[Opened], usize), chosen: &[Uid]) -> Evaluated {
        let of_choice = Digest::of(&chosen.iter().flat_map(|uid| uid.0.to_le_bytes()).collect::<Vec<u8>>());
        let applied = (peers.1 as u64).to_le_bytes();
        let key = (*theta, list_digest(peers.0), Digest::of(&[&seed.0[..], &of_choice.0, &applied].concat()));
        if let Some(known) = self.evaluated.get(&key) {
            return known;
        }
        let measured = Rc::new(self.measure(theta, window, seed, peers, chosen));
        self.evaluated.keep(window.0, key, measured.clone());
        measured
    }

    fn measure(
        &mut self,
        theta: &Digest,
        window: Window,
        seed: Digest,
        (peers, applied): (&[Opened], usize),
        chosen: &[Uid],
    ) -> Result<Vec<Measurement>, String> {
        self.stand_at(theta, window)?;
        let clip_norms = self.work.clip_norms(&peers[..applied.min(peers.len())]);
        let by_uid: BTreeMap<Uid, &Opened> = peers.iter().map(|peer| (peer.header().uid, peer)).collect();
        let mut subjects = Vec::with_capacity(chosen.len());
        for uid in chosen {
            let Some(object) = by_uid.get(uid) else { continue };
            subjects.push(Subject { object, assignment: self.assignment(*uid, window).as_ref().clone() });
        }
        let (evaluation, shard) = (self.hparams.evaluation.clone(), self.shard.clone());
        let read = |rows: &[u64]| read_shard(&shard, rows);
        let source = Source { n_samples: shard.n_samples(), read: &read };
        let evaluated = evaluate(&mut self.work, &evaluation, &source, &seed, &subjects, &clip_norms, || false);
        evaluated.map(|evaluated| evaluated.measurements).map_err(|error| error.to_string())
    }

    /// What an object looks like, for the comparison with others.
    pub fn sketch(&mut self, peer: &Opened, run: &Digest) -> Rc<Sketch> {
        let key = (peer.header().payload_digest, peer.header().window.0);
        if let Some(known) = self.sketches.get(&key) {
            return known;
        }
        let sketch = Rc::new(Sketch::of(&self.layout, peer, run));
        self.sketches.keep(peer.header().window.0, key, sketch.clone());
        sketch
    }

    /// What is known of the objects of a window for `key`, computed once for all validators that look at the same ones.
    pub fn survey(&mut self, window: Window, key: Digest, make: impl FnOnce() -> Survey) -> Rc<Survey> {
        if let Some(known) = self.surveys.get(&key) {
            return known;
        }
        let survey = Rc::new(make());
        self.surveys.keep(window.0, key, survey.clone());
        survey
    }

    /// Loss on the held-out samples at θ, as the window sees it; nats.
    pub fn held_out_loss(&mut self, theta: &Digest, window: Window) -> Option<f64> {
        let key = (*theta, window.0);
        if let Some(known) = self.losses.get(&key) {
            return Some(known);
        }
        self.stand_at(theta, window).ok()?;
        let losses = self.work.losses(&self.held_out).ok().filter(|losses| !losses.is_empty())?;
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        self.losses.keep(window.0, key, mean);
        Some(mean)
    }
}

/// Names a list of objects.
pub fn list_digest(peers: &[Opened]) -> Digest {
    Digest::of(
        &peers
            .iter()
            .flat_map(|peer| peer.header().payload_digest.0.into_iter().chain(peer.header().uid.0.to_le_bytes()))
            .collect::<Vec<u8>>(),
    )
}

/// A shard whose samples are their own numbers, and the numbers of samples held out, which no shard has.
fn numbers(dir: &std::path::Path, hparams: &Hparams) -> Result<(ShardReader, Vec<u32>), LabError> {
    const SAMPLES: u32 = 1 << 16;
    let (tokens, ids) = (dir.join("tokens.npy"), dir.join("ids.npy"));
    let mut writer = templar_data::ShardWriter::create(&tokens, &ids, hparams.sequence_length)?;
    let row = |sample: u32| std::iter::once(sample).chain(std::iter::repeat_n(0, hparams.sequence_length - 1));
    writer.push(&(0..SAMPLES).flat_map(row).collect::<Vec<u32>>())?;
    writer.finish(false)?;
    let held_out = u32::try_from(hparams.evaluation.held_out_sequences).unwrap_or(0);
    Ok((ShardReader::open(&tokens, &ids, hparams.sequence_length)?, (SAMPLES..SAMPLES + held_out).flat_map(row).collect()))
}
