//! Training over batches that are read ahead: what counts as waiting, and how reading ends. No time passes in these tests: the
//! workspace's clock is moved by hand.

use super::*;
use crate::conduct::Honest;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use templar_model::{InnerHyper, Result as ModelResult};
use templar_tensor::Cpu;

/// What a trainer was told to do with its moments.
type Calls = Arc<Mutex<Vec<&'static str>>>;

/// A call by which a test makes the next offload fail.
const BREAK: &str = "break";

/// A trainer that learns nothing; a step takes `step_s` on the test's clock.
struct Idle {
    specs: Vec<ParamSpec>,
    clock: Arc<AtomicU64>,
    step_s: u64,
    calls: Calls,
}

impl Trainer for Idle {
    fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    fn load(&mut self, _: &[Vec<f32>]) -> ModelResult<()> {
        Ok(())
    }

    fn queue_step(&mut self, batches: &[Batch], _: &InnerHyper) -> ModelResult<QueuedStep> {
        self.clock.fetch_add(self.step_s, Ordering::SeqCst);
        self.calls.lock().unwrap().push("step");
        let tokens = batches.iter().map(|batch| batch.tokens().len() as u64).sum();
        Ok(QueuedStep { stats: StepStats { loss: 1.0, grad_norm: 1.0, tokens, targets: tokens }, ..QueuedStep::default() })
    }

    fn finish_step(&mut self, queued: QueuedStep) -> ModelResult<StepStats> {
        Ok(queued.stats)
    }

    fn losses(&mut self, _: &Batch) -> ModelResult<Vec<SequenceLoss>> {
        Ok(vec![])
    }

    fn apply_sparse(&mut self, _: &SparseUpdate) -> ModelResult<()> {
        Ok(())
    }

    fn undo_sparse(&mut self) -> ModelResult<()> {
        Ok(())
    }

    fn read(&mut self, index: usize, into: &mut Vec<f32>) -> ModelResult<()> {
        *into = vec![0.0; self.specs[index].len()];
        Ok(())
    }

    fn moments(&mut self) -> ModelResult<Moments> {
        Ok(Moments::default())
    }

    fn load_moments(&mut self, _: Moments) -> ModelResult<()> {
        Ok(())
    }

    fn offload_moments(&mut self) -> ModelResult<()> {
        let mut calls = self.calls.lock().unwrap();
        if calls.last() == Some(&BREAK) {
            return Err(ModelError::Order { reason: "the device is gone".into() });
        }
        calls.push("offload");
        Ok(())
    }

    fn restore_moments(&mut self) -> ModelResult<()> {
        self.clock.fetch_add(7, Ordering::SeqCst);
        self.calls.lock().unwrap().push("restore");
        Ok(())
    }
}

/// A clock in seconds; after `watch`, the next look at it is told to whoever listens.
struct TestClock {
    seconds: Arc<AtomicU64>,
    watch: Arc<AtomicBool>,
    looked: Option<mpsc::Receiver<()>>,
    timeline: Timeline,
}

impl TestClock {
    fn new() -> Self {
        let (seconds, watch) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (tell, looked) = mpsc::channel();
        let (start, clock, watched) = (Instant::now(), seconds.clone(), watch.clone());
        let timeline = Timeline::with_clock(move || {
            let now = start + Duration::from_secs(clock.load(Ordering::SeqCst));
            if watched.swap(false, Ordering::SeqCst) {
                // The test may have ended with the reader.
                let _ = tell.send(());
            }
            now
        });
        Self { seconds, watch, looked: Some(looked), timeline }
    }
}

fn hparams(inner_steps: usize) -> Hparams {
    let mut hparams = Hparams::preset("local").unwrap();
    hparams.inner_steps = inner_steps;
    hparams
}

fn workspace(inner_steps: usize, clock: &TestClock, offload: bool) -> (Workspace, Calls) {
    let specs = vec![ParamSpec { name: "w".into(), shape: vec![64, 64] }];
    let calls = Calls::default();
    let trainer = Idle { specs, clock: clock.seconds.clone(), step_s: 100, calls: calls.clone() };
    let mut work = Workspace::new(hparams(inner_steps), Box::new(trainer)).unwrap().with(offload, clock.timeline.clone());
    work.set_theta(vec![vec![0.0; 64 * 64]]).unwrap();
    (work, calls)
}

fn one_row() -> Result<Option<Vec<u32>>, WorkError> {
    Ok(Some(vec![1; hparams(1).sequence_length]))
}

