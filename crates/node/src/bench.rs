//! Whole windows without a network: miners that train on their assignments, and a validator that evaluates and scores them.
//!
//! It times what a validator has to do inside a window, and it measures what the scoring rules rest on: how alike the objects of
//! independent miners are, how strong the mark of own data is, and how many sequences an evaluation needs.

use crate::recipe;
use crate::validator::evaluate::{Source, Subject, evaluate};
use crate::workspace::{WorkError, Workspace};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use templar_codec::container::VERSION;
use templar_codec::{Expect, Header, Opened, Sketch};
use templar_gauntlet::{Fate, Gallery, Member, NativeRules, Observation, Scorer, Sent, Survey};
use templar_model::{LlamaTrainer, Moments, TrainerOptions, initialise};
use templar_protocol::hparams::Hparams;
use templar_protocol::sampler::{Assignment, SamplerError, sample_digest};
use templar_protocol::{Digest, GlobalStep, Theta, Uid, Window};
use templar_tensor::Executor;
use templar_wallet::{Keypair, Signer};

/// What to run.
#[derive(Clone, Debug)]
pub struct ScoreConfig {
    /// The run's hyper-parameters.
    pub hparams: Hparams,
    /// Miners.
    pub miners: u16,
    /// Of these, the last ones take a share of their inner steps only.
    pub lazy: u16,
    /// That share, in (0, 1].
    pub lazy_share: f64,
    /// Windows.
    pub windows: u64,
    /// Tokens to learn from, in rows of the run's sequence length.
    pub tokens: Vec<u32>,
    /// Seed of the initial θ.
    pub seed: u64,
}

/// Numbers with their middle and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Range {
    /// Least.
    pub min: f64,
    /// Median.
    pub median: f64,
    /// Greatest.
    pub max: f64,
}

impl Range {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScoreReport {
    /// Parameters of the model.
    pub params: u64,
    /// Worker threads.
    pub threads: usize,
    /// Miners evaluated in a window.
    pub miners: usize,
    /// Random and own sequences of an evaluation, and tokens of each.
    pub sequences: [usize; 3],
    /// Evaluations per minute, from opening the objects to the verdict.
    pub evaluations_per_minute: f64,
    /// Median time of a window's parts, ms: opening, sketching and comparing, evaluating, scoring.
    pub window_ms: [f64; 4],
    /// Plain cosines of pairs of independent objects of a window.
    pub plain: Range,
    /// The same without what is common to the window.
    pub within: Range,
    /// The same of objects with those of earlier windows, of other miners.
    pub across: Range,
    /// The same of objects with the same miner's of earlier windows.
    pub own_across: Range,
    /// Plain cosine of objects with the sum of all others.
    pub agreement: Range,
    /// Advantage of own data of miners that train on all of it, by evaluation.
    pub advantage: Range,
    /// Its mean.
    pub advantage_mean: f64,
    /// Mean advantage of the lazy ones.
    pub lazy_advantage_mean: f64,
    /// Mean gradient score of the lazy ones in units of the others'.
    pub lazy_gain: f64,
    /// Deviation of one sequence's gain in units of the mean gain: the noise of an evaluation is this over the root of its sequences.
    pub sequence_noise: Range,
    /// Deviation of a miner's gradient score from window to window, in units of the common level.
    pub window_noise: f64,
    /// Final weight of each miner.
    pub weights: Vec<f64>,
    /// Mean loss of the random sequences before each window, nats per token.
    pub losses: Vec<f64>,
}

/// Why the benchmark cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ScoreBenchError {
    /// The model or the engine.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The text is too short for the assignments.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// An object of ours was refused, or a window cannot be scored.
    #[error("{0}")]
    Defect(String),
}

impl From<templar_model::ModelError> for ScoreBenchError {
    fn from(error: templar_model::ModelError) -> Self {
        Self::Work(error.into())
    }
}

/// A miner's private state between its turns.
#[derive(Clone, Default)]
struct Private {
    residual: Theta,
    moments: Moments,
}

struct Bench<'a> {
    config: &'a ScoreConfig,
    work: Workspace,
    seq_len: usize,
    scorer: Scorer,
    gallery: Gallery,
    privates: Vec<Private>,
    keys: Vec<Keypair>,
    timings: Vec<[Duration; 4]>,
    seen: Seen,
}

/// What is collected for the report.
#[derive(Default)]
struct Seen {
    plain: Vec<f64>,
    within: Vec<f64>,
    across: Vec<f64>,
    own_across: Vec<f64>,
    agreement: Vec<f64>,
    advantage: Vec<f64>,
    lazy_advantage: Vec<f64>,
    /// Of each window: level, and each miner's score.
    scores: Vec<(f64, Vec<f64>)>,
    sequence_noise: Vec<f64>,
    losses: Vec<f64>,
}

