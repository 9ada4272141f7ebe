//! `templar plan`: what a machine would need to take part in a run, before anything is started.

mod money;

use crate::commands::engine::args::RecomputeArg;
use crate::fit::fit;
use clap::{Args, ValueEnum};
use miette::{IntoDiagnostic, miette};
use money::{Cost, MoneyFlags};
use serde_json::json;
use std::fmt::Write as _;
use templar_engine::plan::{GPUS, Inner, Loss, Memory, Plan, PlanRequest, gpu_named, plan};
use templar_node::recipe;
use templar_protocol::hparams::Hparams;

/// How the training program computes its loss: 512 MiB of f32 logits at a time.
const LOSS: Loss = Loss::Chunked { f32_bytes: 512 << 20 };

/// Predict memory, time and bandwidth of a miner, and whether it can meet the deadline of a window.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A preset or a JSON file of hyper-parameters (see `templar params show`).
    #[arg(long, visible_alias = "params", value_name = "NAME|FILE")]
    model: String,
    /// The kind of GPU: h200, h100, a100, rtx4090, or cpu.
    #[arg(long, value_name = "NAME")]
    gpu: String,
    /// GPUs of the host that train together.
    #[arg(long, value_name = "N", default_value_t = 1)]
    gpus: usize,
    /// Sequences of an inner step over all GPUs, instead of the preset's.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Sequences of one GPU in one pass; without it, the most that fit.
    #[arg(long, value_name = "N")]
    micro_batch: Option<usize>,
    /// Tokens in a sequence, instead of the preset's.
    #[arg(long, value_name = "N")]
    seq: Option<usize>,
    /// Inner steps in a window, instead of the preset's.
    #[arg(long, value_name = "N")]
    inner_steps: Option<usize>,
    /// Length of a window in seconds, instead of the preset's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    window_s: Option<u64>,
    /// What the backward pass computes again instead of keeping it.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    recompute: RecomputeArg,
    /// The inner optimiser.
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    optimizer: OptimizerArg,
    /// Keep the optimiser's moments on the host between windows.
    #[arg(long)]
    offload: bool,
    /// Cores of the host, for compression and aggregation.
    #[arg(long, value_name = "N", default_value_t = 16)]
    cores: usize,
    #[command(flatten)]
    money: MoneyFlags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptimizerArg {
    /// Two moments for each parameter.
    Adamw,
    /// One moment for each matrix.
    Muon,
}

impl PlanArgs {
    /// Predicts and prints.
    ///
    /// # Errors
    /// An unknown preset or GPU, or settings that no run could have. A plan that does not work is no error; it says what to change.
    pub fn run(self) -> miette::Result<()> {
        let text = self.text()?;
        super::params::print(&if self.json { text } else { fit(text) })
    }

    fn text(&self) -> miette::Result<String> {
        let hparams = super::params::load(&self.model)?;
        let request = self.request(&hparams)?;
        let plan = plan(&request).into_diagnostic()?;
        let cost = self.money.cost(request.window_ms as f64 / 1000.0)?;
        if self.json {
            return json_text(&hparams, &request, &plan, cost.as_ref());
        }
        let text = table(&hparams, &request, &plan).into_diagnostic()?;
        Ok(text + &cost.map_or_else(String::new, |cost| cost.text()))
    }

    fn request(&self, hparams: &Hparams) -> miette::Result<PlanRequest> {
        let gpu = gpu_named(&self.gpu).map_err(|_| {
            let titles = GPUS.iter().map(|gpu| format!("{} ({})", gpu.name, gpu.title)).collect::<Vec<_>>().join(", ");
            miette!(help = format!("known are {titles}"), "the planner does not know the GPU {:?}", self.gpu)
        })?;
        let mut model = recipe::llama(hparams, None).into_diagnostic()?;
        model.seq_len = self.seq.unwrap_or(model.seq_len);
        Ok(PlanRequest {
            model,
            codec: recipe::codec(hparams),
            gpu,
            gpus: self.gpus,
            cores: self.cores,
            batch: self.batch.unwrap_or(hparams.batch_size),
            micro_batch: self.micro_batch,
            inner_steps: self.inner_steps.unwrap_or(hparams.inner_steps),
            window_ms: self.window_s.map_or_else(|| hparams.window_ms(), |seconds| seconds * 1000),
            timetable: hparams.timetable,
            peers: hparams.gather_peer_count,
            recompute: self.recompute.into(),
            optimizer: match self.optimizer {
                OptimizerArg::Adamw => Inner::AdamW,
                OptimizerArg::Muon => Inner::Muon,
            },
            offload: self.offload,
            loss: LOSS,
        })
    }
}

