//! What to change when a plan does not work: each line is a setting that was tried and found to be enough.

use super::{Inner, Plan, PlanRequest, Recompute, predict};

/// Sequences of one device that are tried at most when a smaller batch is looked for.
const ONE_PASS_MOST: usize = 256;

/// Changes that make the plan work, or bring it nearest to that.
pub(super) fn advice(request: &PlanRequest, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if !plan.fits {
        lines.push(format!(
            "memory: {:.1} GiB are needed on each GPU and {:.1} may be taken, {:.1} too many",
            plan.device.total_gib,
            plan.usable_gib,
            plan.device.total_gib - plan.usable_gib
        ));
        lines.extend(less_memory(request));
    }
    if !plan.window.met {
        lines.extend(more_time(request, plan));
    }
    lines
}

fn fits(request: &PlanRequest) -> Option<Plan> {
    predict(request).ok().filter(|plan| plan.fits)
}

fn less_memory(request: &PlanRequest) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(plan) = request.micro_batch.and_then(|_| fits(&PlanRequest { micro_batch: None, ..request.clone() })) {
        lines.push(format!("--micro-batch {} fits, in {} passes for each step", plan.micro_batch, plan.passes));
    }
    let more = [Recompute::Selective, Recompute::Full].into_iter().filter(|recompute| *recompute > request.recompute);
    let found = more.into_iter().find_map(|recompute| {
        let plan = fits(&PlanRequest { recompute, micro_batch: None, ..request.clone() })?;
        Some(format!("--recompute {recompute} fits, with {} sequences in a pass", plan.micro_batch))
    });
    lines.extend(found);
    let gpus = counts(request).find_map(|gpus| {
        let plan = fits(&PlanRequest { gpus, micro_batch: None, ..request.clone() })?;
        Some(format!("--gpus {gpus} fits, with {} sequences in a pass", plan.micro_batch))
    });
    lines.extend(gpus);
    lines.extend(one_pass(request));
    if request.optimizer == Inner::AdamW && fits(&PlanRequest { optimizer: Inner::Muon, micro_batch: None, ..request.clone() }).is_some() {
        lines.push("--optimizer muon fits, in a run that uses it".into());
    }
    if lines.is_empty() {
        lines.push(
            "no recomputation, batch or number of these GPUs in one host is enough: take a GPU with more memory or a smaller model".into(),
        );
    }
    lines
}

/// The largest smaller batch that fits in one pass, where no sums of gradients are kept.
fn one_pass(request: &PlanRequest) -> Option<String> {
    let share = request.batch / request.gpus;
    (1..share.min(ONE_PASS_MOST)).rev().find_map(|micro_batch| {
        let batch = micro_batch * request.gpus;
        fits(&PlanRequest { batch, micro_batch: Some(micro_batch), ..request.clone() })?;
        Some(format!("--batch {batch} fits, in one pass"))
    })
}

/// Larger numbers of devices that divide the batch.
fn counts(request: &PlanRequest) -> impl Iterator<Item = usize> {
    (request.gpus + 1..=request.gpu.most).filter(|gpus| request.batch.is_multiple_of(*gpus))
}

fn more_time(request: &PlanRequest, plan: &Plan) -> Vec<String> {
    let window = &plan.window;
    let mut lines = Vec::new();
    if window.save_s <= 0.0 {
        lines.push(format!(
            "margin: θ′ and moments take {:.0} s from the GPUs and compression {:.0} s, more than margin_ms allows ({:.0} s): raise it to {:.0} s or more, or \
             use a host with more cores",
            window.download_s,
            window.compress_s,
            window.margin_s,
            ((window.download_s + window.compress_s) * 1.5 / 10.0).ceil() * 10.0
        ));
    }
    let short = window.training_s - window.available_s;
    if short <= 0.0 {
        return lines;
    }
    lines.push(format!(
        "time: {} inner steps take {:.0} s and {:.0} s are left for them",
        request.inner_steps,
        window.training_s,
        window.available_s.max(0.0)
    ));
    let faster = counts(request).find_map(|gpus| {
        let plan = fits(&PlanRequest { gpus, micro_batch: None, ..request.clone() })?;
        plan.window.met.then(|| format!("--gpus {gpus} meets the deadline"))
    });
    lines.extend(faster);
    if request.recompute > Recompute::None && plan.fits {
        let plan = fits(&PlanRequest { recompute: Recompute::None, micro_batch: None, ..request.clone() });
        lines.extend(plan.filter(|plan| plan.window.met).map(|_| "--recompute none fits as well and meets the deadline".to_owned()));
    }
    let length = (window.length_s + short).ceil();
    lines.push(format!("--window-s {length:.0} is just long enough (or blocks_per_window of a run of one's own)"));
    match window.steps_that_fit {
        0 => lines.push("not one step fits into the window".into()),
        steps => lines.push(format!("as it is, {steps} of {} inner steps are done before the margin begins", request.inner_steps)),
    }
    lines
}
