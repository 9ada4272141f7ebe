//! How fast a small model learns text: loss curve, milliseconds a step, and the unigram entropy to compare with.
//!
//! `cargo run --release -p templar-model --example learn_bytes -- FOLDER [key=value …]` reads the Rust sources below
//! FOLDER as bytes. Keys and defaults: dim=128 layers=2 heads=4 kv=4 ffn=384 seq=128 tied=0 rows=8 lr=0.002 steps=200
//! warmup=20 every=25 threads=1 wd=0.1 beta2=0.95 bytes=4000000.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use support::{AnyResult, Settings, collect, held_out_loss, sample, unigram_entropy};
use templar_model::{Batch, InnerHyper, LlamaTrainer, Optimizer, Trainer, initialise};
use templar_tensor::Cpu;

fn run(folder: &str, settings: &Settings) -> AnyResult<()> {
    let config = settings.model()?;
    let (rows, steps, every) = (settings.get("rows", 8)?, settings.get("steps", 200)?, settings.get("every", 25)?);
    let (lr, warmup) = (settings.get("lr", 0.002)?, settings.get("warmup", 20_usize)?);
    let (betas, weight_decay) = ((0.9, settings.get("beta2", 0.95)?), settings.get("wd", 0.1)?);
    let mut text = Vec::new();
    collect(Path::new(folder), settings.get("bytes", 4_000_000)?, &mut text)?;
    let (train, held_out) = text.split_at(text.len() * 9 / 10);
    let held_out_batches: Vec<Batch> = (0..16).map(|round| sample(held_out, 8, config.seq_len, round)).collect::<AnyResult<_>>()?;
    let mut trainer = LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new()))?;
    trainer.load(&initialise(&config, 42)?)?;
    let entropy = unigram_entropy(held_out);
    println!("{} parameters, {} bytes, unigram entropy {entropy:.3} nats", config.param_count(), text.len());
    let mut training_ms = 0.0;
    for step in 0..steps {
        let factor = ((step + 1) as f64 / warmup.max(1) as f64).min(1.0);
        let hyper = InnerHyper { lr: lr * factor, betas, weight_decay, ..InnerHyper::default() };
        let batch = sample(train, rows, config.seq_len, step)?;
        let begun = Instant::now();
        let stats = trainer.inner_step(std::slice::from_ref(&batch), &hyper)?;
        // The first step compiles.
        training_ms += if step == 0 { 0.0 } else { begun.elapsed().as_secs_f64() * 1e3 };
        if (step + 1) % every == 0 || step == 0 {
            let held = held_out_loss(&mut trainer, &held_out_batches)?;
            let (below, ms) = (entropy - held, training_ms / step.max(1) as f64);
            let (loss, norm) = (stats.loss, stats.grad_norm);
            println!(
                "step {:4}  loss {loss:.3}  held out {held:.3} (below unigram {below:+.3})  norm {norm:.2}  {ms:.1} ms/step",
                step + 1
            );
        }
    }
    Ok(())
}

fn main() -> AnyResult<()> {
    let (folder, settings) = Settings::from_arguments("usage: learn_bytes FOLDER [key=value …]")?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(settings.get("threads", 1)?).build()?;
    pool.install(|| run(&folder, &settings).map_err(|error| error.to_string())).map_err(Into::into)
}