/// Runs the windows on the current rayon pool and reports.
///
/// # Errors
/// The model cannot be built, or the text is too short.
pub fn run(config: &ScoreConfig, executor: Arc<dyn Executor>) -> Result<ScoreReport, ScoreBenchError> {
    let mut bench = Bench::new(config, executor)?;
    for window in 1..=config.windows {
        bench.window(Window(window))?;
    }
    Ok(bench.report())
}

/// The objects as accepted members.
fn members(peers: &[Opened]) -> Vec<Member> {
    let member = |peer: &Opened| {
        let (uid, hotkey) = (peer.header().uid, peer.header().hotkey);
        Member { uid, hotkey, fate: Fate::Accepted { object: Digest::of(peer.bytes()) } }
    };
    peers.iter().map(member).collect()
}

impl<'a> Bench<'a> {
    fn new(config: &'a ScoreConfig, executor: Arc<dyn Executor>) -> Result<Self, ScoreBenchError> {
        let model = recipe::llama(&config.hparams, None)?;
        let theta = initialise(&model, config.seed)?;
        let trainer = LlamaTrainer::with_options(model, recipe::optimizer(&config.hparams), executor, TrainerOptions::default())?;
        let mut work = Workspace::new(config.hparams.clone(), Box::new(trainer))?;
        work.set_theta(theta)?;
        let mut rules = NativeRules { uids_per_window: usize::from(config.miners), ..NativeRules::for_run(&config.hparams.evaluation) };
        // Every pair is to be seen, not only the ones that are alike.
        rules.likeness.report_floor = -1.0;
        Ok(Self {
            config,
            work,
            seq_len: config.hparams.sequence_length,
            scorer: Scorer::new(rules),
            gallery: Gallery::new(),
            privates: vec![Private::default(); usize::from(config.miners)],
            keys: (0..config.miners).map(|uid| Keypair::from_seed(Digest::of(&uid.to_le_bytes()).0)).collect(),
            timings: Vec::new(),
            seen: Seen::default(),
        })
    }
}

