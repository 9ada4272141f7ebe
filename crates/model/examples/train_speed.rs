//! How fast a named model trains on a PJRT plugin:
//! `train_speed PLUGIN MODEL ROWS STEPS [train|eval] [none|selective|full] [DEVICES] [XLA_OPTION=VALUE]…`
//! (`TEMPLAR_PJRT_PRELOAD` lists libraries to open first).

use std::sync::Arc;
use templar_model::bench::{BenchConfig, eval, train};
use templar_model::{LlamaConfig, Optimizer, Recompute, TrainerOptions};
use templar_tensor::{Executor, Pjrt, PjrtConfig, XlaOption};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let preload = std::env::var_os("TEMPLAR_PJRT_PRELOAD").map(|list| std::env::split_paths(&list).collect()).unwrap_or_default();
    let arg = |i: usize| args.get(i).map_or("", String::as_str);
    let xla = args.iter().skip(8).filter_map(|text| XlaOption::parse(text)).collect();
    let config = PjrtConfig { plugin: arg(1).into(), preload, devices: arg(7).parse().ok(), xla, ..PjrtConfig::default() };
    let pjrt = Arc::new(Pjrt::open(&config)?);
    eprintln!("{} x {:?}", pjrt.devices(), pjrt.device_infos());
    let model = LlamaConfig::named(arg(2))?;
    let recompute = match arg(6) {
        "selective" => Recompute::Selective,
        "full" => Recompute::Full,
        _ => Recompute::None,
    };
    let bench = BenchConfig {
        seq_len: model.seq_len,
        model,
        optimizer: Optimizer::AdamW,
        rows: arg(3).parse()?,
        accumulate: 1,
        steps: arg(4).parse()?,
        warmup: 3,
        profile: if std::env::var_os("PROFILE").is_some() { 3 } else { 0 },
        options: TrainerOptions { recompute, compute_type: None },
        seed: 1,
    };
    let report = if arg(5) == "eval" { eval(&bench, pjrt)? } else { train(&bench, pjrt)? };
    for device in templar_model::profile::summarise(&report.spans) {
        eprintln!("{}", serde_json::to_string_pretty(&device)?);
    }
    if let Some(path) = std::env::var_os("PROFILE") {
        templar_model::profile::write_trace(&report.spans, &mut std::io::BufWriter::new(std::fs::File::create(path)?))?;
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