#[test]
fn a_slow_reader_shows_as_waiting_and_steps_do_not() {
    let mut clock = TestClock::new();
    let (looked, seconds, watch) = (clock.looked.take().unwrap(), clock.seconds.clone(), clock.watch.clone());
    let (mut work, _) = workspace(3, &clock, false);
    // Each batch is ready 5 s after the trainer has begun to wait for it; `stop` is asked just before.
    let rows = move |_| {
        looked.recv().unwrap();
        seconds.fetch_add(5, Ordering::SeqCst);
        one_row()
    };
    let stop = move || {
        watch.store(true, Ordering::SeqCst);
        false
    };
    let report = work.train(GlobalStep(0), rows, stop).unwrap();
    assert_eq!((report.steps, report.data_wait), (3, Duration::from_secs(15)));
    assert_eq!(clock.seconds.load(Ordering::SeqCst), 315, "three steps of 100 s beside");
}

#[test]
fn batches_that_are_there_are_not_waited_for() {
    let clock = TestClock::new();
    let (mut work, _) = workspace(2, &clock, false);
    let report = work.train(GlobalStep(0), |_| one_row(), || false).unwrap();
    assert_eq!((report.steps, report.data_wait), (2, Duration::ZERO));
}

#[test]
fn what_the_reader_cannot_read_is_the_error() {
    let clock = TestClock::new();
    for failing in 0..4 {
        let (mut work, calls) = workspace(4, &clock, false);
        let rows = |step| if step == failing { Err(WorkError::Data(format!("sector {step}"))) } else { one_row() };
        match work.train(GlobalStep(0), rows, || false) {
            Err(WorkError::Data(why)) => assert_eq!(why, format!("sector {failing}")),
            other => panic!("{other:?}"),
        }
        assert_eq!(calls.lock().unwrap().len(), failing as usize, "the steps before are taken");
    }
    // A batch that does not fit is an error of the model.
    let (mut work, _) = workspace(4, &clock, false);
    let too_large = |_| Ok(Some(vec![u32::MAX; 3]));
    assert!(matches!(work.train(GlobalStep(0), too_large, || false), Err(WorkError::Model(_))));
}

#[test]
fn stop_ends_training_and_a_reader_with_more_than_fits() {
    let clock = TestClock::new();
    let (mut work, calls) = workspace(1000, &clock, false);
    let (reads, read) = mpsc::channel();
    let rows = move |step| {
        reads.send(step).unwrap();
        one_row()
    };
    let read = Mutex::new(read);
    let full = STEPS_AHEAD as u32;
    // Stopped once the reader has a batch that the queue has no place for.
    let stop = || read.lock().unwrap().iter().take_while(|&step| step < full).count() == STEPS_AHEAD;
    let report = work.train(GlobalStep(0), rows, stop).unwrap();
    assert_eq!((report.steps, calls.lock().unwrap().len()), (0, 0));
}

#[test]
fn stop_between_steps_keeps_those_that_were_taken() {
    let clock = TestClock::new();
    let (mut work, _) = workspace(1000, &clock, false);
    let asked = AtomicU64::new(0);
    let report = work.train(GlobalStep(0), |_| one_row(), || asked.fetch_add(1, Ordering::SeqCst) == 5).unwrap();
    assert_eq!(report.steps, 5);
    assert_eq!(work.train(GlobalStep(0), |_| Ok(None), || false).unwrap().steps, 0, "no rows, no steps");
}

fn header() -> Header {
    Header {
        run_id: Digest::default(),
        uid: templar_protocol::Uid(1),
        hotkey: templar_protocol::AccountId([0; 32]),
        window: templar_protocol::Window(1),
        global_step: GlobalStep(0),
        theta: Digest::default(),
        sample_digest: [0; 16],
        sample_count: 0,
        version: templar_codec::container::VERSION,
        payload_digest: Digest::default(),
        payload_bytes: 0,
    }
}

#[test]
fn moments_are_on_devices_from_the_first_step_to_the_compression() {
    let clock = TestClock::new();
    let key = templar_wallet::Keypair::from_seed([1; 32]);
    for (offload, expected) in [
        (true, vec!["offload", "restore", "step", "step", "offload", "offload", "restore", "step", "step", "offload"]),
        (false, vec!["step", "step", "step", "step"]),
    ] {
        let (mut work, calls) = workspace(2, &clock, offload);
        // After a start, a trained window, a null round, a trained window.
        work.restore(vec![vec![0.0; 64 * 64]], Moments::default()).unwrap();
        for null_round in [false, true, false] {
            let rows = |_| if null_round { Ok(None) } else { one_row() };
            let report = work.train(GlobalStep(0), rows, || false).unwrap();
            let restored = Duration::from_secs(if offload && !null_round { 7 } else { 0 });
            assert_eq!((report.restore, report.data_wait), (restored, Duration::ZERO));
            work.compress(header(), null_round, &key, &mut Honest).unwrap();
        }
        assert_eq!(*calls.lock().unwrap(), expected);
    }
}

