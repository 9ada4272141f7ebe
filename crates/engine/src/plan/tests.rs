use super::*;
use proptest::prelude::*;
use templar_protocol::hparams::Hparams;

/// What the training program does.
const CHUNKED: Loss = Loss::Chunked { f32_bytes: 512 << 20 };

/// The model that was measured, on `gpus` H200s with `batch` sequences each.
fn measured(gpus: usize, batch: usize) -> PlanRequest {
    let hparams = Hparams::preset("953M").unwrap();
    PlanRequest {
        model: LlamaConfig::named("953M").unwrap(),
        codec: CodecConfig::default(),
        gpu: gpu_named("h200").unwrap(),
        gpus,
        cores: 16,
        batch: gpus * batch,
        micro_batch: Some(batch),
        inner_steps: hparams.inner_steps,
        window_ms: hparams.window_ms(),
        timetable: hparams.timetable,
        peers: hparams.gather_peer_count,
        recompute: Recompute::None,
        optimizer: Inner::AdamW,
        offload: false,
        loss: Loss::Whole,
    }
}

fn named(name: &str, gpu: &str, gpus: usize, batch: usize) -> PlanRequest {
    let loss = CHUNKED;
    PlanRequest {
        model: LlamaConfig::named(name).unwrap(),
        gpu: gpu_named(gpu).unwrap(),
        batch,
        micro_batch: None,
        loss,
        ..measured(gpus, 1)
    }
}

/// The measurements of XLA without chunks in the loss: GPUs, sequences of each, ms of a step, GiB.
const MEASURED: [(usize, usize, f64, Option<f64>); 4] =
    [(1, 8, 180.6, Some(32.0)), (1, 16, 342.5, Some(51.0)), (2, 8, 191.1, None), (4, 8, 185.7, None)];

#[test]
fn predictions_are_near_the_measurements() {
    for (gpus, batch, ms, gib) in MEASURED {
        let plan = plan(&measured(gpus, batch)).unwrap();
        let near = |predicted: f64, seen: f64| (predicted / seen - 1.0).abs() < 0.05;
        assert!(near(plan.step.total_ms, ms), "{gpus} × {batch}: {} ms, measured {ms}", plan.step.total_ms);
        if let Some(gib) = gib {
            assert!(near(plan.device.total_gib, gib), "{gpus} × {batch}: {} GiB, measured {gib}", plan.device.total_gib);
        }
    }
}

#[test]
fn seventy_billion_parameters_come_out_as_known() {
    // Known of the reference: 141.2 GB a GPU before activations, 55 GB gathered at 4.9 Gbit/s with objects twice as large as ours.
    let request = PlanRequest { model: LlamaConfig::named("70B").unwrap(), batch: 192, ..named("8B", "h200", 8, 192) };
    let plan = plan(&PlanRequest { micro_batch: Some(1), ..request }).unwrap();
    let row = |what: &str| plan.device.rows.iter().find(|row| row.what.starts_with(what)).map_or(0.0, |row| row.gib * 1.073_741_824);
    let state = row("parameters, f32") + row("moments") + row("gradients");
    assert!((state - 141.2).abs() < 0.5, "{state}");
    assert!(!plan.fits);
    // It says why, and what would help.
    assert!(plan.advice[0].contains("too many"), "{:?}", plan.advice);
    assert!((plan.traffic.down_mbit_s / 4900.0 - 0.474).abs() < 0.03, "{}", plan.traffic.down_mbit_s);
}