fn json_text(hparams: &Hparams, request: &PlanRequest, plan: &Plan, cost: Option<&Cost>) -> miette::Result<String> {
    let asked = json!({
        "model": hparams.name, "gpu": request.gpu.name, "gpus": request.gpus, "cores": request.cores, "batch": request.batch,
        "seq": request.model.seq_len, "inner_steps": request.inner_steps, "peers": request.peers, "recompute": request.recompute.to_string(),
        "optimizer": request.optimizer, "offload": request.offload, "loss": request.loss,
    });
    let mut value = serde_json::to_value(plan).into_diagnostic()?;
    value["request"] = asked;
    if let Some(cost) = cost {
        value["economics"] = serde_json::to_value(cost).into_diagnostic()?;
    }
    Ok(format!("{value:#}\n"))
}

/// The plan for people.
fn table(hparams: &Hparams, request: &PlanRequest, plan: &Plan) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let tied = if request.model.tied { "tied head" } else { "untied head" };
    writeln!(out, "model      {}: {} parameters, {tied}, vocabulary {}", hparams.name, count(plan.parameters), request.model.vocab)?;
    writeln!(out, "machine    {} × {}, {:.1} GiB each; {} cores", request.gpus, request.gpu.title, request.gpu.memory_gib, request.cores)?;
    let passes = if plan.passes == 1 { "one pass".to_owned() } else { format!("each of {} passes", plan.passes) };
    writeln!(
        out,
        "inner step {} sequences of {} tokens: {} on each GPU in {}; {}, recompute {}",
        request.batch, request.model.seq_len, plan.micro_batch, passes, request.optimizer, request.recompute
    )?;
    memory(&mut out, "memory of each GPU", &plan.device)?;
    let fits = if plan.fits { "fits" } else { "does NOT fit" };
    writeln!(out, "    {fits}: {:.1} GiB may be taken", plan.usable_gib)?;
    memory(&mut out, "memory of the host, at most", &plan.host)?;
    time(&mut out, request, plan)?;
    traffic(&mut out, plan)?;
    writeln!(out, "\n{}", verdict(plan))?;
    for line in &plan.advice {
        writeln!(out, "  - {line}")?;
    }
    writeln!(out, "\nrests on")?;
    plan.assumptions.iter().try_for_each(|line| writeln!(out, "  - {line}"))?;
    Ok(out)
}

fn verdict(plan: &Plan) -> String {
    let spare = plan.window.spare * 100.0;
    match (plan.fits, plan.window.met) {
        (true, true) => format!("The deadline can be met, with {spare:.0} % of the time for training to spare."),
        (false, true) => "It does not fit into the memory of the GPUs:".to_owned(),
        (true, false) => "The deadline cannot be met:".to_owned(),
        (false, false) => "It does not fit into the memory of the GPUs, and the deadline cannot be met:".to_owned(),
    }
}

fn memory(out: &mut String, title: &str, memory: &Memory) -> std::fmt::Result {
    row(out, &format!("\n{title}"), "GiB".to_owned())?;
    memory.rows.iter().try_for_each(|row_| row(out, &format!("  {}", row_.what), gib(row_.gib)))?;
    row(out, "  in all", gib(memory.total_gib))
}

fn time(out: &mut String, request: &PlanRequest, plan: &Plan) -> std::fmt::Result {
    let (step, window) = (&plan.step, &plan.window);
    row(out, "\ntime of an inner step", "ms".to_owned())?;
    for (what, ms) in [
        ("  products and attention", step.products_ms),
        ("  passes over parameters and moments", step.parameters_ms),
        ("  exchange between GPUs that is not hidden", step.exchange_ms),
        ("  in all", step.total_ms),
    ] {
        row(out, what, format!("{ms:.1}"))?;
    }
    writeln!(
        out,
        "    {:.0} tokens/s and {} TFLOP/s for each GPU, {:.0} % of a large product",
        step.tokens_s_per_gpu,
        if step.tflops_per_gpu < 10.0 { format!("{:.3}", step.tflops_per_gpu) } else { format!("{:.0}", step.tflops_per_gpu) },
        100.0 * step.share_of_peak
    )?;
    row(out, "\ntime of a window", "s".to_owned())?;
    let training = format!("  {} inner steps", request.inner_steps);
    for (what, seconds) in [
        ("  length", window.length_s),
        ("  decision of the window before, at most", window.decision_s),
        ("  fetching its objects, at most", window.gather_s),
        ("  aggregation and outer step", window.aggregate_s),
        ("  θ to the GPUs", window.upload_s),
        ("  margin at the end", window.margin_s),
        ("  left for inner steps", window.available_s),
        (&training, window.training_s),
    ] {
        row(out, what, format!("{seconds:.1}"))?;
    }
    writeln!(
        out,
        "    the margin holds θ′ and moments from the GPUs ({:.1} s), compression ({:.1} s) and saving",
        window.download_s, window.compress_s
    )
}

