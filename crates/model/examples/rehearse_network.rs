//! A network's learning without its network: miners train from one θ, the codec carries their updates, θ takes the outer
//! step. For choosing a preset's inner and outer rates, top-k and inner steps.
//!
//! `cargo run --release -p templar-model --example rehearse_network -- FOLDER [key=value …]`. Keys and defaults, besides those
//! of the model (see `learn_bytes`): miners=3 windows=12 inner=30 rows=8 lr=0.002 warmup=20 beta2=0.95 wd=0.1 outer=0.7 topk=64
//! chunk=64 decay=0.95 bins=4 range=6 threads=2 bytes=8000000.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use support::{AnyResult, Settings, collect, held_out_loss, sample, unigram_entropy};
use templar_codec::{CodecConfig, Expect, Header, Layout, Opened, aggregate, compress, open, seal};
use templar_model::{Batch, InnerHyper, LlamaConfig, LlamaTrainer, Optimizer, Trainer, initialise};
use templar_protocol::{Digest, GlobalStep, Uid, Window};
use templar_tensor::Cpu;
use templar_wallet::{Keypair, Signer};

/// One miner's private state.
struct Miner {
    trainer: LlamaTrainer,
    residual: Vec<Vec<f32>>,
    key: Keypair,
    steps: usize,
}

struct Rehearsal {
    layout: Layout,
    inner: usize,
    rows: usize,
    lr: f64,
    warmup: usize,
    hyper: InnerHyper,
    decay: f32,
    seq: usize,
}

impl Miner {
    fn new(config: &LlamaConfig, uid: u8) -> AnyResult<Self> {
        Ok(Self {
            trainer: LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new()))?,
            residual: config.params().iter().map(|spec| vec![0.0; spec.len()]).collect(),
            key: Keypair::from_seed([uid; 32]),
            steps: 0,
        })
    }

    /// Trains through one window on text of its own and gives the opened object and the first step's loss.
    fn window(&mut self, plan: &Rehearsal, theta: &[Vec<f32>], text: &[u8], uid: usize, window: u64) -> AnyResult<(Opened, f64)> {
        self.trainer.load(theta)?;
        let mut entry_loss = f64::NAN;
        for inner in 0..plan.inner {
            let factor = ((self.steps + 1) as f64 / plan.warmup.max(1) as f64).min(1.0);
            let batch = sample(text, plan.rows, plan.seq, 1_000_003 * uid + self.steps)?;
            let stats = self.trainer.inner_step(std::slice::from_ref(&batch), &InnerHyper { lr: plan.lr * factor, ..plan.hyper })?;
            entry_loss = if inner == 0 { stats.loss } else { entry_loss };
            self.steps += 1;
        }
        let mut end = vec![Vec::new(); theta.len()];
        for (index, into) in end.iter_mut().enumerate() {
            self.trainer.read(index, into)?;
        }
        let compressed = compress(&plan.layout, theta, &end, &mut self.residual, plan.decay, false);
        let expect = Expect {
            run_id: Digest::of(b"rehearsal"),
            uid: Uid(u16::try_from(uid)?),
            hotkey: self.key.account_id(),
            window: Window(window),
        };
        let header = Header {
            version: 0,
            run_id: expect.run_id,
            uid: expect.uid,
            hotkey: expect.hotkey,
            window: expect.window,
            global_step: GlobalStep(window),
            theta: Digest::of(b""),
            sample_digest: [0; 16],
            sample_count: 0,
            payload_digest: Digest::of(b""),
            payload_bytes: 0,
        };
        Ok((open(seal(&header, &compressed.payload, &self.key), &plan.layout, &expect)?, entry_loss))
    }
}

fn run(folder: &str, settings: &Settings) -> AnyResult<()> {
    let config = settings.model()?;
    let codec = CodecConfig {
        target_chunk: settings.get("chunk", 64)?,
        topk: settings.get("topk", 64)?,
        use_dct: false,
        bins: settings.get("bins", 4)?,
        range: settings.get("range", 6.0)?,
    };
    let plan = Rehearsal {
        layout: Layout::new(&config.params(), codec)?,
        inner: settings.get("inner", 30)?,
        rows: settings.get("rows", 8)?,
        lr: settings.get("lr", 0.002)?,
        warmup: settings.get("warmup", 20)?,
        hyper: InnerHyper { betas: (0.9, settings.get("beta2", 0.95)?), weight_decay: settings.get("wd", 0.1)?, ..InnerHyper::default() },
        decay: settings.get("decay", 0.95)?,
        seq: config.seq_len,
    };
    let outer: f32 = settings.get("outer", 0.7)?;
    let mut text = Vec::new();
    collect(Path::new(folder), settings.get("bytes", 8_000_000)?, &mut text)?;
    let (train, held_out) = text.split_at(text.len() * 9 / 10);
    let held_out_batches: Vec<Batch> = (0..16).map(|round| sample(held_out, 8, plan.seq, round)).collect::<AnyResult<_>>()?;
    let entropy = unigram_entropy(held_out);
    println!("{} parameters, unigram entropy {entropy:.3} nats", config.param_count());
    let mut theta = initialise(&config, 42)?;
    let mut judge = LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new()))?;
    let mut miners: Vec<Miner> = (0..settings.get("miners", 3)?).map(|uid| Miner::new(&config, uid)).collect::<AnyResult<_>>()?;
    for window in 0..settings.get("windows", 12)? {
        let begun = Instant::now();
        let mut opened = Vec::with_capacity(miners.len());
        let mut entry = 0.0;
        for (uid, miner) in miners.iter_mut().enumerate() {
            let (object, loss) = miner.window(&plan, &theta, train, uid, window)?;
            entry += loss;
            opened.push(object);
        }
        aggregate(&plan.layout, &opened, &mut theta, outer);
        let seconds = begun.elapsed().as_secs_f64();
        judge.load(&theta)?;
        let held = held_out_loss(&mut judge, &held_out_batches)?;
        let (below, entry, bytes) = (entropy - held, entry / miners.len() as f64, opened[0].bytes().len());
        println!("window {window:2}  entry {entry:.3}  held out {held:.3} (below unigram {below:+.3})  {bytes} bytes  {seconds:.1} s");
    }
    Ok(())
}

fn main() -> AnyResult<()> {
    let (folder, settings) = Settings::from_arguments("usage: rehearse_network FOLDER [key=value …]")?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(settings.get("threads", 2)?).build()?;
    pool.install(|| run(&folder, &settings).map_err(|error| error.to_string())).map_err(Into::into)
}