#[test]
fn what_no_run_could_have_is_refused_with_what_could() {
    let good = measured(2, 8);
    let cases: [(PlanRequest, &str); 6] = [
        (PlanRequest { batch: 15, ..good.clone() }, "a batch of 15 sequences does not divide over 2 GPUs; 14 or 16 would"),
        (PlanRequest { batch: 1, ..good.clone() }, "does not divide over 2 GPUs; 2 would"),
        (PlanRequest { micro_batch: Some(3), ..good.clone() }, "3 sequences in a pass do not divide the 8 of each GPU; 1, 2, 4, 8 would"),
        (PlanRequest { gpus: 64, ..good.clone() }, "64 × h200 is not one host: give 1 to 16"),
        (PlanRequest { gpus: 0, ..good.clone() }, "give 1 to 16"),
        (PlanRequest { inner_steps: 0, ..good }, "the number of inner steps is 0"),
    ];
    for (request, want) in cases {
        let error = plan(&request).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let error = gpu_named("tpu").unwrap_err().to_string();
    assert!(error.contains("\"tpu\"") && error.contains("h200, h100, a100, rtx4090, cpu"), "{error}");
}

#[test]
fn without_a_given_number_the_largest_pass_that_fits_is_taken() {
    let request = named("8B", "h200", 8, 192);
    let chosen = plan(&request).unwrap();
    assert!(chosen.fits && chosen.micro_batch > 1 && chosen.micro_batch * chosen.passes == 24);
    let next = divisors(24).into_iter().find(|d| *d > chosen.micro_batch);
    if let Some(next) = next {
        assert!(!plan(&PlanRequest { micro_batch: Some(next), ..request }).unwrap().fits);
    }
}

#[test]
fn advice_is_what_works() {
    // Too little memory for eight billion parameters on four 24 GB cards, whatever is computed again: more cards do.
    let small = plan(&named("8B", "rtx4090", 4, 8)).unwrap();
    assert!(!small.fits && small.advice[0].contains("too many"), "{:?}", small.advice);
    assert!(small.advice.iter().all(|line| !line.starts_with("--recompute")), "{:?}", small.advice);
    // A pass that is too large: fewer sequences, or recomputation.
    let large = PlanRequest { micro_batch: Some(64), ..measured(1, 64) };
    let advice = plan(&large).unwrap().advice;
    let micro: usize = advice.iter().find_map(|line| line.strip_prefix("--micro-batch ")?.split(' ').next()?.parse().ok()).unwrap();
    assert!(plan(&PlanRequest { micro_batch: Some(micro), ..large.clone() }).unwrap().fits);
    assert!(advice.iter().any(|line| line.starts_with("--recompute")), "{advice:?}");
    // Too slow: the window that is named is long enough, one second less is not.
    let slow = PlanRequest { inner_steps: 60, ..named("8B", "h200", 1, 192) };
    let advice = plan(&slow).unwrap().advice;
    let seconds: u64 = advice.iter().find_map(|line| line.strip_prefix("--window-s ")?.split(' ').next()?.parse().ok()).unwrap();
    let with = |seconds: u64| plan(&PlanRequest { window_ms: seconds * 1000, ..slow.clone() }).unwrap().window.met;
    assert!(with(seconds) && !with(seconds - 1), "{seconds}");
}

#[test]
fn tied_and_grouped_models_take_less() {
    let base = named("953M", "h200", 1, 8);
    let total = |request: &PlanRequest| plan(request).unwrap().device.total_gib;
    let tied = LlamaConfig { tied: true, ..base.model.clone() };
    let grouped = LlamaConfig { kv_heads: 4, ..base.model.clone() };
    assert!(total(&PlanRequest { model: tied, ..base.clone() }) < total(&base));
    assert!(total(&PlanRequest { model: grouped, ..base.clone() }) < total(&base));
}

#[test]
fn chunks_in_the_loss_bound_the_logits_of_a_large_vocabulary() {
    let whole = PlanRequest { loss: Loss::Whole, micro_batch: Some(4), ..named("8B", "h200", 8, 32) };
    let chunked = PlanRequest { loss: CHUNKED, ..whole.clone() };
    let logits = |request: &PlanRequest| plan(request).unwrap().device.rows.iter().find(|row| row.what.starts_with("logits")).unwrap().gib;
    assert!(logits(&whole) > 11.0 && logits(&chunked) < 0.8);
}

fn any_request() -> impl Strategy<Value = PlanRequest> {
    let model = prop::sample::select(vec!["150M", "953M", "1B", "8B", "70B"]);
    let gpu = prop::sample::select(vec!["h200", "h100", "a100"]);
    let recompute = prop::sample::select(vec![Recompute::None, Recompute::Selective, Recompute::Full]);
    let optimizer = prop::sample::select(vec![Inner::AdamW, Inner::Muon]);
    let loss = prop::sample::select(vec![Loss::Whole, CHUNKED]);
    (model, gpu, 0u32..4, 1usize..6, 1usize..6, (recompute, optimizer, loss)).prop_map(|(model, gpu, gpus, micro, passes, rest)| {
        let gpus = 1 << gpus;
        let (recompute, optimizer, loss) = rest;
        let request = PlanRequest { recompute, optimizer, loss, ..named(model, gpu, gpus, gpus * micro * passes) };
        PlanRequest { micro_batch: Some(micro), ..request }
    })
}

proptest! {
    #[test]
    fn more_devices_never_take_more_memory_each(request in any_request()) {
        let doubled = PlanRequest { gpus: request.gpus * 2, batch: request.batch * 2, ..request.clone() };
        let (one, two) = (plan(&request).unwrap(), plan(&doubled).unwrap());
        prop_assert!(two.device.total_gib <= one.device.total_gib + 1e-9);
    }

    #[test]
    fn more_sequences_never_take_less_memory_or_time(request in any_request()) {
        let micro = request.micro_batch.unwrap();
        let more = PlanRequest { micro_batch: Some(micro * 2), batch: request.batch * 2, ..request.clone() };
        let (one, two) = (plan(&request).unwrap(), plan(&more).unwrap());
        prop_assert!(two.device.total_gib >= one.device.total_gib);
        prop_assert!(two.step.total_ms > one.step.total_ms);
        prop_assert!(two.host.total_gib >= one.host.total_gib);
    }

    #[test]
    fn recomputation_trades_time_for_memory(request in any_request()) {
        let of = |recompute| plan(&PlanRequest { recompute, ..request.clone() }).unwrap();
        let all = [Recompute::None, Recompute::Selective, Recompute::Full].map(of);
        for pair in all.windows(2) {
            prop_assert!(pair[1].device.total_gib <= pair[0].device.total_gib + 1e-9);
            prop_assert!(pair[1].step.total_ms >= pair[0].step.total_ms);
        }
    }

    #[test]
    fn a_plan_is_feasible_or_says_what_to_change(request in any_request(), free in any::<bool>()) {
        let request = if free { PlanRequest { micro_batch: None, ..request } } else { request };
        let plan = plan(&request).unwrap();
        prop_assert_eq!(plan.feasible, plan.advice.is_empty());
        prop_assert_eq!(plan.micro_batch * plan.passes * request.gpus, request.batch);
        let sum: f64 = plan.device.rows.iter().map(|row| row.gib).sum();
        prop_assert!((sum - plan.device.total_gib).abs() < 1e-6 && plan.device.rows.iter().all(|row| row.gib.is_finite()));
        prop_assert!(plan.traffic.object_bytes <= plan.traffic.object_bytes_max);
    }

    #[test]
    fn divisors_are_all_and_rise(number in 1usize..5000) {
        let all = divisors(number);
        prop_assert_eq!(&all, &(1..=number).filter(|d| number.is_multiple_of(*d)).collect::<Vec<_>>());
    }
}