fn traffic(out: &mut String, plan: &Plan) -> std::fmt::Result {
    let traffic = &plan.traffic;
    writeln!(out, "\nnetwork and disk in a window")?;
    writeln!(
        out,
        "  up    {} in {:.0} s: {:.0} Mbit/s (at most {})",
        bytes(traffic.object_bytes),
        traffic.up_s,
        traffic.up_mbit_s,
        bytes(traffic.object_bytes_max)
    )?;
    writeln!(out, "  down  {} in {:.0} s: {:.0} Mbit/s", bytes(traffic.down_bytes), traffic.down_s, traffic.down_mbit_s)?;
    match traffic.disk_gb_s {
        Some(rate) => writeln!(out, "  disk  {} in what the margin leaves: {rate:.2} GB/s", bytes(traffic.disk_bytes)),
        None => writeln!(out, "  disk  {}, for which the margin leaves no time", bytes(traffic.disk_bytes)),
    }
}

fn row(out: &mut String, what: &str, value: String) -> std::fmt::Result {
    // A leading newline separates sections and does not count for the width.
    let width = 46 + usize::from(what.starts_with('\n'));
    writeln!(out, "{what:<width$} {value:>9}")
}

/// Small models have their digits, too.
fn gib(gib: f64) -> String {
    if gib < 0.95 { format!("{gib:.3}") } else { format!("{gib:.1}") }
}

fn count(parameters: f64) -> String {
    if parameters >= 1e9 { format!("{:.2} billion", parameters / 1e9) } else { format!("{:.1} million", parameters / 1e6) }
}

fn bytes(bytes: f64) -> String {
    if bytes >= 1e9 { format!("{:.2} GB", bytes / 1e9) } else { format!("{:.2} MB", bytes / 1e6) }
}

#[cfg(test)]
mod tests {
    //! Tables of plans that work and of plans that do not.

    #![allow(clippy::unwrap_used)]

    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn text(words: &str) -> miette::Result<String> {
        Line::try_parse_from(std::iter::once("plan").chain(words.split(' '))).unwrap().plan.text()
    }

    fn snapshot(name: &str, words: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, text(words).unwrap()));
    }

    #[test]
    fn plans_in_print() {
        snapshot("plan_8b_on_8_h200", "--model 8B --gpu h200 --gpus 8");
        snapshot("plan_72b_on_8_h200", "--model 72B --gpu H200 --gpus 8 --recompute full --offload");
        snapshot("plan_8b_on_4090", "--model 8B --gpu rtx4090 --gpus 4 --optimizer muon");
        snapshot("plan_local_on_cpu", "--model local --gpu cpu --cores 2");
    }

    #[test]
    fn a_price_shows_what_it_costs_without_a_chain() {
        let told = text("--model 8B --gpu h200 --gpus 8 --window-s 1380 --price 40/h").unwrap();
        let cost = told.split("what it costs").nth(1).unwrap();
        assert!(cost.contains("15.33") && cost.contains("960.00") && cost.contains("none was asked"), "{cost}");
        let same = text("--model 8B --gpu h200 --gpus 8 --window-s 1380 --price 960/d --json").unwrap();
        let value: serde_json::Value = serde_json::from_str(&same).unwrap();
        assert!((value["economics"]["outlook"]["cost_day"].as_f64().unwrap() - 960.0).abs() < 1e-9, "{value}");
        assert!(Line::try_parse_from(["plan", "--model", "8B", "--gpu", "h200", "--price", "much"]).is_err());
        assert!(Line::try_parse_from(["plan", "--model", "8B", "--gpu", "h200", "--price", "-1"]).is_err());
    }

    #[test]
    fn the_json_has_the_request_and_the_prediction() {
        let value: serde_json::Value = serde_json::from_str(&text("--model 953M --gpu h200 --batch 8 --seq 2048 --json").unwrap()).unwrap();
        assert_eq!((value["request"]["batch"].as_u64(), value["feasible"].as_bool()), (Some(8), Some(true)));
        let ms = value["step"]["total_ms"].as_f64().unwrap();
        assert!((ms / 180.6 - 1.0).abs() < 0.2, "{ms}");
        assert!(value["device"]["total_gib"].as_f64().is_some_and(|gib| gib > 20.0));
    }

    #[test]
    fn mistakes_are_answered_with_what_would_work() {
        for (words, want) in [
            ("--model 8B --gpu tpu", "known are h200 ("),
            ("--model 8B --gpu h200 --gpus 7", "a batch of 192 sequences does not divide over 7 GPUs; 189 or 196 would"),
            ("--model 9B --gpu h200", "8B"),
            ("--model 8B --gpu h200 --seq 0", "seq_len is 0"),
        ] {
            let error = format!("{:?}", text(words).unwrap_err()).split_whitespace().collect::<Vec<_>>().join(" ").replace(" │", "");
            assert!(error.contains(want), "{words}: {error}");
        }
    }
}
