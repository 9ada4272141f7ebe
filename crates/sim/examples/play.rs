//! Plays a scenario (scratch).
use templar_sim::{Scenario, simulate};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut scenario = Scenario::read(args[1].as_ref()).unwrap_or_else(|e| panic!("{e}"));
    let seed = args.get(2).map_or(scenario.seed, |s| s.parse().unwrap());
    if let Some(w) = args.get(3) {
        scenario.windows = w.parse().unwrap();
    }
    let begun = std::time::Instant::now();
    let sink: Option<templar_sim::record::Sink> = args.get(4).map(|path| {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        Box::new(move |line: &str| {
            use std::io::Write;
            writeln!(file, "{line}").unwrap();
        }) as templar_sim::record::Sink
    });
    let report = simulate(&scenario, seed, sink).unwrap_or_else(|e| panic!("{e}"));
    println!("{}", report.text());
    let l = &report.losses;
    println!("losses {:?}", l.iter().step_by((l.len() / 20).max(1)).map(|x| (x * 1e4).round() / 1e4).collect::<Vec<_>>());
    println!("took {:?}", begun.elapsed());
}