impl Bench<'_> {
    fn rows(&self) -> u64 {
        (self.config.tokens.len() / self.seq_len) as u64
    }

    fn read(&self, rows: &[u64]) -> Vec<u32> {
        let at = |row: &u64| &self.config.tokens[*row as usize * self.seq_len..][..self.seq_len];
        rows.iter().flat_map(at).copied().collect()
    }

    fn is_lazy(&self, uid: u16) -> bool {
        uid + self.config.lazy >= self.config.miners
    }

    fn assignment(&self, uid: Uid, window: Window) -> Result<Assignment, SamplerError> {
        let hparams = &self.config.hparams;
        let [steps, target, batch] =
            [hparams.inner_steps, hparams.target_batch_size, hparams.batch_size].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Assignment::new(uid, window, self.rows(), steps, target, batch)
    }

    /// One miner's window: its sealed object.
    fn mine(&mut self, uid: u16, window: Window) -> Result<Vec<u8>, ScoreBenchError> {
        let assignment = self.assignment(Uid(uid), window)?;
        let all = assignment.inner_steps();
        let done = if self.is_lazy(uid) { ((all as f64 * self.config.lazy_share) as usize).clamp(1, all) } else { all };
        let steps: Vec<Vec<u32>> = (0..done).map(|step| self.read(assignment.step(step))).collect();
        let private = std::mem::take(&mut self.privates[usize::from(uid)]);
        self.work.forget()?;
        if !private.residual.is_empty() {
            self.work.restore(private.residual, private.moments)?;
        }
        let global_step = GlobalStep(window.0 - 1);
        self.work.train(global_step, |step| Ok(steps.get(step as usize).cloned()), || false)?;
        let header = Header {
            version: VERSION,
            run_id: Digest::of(b"bench"),
            uid: Uid(uid),
            hotkey: self.keys[usize::from(uid)].account_id(),
            window,
            global_step,
            theta: self.work.digest().root,
            sample_digest: sample_digest(assignment.pool()),
            sample_count: assignment.pool().len() as u64,
            payload_digest: Digest::default(),
            payload_bytes: 0,
        };
        let object = self.work.compress(header, false, &self.keys[usize::from(uid)])?.object;
        let (residual, moments) = self.work.private()?;
        self.privates[usize::from(uid)] = Private { residual, moments };
        Ok(object)
    }

    fn open(&self, objects: &[Vec<u8>], window: Window) -> Result<Vec<Opened>, ScoreBenchError> {
        let open = |(uid, bytes): (usize, &Vec<u8>)| {
            let hotkey = self.keys[uid].account_id();
            let expect = Expect { run_id: Digest::of(b"bench"), uid: Uid(uid as u16), hotkey, window };
            self.work.open(bytes, &expect).map_err(|refusal| ScoreBenchError::Defect(refusal.to_string()))
        };
        objects.iter().enumerate().map(open).collect()
    }

    fn window(&mut self, window: Window) -> Result<(), ScoreBenchError> {
        let objects = (0..self.config.miners).map(|uid| self.mine(uid, window)).collect::<Result<Vec<_>, _>>()?;
        let begun = Instant::now();
        let peers = self.open(&objects, window)?;
        let opened = begun.elapsed();
        let sent: Vec<Sent> = peers
            .iter()
            .map(|peer| Sent {
                uid: peer.header().uid,
                hotkey: peer.header().hotkey,
                sketch: Sketch::of(self.work.layout(), peer, &Digest::of(b"bench")),
            })
            .collect();
        let survey = self.gallery.survey(&self.scorer.rules().likeness, window, &sent);
        let compared = begun.elapsed();
        let seed = Digest::of(&window.0.to_le_bytes());
        let observation = self.observe(window, &peers, &seed, survey)?;
        let evaluated = begun.elapsed();
        self.note(&observation);
        let rules = self.scorer.rules().likeness.clone();
        let scoring = Instant::now();
        self.scorer.observe(&observation).map_err(|error| ScoreBenchError::Defect(error.to_string()))?;
        let _ = self.scorer.weights();
        self.timings.push([opened, compared - opened, evaluated - compared, scoring.elapsed()]);
        self.gallery.keep(&rules, window, sent);
        self.work.aggregate(&peers);
        Ok(())
    }

    fn observe(&mut self, window: Window, peers: &[Opened], seed: &Digest, survey: Survey) -> Result<Observation, ScoreBenchError> {
        let clip_norms = self.work.clip_norms(peers);
        let members = members(peers);
        let chosen = self.scorer.choose(seed, &members, &survey);
        let mut subjects = Vec::new();
        for chosen in chosen {
            let object = &peers[usize::from(chosen.uid.0)];
            subjects.push(Subject { object, assignment: self.assignment(chosen.uid, window)? });
        }
        let (tokens, seq_len) = (self.config.tokens.clone(), self.seq_len);
        let read = |rows: &[u64]| Ok(rows.iter().flat_map(|row| &tokens[*row as usize * seq_len..][..seq_len]).copied().collect());
        let source = Source { n_samples: self.rows(), read: &read };
        let evaluation = self.config.hparams.evaluation.clone();
        let evaluated = evaluate(&mut self.work, &evaluation, &source, seed, &subjects, &clip_norms, || false)?;
        Ok(Observation { window, members, measurements: evaluated.measurements, survey, ..Observation::default() })
    }

    /// Collects what the report tells.
    fn note(&mut self, observation: &Observation) {
        for pair in &observation.survey.alike {
            if pair.other_window == observation.window {
                self.seen.plain.push(pair.plain);
                self.seen.within.push(pair.cosine);
            } else if pair.uid == pair.other {
                self.seen.own_across.push(pair.cosine);
            } else {
                self.seen.across.push(pair.cosine);
            }
        }
        self.seen.agreement.extend(observation.survey.agreements.iter().map(|agreement| agreement.cosine));
        let mut scores = vec![0.0; usize::from(self.config.miners)];
        for measurement in &observation.measurements {
            let Ok(score) = measurement.random.gradient_score() else { continue };
            scores[usize::from(measurement.uid.0)] = score.value;
            let lazy = self.is_lazy(measurement.uid.0);
            if let Some(advantage) = templar_gauntlet::native::work::Advantage::of(&measurement.own, &measurement.random) {
                if lazy { self.seen.lazy_advantage.push(advantage.value) } else { self.seen.advantage.push(advantage.value) }
            }
            if !lazy && score.value > 0.0 {
                self.seen.sequence_noise.push(score.standard_error * (score.sequences as f64).sqrt() / score.value);
            }
        }
        let honest = scores.len() - usize::from(self.config.lazy);
        let level = scores[..honest].iter().sum::<f64>() / honest.max(1) as f64;
        self.seen.scores.push((level, scores));
        let before = observation.measurements.first().map(|measurement| &measurement.random.before);
        self.seen.losses.extend(before.map(|losses| losses.iter().sum::<f64>() / losses.len().max(1) as f64));
    }

    fn report(self) -> ScoreReport {
        let Self { config, work, timings, seen, scorer, .. } = self;
        let honest = usize::from(config.miners - config.lazy);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let median = |part: usize| Range::of(timings.iter().map(|window| 1e3 * window[part].as_secs_f64()).collect()).median;
        let window_ms = [0, 1, 2, 3].map(median);
        let relative = |scores: &[f64], level: f64| scores.iter().map(|score| score / level).collect::<Vec<f64>>();
        let usable = || seen.scores.iter().filter(|(level, _)| *level > 0.0);
        let deviations: Vec<f64> =
            usable().flat_map(|(level, scores)| relative(&scores[..honest], *level)).map(|ratio| (ratio - 1.0).powi(2)).collect();
        let lazy: Vec<f64> = usable().flat_map(|(level, scores)| relative(&scores[honest..], *level)).collect();
        let evaluation = &config.hparams.evaluation;
        ScoreReport {
            params: work.layout().elements() as u64,
            threads: rayon::current_num_threads(),
            miners: usize::from(config.miners),
            sequences: [evaluation.random_sequences, evaluation.own_sequences, config.hparams.sequence_length],
            evaluations_per_minute: 60e3 * f64::from(config.miners) / window_ms.iter().sum::<f64>().max(1e-9),
            window_ms,
            plain: Range::of(seen.plain),
            within: Range::of(seen.within),
            across: Range::of(seen.across),
            own_across: Range::of(seen.own_across),
            agreement: Range::of(seen.agreement),
            advantage_mean: mean(&seen.advantage),
            advantage: Range::of(seen.advantage),
            lazy_advantage_mean: mean(&seen.lazy_advantage),
            lazy_gain: mean(&lazy),
            sequence_noise: Range::of(seen.sequence_noise),
            window_noise: mean(&deviations).sqrt(),
            weights: scorer.weights().peers.iter().map(|peer| peer.weight).collect(),
            losses: seen.losses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validator::judge::{Case, Judge, assess};
    use std::collections::BTreeMap;
    use templar_tensor::Cpu;

    fn config(miners: u16, windows: u64) -> ScoreConfig {
        let mut hparams = Hparams::preset("local").unwrap();
        (hparams.model.dim, hparams.model.layers, hparams.model.heads, hparams.model.kv_heads, hparams.model.ffn) = (32, 1, 2, 1, 64);
        (hparams.sequence_length, hparams.batch_size, hparams.target_batch_size, hparams.micro_batch_size) = (32, 4, 4, 4);
        hparams.inner_steps = 3;
        let tokens = (0..400 * 32u32).map(|i| (i * i / 7 + i % 13) % 64 + 32).collect();
        ScoreConfig { hparams, miners, lazy: 0, lazy_share: 0.5, windows, tokens, seed: 1 }
    }

    #[test]
    fn windows_run_and_are_scored() {
        let report = run(&config(3, 3), Arc::new(Cpu::new())).unwrap();
        assert!(report.losses.len() == 3 && report.losses[2] < report.losses[0], "{report:?}");
        assert!((report.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9 && report.evaluations_per_minute > 0.0, "{report:?}");
        assert!(report.within.max < 0.5 && report.plain.max < 0.98, "independent work is taken for copies: {report:?}");
    }

    #[test]
    fn who_was_not_reached_keeps_its_turn_and_nothing_is_left_of_a_trial() {
        let config = config(4, 1);
        let mut bench = Bench::new(&config, Arc::new(Cpu::new())).unwrap();
        let objects: Vec<Vec<u8>> = (0..4).map(|uid| bench.mine(uid, Window(1)).unwrap()).collect();
        let peers = bench.open(&objects, Window(1)).unwrap();
        let case = Case { window: Window(1), members: members(&peers), ..Case::default() };
        let assignments: BTreeMap<Uid, Assignment> = (0..4).map(|uid| (Uid(uid), bench.assignment(Uid(uid), Window(1)).unwrap())).collect();
        let tokens = config.tokens.clone();
        let read = |rows: &[u64]| Ok(rows.iter().flat_map(|row| &tokens[*row as usize * 32..][..32]).copied().collect());
        let source = Source { n_samples: bench.rows(), read: &read };
        let mut judge = Judge::new(bench.scorer.clone());
        let before = bench.work.losses(&tokens[..32 * 20]).unwrap();
        let mut asked = 0;
        let over = || {
            asked += 1;
            asked == 2
        };
        let assessed = assess(&mut bench.work, &judge, &case, &source, &peers, &assignments, over).unwrap();
        assert_eq!(bench.work.losses(&tokens[..32 * 20]).unwrap(), before, "θ is as it was, bit for bit");
        assert_eq!(assessed.measurements.len(), 2, "time was over after the second");
        let sheet = judge.conclude(case, assessed).unwrap();
        let order: Vec<Uid> = sheet.chosen.iter().map(|chosen| chosen.uid).collect();
        assert_eq!((sheet.left_out.as_slice(), sheet.samples.len()), (&order[2..], 5));
        let evaluated = |uid: &Uid| judge.scorer.peers().find(|(_, state)| state.uid == *uid).unwrap().1.last_evaluated;
        assert_eq!(order.iter().map(evaluated).collect::<Vec<_>>(), [Some(Window(1)), Some(Window(1)), None, None]);
    }
}