#[test]
fn a_failed_offload_leaves_the_residual_whole() {
    let clock = TestClock::new();
    let key = templar_wallet::Keypair::from_seed([1; 32]);
    let before: Vec<f32> = (0..64 * 64).map(|i| (i % 97) as f32 - 48.0).collect();
    let after_compression = |fails: bool| {
        let (mut work, calls) = workspace(1, &clock, true);
        work.restore(vec![before.clone()], Moments::default()).unwrap();
        if fails {
            calls.lock().unwrap().push(BREAK);
        }
        assert_eq!(work.compress(header(), false, &key, &mut Honest).is_err(), fails);
        work.private().unwrap().0.remove(0)
    };
    let decay = hparams(1).momentum_decay as f32;
    let whole = |after: &[f32]| after.iter().zip(&before).all(|(after, before)| (after - decay * before).abs() < 1e-3);
    assert!(whole(&after_compression(true)));
    // What a compression that succeeds takes out is missing.
    assert!(!whole(&after_compression(false)));
}

/// Payloads, residuals and moments of four windows of a Llama, the third stopped and taken up again from the private state.
fn four_windows(offload: bool, micro_batch: Option<NonZeroUsize>) -> Vec<(Vec<u8>, Theta, Moments)> {
    let mut hparams = hparams(2);
    (hparams.sequence_length, hparams.micro_batch_size) = (16, 2);
    let config = templar_model::LlamaConfig {
        dim: 32,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        ffn: 64,
        seq_len: 16,
        ..recipe::llama(&hparams, None).unwrap()
    };
    let new = || {
        let trainer = templar_model::LlamaTrainer::new(config.clone(), recipe::optimizer(&hparams), Arc::new(Cpu::new())).unwrap();
        let work = Workspace::new(hparams.clone(), Box::new(trainer)).unwrap();
        work.with(offload, Timeline::default()).with_micro_batch(micro_batch)
    };
    let key = templar_wallet::Keypair::from_seed([1; 32]);
    let theta = templar_model::initialise(&config, 1).unwrap();
    let mut work = new();
    work.set_theta(theta.clone()).unwrap();
    let window = |index: u32| {
        if index == 2 {
            let (residual, moments) = work.private().unwrap();
            work = new();
            work.set_theta(theta.clone()).unwrap();
            work.restore(residual, moments).unwrap();
        }
        let rows = |step: u32| Ok(Some((0..4 * 16).map(|i| (i * i + 7 * step + index) % 64).collect()));
        assert_eq!(work.train(GlobalStep(3), rows, || false).unwrap().steps, 2);
        let object = work.compress(header(), false, &key, &mut Honest).unwrap().object;
        let (residual, moments) = work.private().unwrap();
        // Signatures in the header are random.
        (object[templar_codec::HEADER_BYTES..].to_vec(), residual, moments)
    };
    (0..4).map(window).collect()
}

#[test]
fn windows_with_and_without_offload_are_the_same_bits() {
    let with = four_windows(true, None);
    assert!(with[3].2.step == 8 && with[3].2.m.iter().flatten().any(|&value| value != 0.0));
    assert!(with == four_windows(false, None));
}

#[test]
fn another_micro_batch_is_the_same_step_but_for_rounding() {
    let (two, four) = (four_windows(false, None), four_windows(false, NonZeroUsize::new(4)));
    let (two, four) = (&two[0].2, &four[0].2);
    let far = two.m.iter().flatten().zip(four.m.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let large = two.m.iter().flatten().map(|value| value.abs()).fold(0.0, f32::max);
    assert!(large > 0.0 && far < 1e-3 * large, "moments of up to {large} are {far} apart");
}

#[test]
fn a_residual_that_is_no_number_is_counted_and_does_not_spoil_the_norm() {
    let clock = TestClock::new();
    let (mut work, _) = workspace(1, &clock, false);
    assert_eq!(work.residual_state(), ResidualState::default());
    let mut residual = vec![0.0; 64 * 64];
    residual[..4].copy_from_slice(&[3.0, -4.0, f32::NAN, f32::NEG_INFINITY]);
    work.restore(vec![residual], Moments::default()).unwrap();
    assert_eq!(work.residual_state(), ResidualState { norm: 5.0, largest: 4.0, not_finite: 2 });
}
