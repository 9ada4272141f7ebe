//! Prints the codec's figures on this machine: `cargo run --release -p templar-codec --example codec_bench [peers]`.

use templar_codec::bench::{BenchConfig, BenchError, run};

fn main() -> Result<(), BenchError> {
    let peers = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4);
    let report = run(&BenchConfig::standard(peers))?;
    println!("{report:#?}");
    Ok(())
}
