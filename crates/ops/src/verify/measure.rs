//! What was observed of the objects, measured again: θ, the objects themselves, their likenesses, the samples, the losses.

use super::replay::{self, Objects, Stopped, run_job};
use super::round::Round;
use super::{Case, Check};
use crate::bench::{Bench, Means};
use templar_codec::{Opened, Sketch};
use templar_gauntlet::sheet::Samples;
use templar_gauntlet::{Fate, Gallery, Losses, Measurement, ScoreSheet, Sent, Survey};
use templar_node::position::Position;
use templar_node::recipe;
use templar_node::validator::collect::check_claims;
use templar_node::validator::evaluate::{Drawn, Evaluated, Source, Subject, evaluate, read_shard};
use templar_node::validator::judge::loudness;
use templar_node::workspace::{WorkError, Workspace};
use templar_protocol::messages::Manifest;
use templar_protocol::sampler::{Assignment, sample_digest};
use templar_protocol::{Digest, Uid, Window, names};
use templar_tensor::Executor;

/// The names of the checks, in order.
const NAMES: [&str; 5] = ["theta", "objects", "likenesses", "samples", "losses"];

/// How far two measurements of one loss may lie apart, as a share of it, when `published` measured first (a sheet's `engine`) and `executor`
/// measures again.
///
/// The CPU executor adds in one order whatever the number of threads, so it gives the same bits on one kind of processor; another instruction
/// set may round sums of products otherwise, by parts in 10⁷. XLA orders its sums freely: in float32 one part in 10⁴ is allowed, a bound
/// that was not measured. bfloat16 has 8 bits of significand; rounding errors of its products average out over a sequence to less than
/// half a percent of its loss.
pub fn tolerance(published: &str, executor: &dyn Executor) -> f64 {
    let own = engine_name(executor);
    if [published, own.as_str()].iter().any(|engine| engine.contains("bf16")) {
        5e-3
    } else if published == own && own.starts_with("cpu") {
        2e-6
    } else {
        1e-4
    }
}

fn engine_name(executor: &dyn Executor) -> String {
    templar_node::validator::engine_name(executor)
}

/// The checks `theta`, `objects`, `likenesses`, `samples` and `losses`.
pub(super) async fn check(case: &Case<'_>, round: &Round) -> Vec<Check> {
    let bench = match bench(case).await {
        Ok(bench) => bench,
        Err(why) => return NAMES.map(|name| Check::not_possible(name, why.clone())).to_vec(),
    };
    let mut checks = vec![theta(case, round, &bench).await];
    let at_theta = checks[0].outcome == super::Outcome::Agrees;
    let judged = replay::judged(&case.sheet, &round.decided.manifest);
    let objects = match replay::objects(&bench.worker, case.run_id, case.window(), &judged, &round.buckets).await {
        Ok(objects) => objects,
        Err(Stopped::False(why)) => {
            checks.push(Check::of("objects", "the objects that the manifest lists", vec![why.clone()]));
            checks.extend(NAMES[2..].iter().map(|name| Check::not_possible(name, why.clone())));
            return checks;
        }
        Err(Stopped::Missing(why)) => {
            checks.extend(NAMES[1..].iter().map(|name| Check::not_possible(name, why.clone())));
            return checks;
        }
    };
    checks.push(opened(case, &bench, &round.decided.manifest, &objects));
    checks.push(likenesses(case, round, &bench, &objects.opened).await);
    checks.extend(losses(case, bench, objects.opened, at_theta).await);
    checks
}

async fn bench(case: &Case<'_>) -> Result<Bench, String> {
    let inputs = case.inputs;
    let means = Means { data: &inputs.data, http: &inputs.http, executor: &inputs.executor, threads: inputs.threads, cache: &inputs.cache };
    Bench::open(&means, &case.run, case.sheet.global_step).await
}

async fn theta(case: &Case<'_>, round: &Round, bench: &Bench) -> Check {
    const NAME: &str = "theta";
    let start = match &round.start {
        Ok(start) => start,
        Err(why) => return Check::not_possible(NAME, why.clone()),
    };
    match replay::replay(&bench.worker, case.run_id, round, start).await {
        Ok(said) => Check::agrees(NAME, said),
        Err(Stopped::Missing(why)) => Check::not_possible(NAME, why),
        Err(Stopped::False(why)) => Check::of(NAME, "replayed from a checkpoint", vec![why]),
    }
}

/// Whether the listed objects open exactly when the sheet says so, and claim the θ and the samples that they should.
fn opened(case: &Case<'_>, bench: &Bench, manifest: &Manifest, objects: &Objects) -> Check {
    let mut differences = Vec::new();
    let fate = |uid: Uid| case.sheet.observation.member(uid).map(|member| &member.fate);
    for (uid, refusal) in &objects.refused {
        if matches!(fate(*uid), Some(Fate::Accepted { .. })) {
            differences.push(format!("uid {uid}: published as accepted, it does not open: {refusal}"));
        }
    }
    let at =
        Position { window: manifest.window, global_step: manifest.global_step, theta: manifest.theta_before, manifest: manifest.previous };
    for object in &objects.opened {
        let header = object.header();
        if let Some(Fate::Refused { kind, .. }) = fate(header.uid)
            && kind == "unopened"
        {
            differences.push(format!("uid {}: published as not opening, it opens", header.uid));
        }
        match assigned(case, bench, header.uid) {
            Ok(assigned) => {
                if let Err((kind, why)) = check_claims(header, &at, || assigned) {
                    differences.push(format!("uid {}: the manifest lists it, though {kind}: {why}", header.uid));
                }
            }
            Err(why) => return Check::not_possible("objects", why),
        }
    }
    Check::of("objects", format!("seal, digest, θ and samples of {} copies, as committed", objects.opened.len()), differences)
}

fn assigned(case: &Case<'_>, bench: &Bench, uid: Uid) -> Result<([u8; 16], u64), String> {
    let assignment = assignment(case, bench, uid)?;
    let ids = bench.reader.ids(assignment.pool()).map_err(|error| error.to_string())?;
    Ok((sample_digest(&ids), ids.len() as u64))
}

fn assignment(case: &Case<'_>, bench: &Bench, uid: Uid) -> Result<Assignment, String> {
    recipe::assignment(&case.run.hparams, uid, case.window(), bench.reader.n_samples()).map_err(|error| error.to_string())
}

/// Which objects resemble which, from the copies of this window and of those before that the validator has scored.
async fn likenesses(case: &Case<'_>, round: &Round, bench: &Bench, objects: &[Opened]) -> Check {
    const NAME: &str = "likenesses";
    let rules = case.sheet.parameters.likeness.clone();
    let memory = rules.memory_windows as u64;
    let (mut shelves, mut missing, mut last) = (Vec::new(), Vec::new(), None::<Window>);
    for back in 1..=2 * memory {
        let Some(window) = case.window().0.checked_sub(back).map(Window) else { break };
        // Forgotten by the time of the last window that was scored before this one.
        if window < case.run.start_window || last.is_some_and(|last| window.0 + memory <= last.0) {
            break;
        }
        match scored(case, round, bench, window).await {
            Ok(Some(sent)) => {
                last = last.or(Some(window));
                shelves.push((window, sent));
            }
            Ok(None) => {}
            Err(()) => {
                last = last.or(Some(window));
                missing.push(window);
            }
        }
    }
    let mut gallery = Gallery::new();
    shelves.into_iter().rev().for_each(|(window, sent)| gallery.keep(&rules, window, sent));
    let run = case.run_id;
    let objects = objects.to_vec();
    let window = case.window();
    let survey = run_job(&bench.worker, move |work| {
        let survey = gallery.survey(&rules, window, &sketches(work, &objects, &run));
        Survey { loudness: loudness(&objects), ..survey }
    });
    let survey = survey.await;
    match survey {
        Ok(survey) => compare_surveys(&case.sheet, &survey, &missing),
        Err(Stopped::Missing(why) | Stopped::False(why)) => Check::not_possible(NAME, why),
    }
}

fn sketches(work: &Workspace, objects: &[Opened], run: &Digest) -> Vec<Sent> {
    let sent = |object: &Opened| {
        let header = object.header();
        Sent { uid: header.uid, hotkey: header.hotkey, sketch: Sketch::of(work.layout(), object, run) }
    };
    objects.iter().map(sent).collect()
}

/// The objects of an earlier window, if the validator has scored it; `Err` when they are gone.
async fn scored(case: &Case<'_>, round: &Round, bench: &Bench, window: Window) -> Result<Option<Vec<Sent>>, ()> {
    let sheet = case.read::<ScoreSheet>(&case.inputs.bucket, &names::score_sheet(window)).await.map_err(|_| ())?;
    let Some(sheet) = sheet.filter(|sheet| sheet.signer == case.signer && sheet.message.run == case.run_id) else { return Ok(None) };
    let manifest = super::round::by_digest(case, &round.buckets, window, sheet.message.manifest).await.ok_or(())?;
    let judged = replay::judged(&sheet.message, &manifest);
    let objects = replay::objects(&bench.worker, case.run_id, window, &judged, &round.buckets).await.map_err(|_| ())?;
    let run = case.run_id;
    run_job(&bench.worker, move |work| Some(sketches(work, &objects.opened, &run))).await.map_err(|_| ())
}

fn compare_surveys(sheet: &ScoreSheet, ours: &Survey, missing: &[Window]) -> Check {
    let mut differences = Vec::new();
    let mut compare = |what: &str, published: String, recomputed: String| {
        if published != recomputed {
            differences.push(format!("{what}: published {published}, recomputed {recomputed}"));
        }
    };
    let (theirs, window) = (&sheet.observation.survey, sheet.window());
    compare("pairs within the window", json(&theirs.within), json(&ours.within));
    compare("agreements", json(&theirs.agreements), json(&ours.agreements));
    compare("sizes of the updates", json(&theirs.loudness), json(&ours.loudness));
    compare("objects that change nothing", json(&theirs.empty), json(&ours.empty));
    // Pairs with windows whose objects are gone cannot be found again.
    let kept = |survey: &Survey| -> Vec<_> { survey.alike.iter().filter(|pair| !missing.contains(&pair.other_window)).cloned().collect() };
    compare("alike pairs", json(&kept(theirs)), json(&kept(ours)));
    if missing.is_empty() {
        compare("pairs with earlier windows", json(&theirs.across), json(&ours.across));
    }
    let earlier = match missing.len() {
        0 => String::new(),
        gone => format!("; {gone} earlier windows that were compared have passed their retention"),
    };
    Check::of("likenesses", format!("{} alike pairs of window {window} and those before{earlier}", theirs.alike.len()), differences)
}

/// As JSON, to be compared as text: −0 is not 0 there.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

/// The checks `samples` and `losses`.
async fn losses(case: &Case<'_>, bench: Bench, objects: Vec<Opened>, at_theta: bool) -> Vec<Check> {
    let both = |why: String| vec![Check::not_possible("samples", why.clone()), Check::not_possible("losses", why)];
    let mut subjects = Vec::new();
    for chosen in &case.sheet.chosen {
        let Some(object) = objects.iter().find(|object| object.header().uid == chosen.uid) else { continue };
        match assignment(case, &bench, chosen.uid) {
            Ok(assignment) => subjects.push((object.clone(), assignment)),
            Err(why) => return both(why),
        }
    }
    let held: Vec<Uid> = (case.sheet.observation.members.iter())
        .filter(|member| matches!(member.fate, Fate::Held { .. }))
        .map(|member| member.uid)
        .collect();
    let uids: Vec<Uid> = subjects.iter().map(|(object, _)| object.header().uid).collect();
    let measured = case.sheet.observation.measurements.len();
    let (evaluation, seed, reader) = (case.run.hparams.evaluation.clone(), case.sheet.seed.hash, bench.reader.clone());
    let job = run_job(&bench.worker, move |work| {
        let source = Source { n_samples: reader.n_samples(), read: &|rows| read_shard(&reader, rows) };
        let clip_norms = work.clip_norms(objects.iter().filter(|object| !held.contains(&object.header().uid)));
        let subjects: Vec<Subject> =
            subjects.iter().map(|(object, assignment)| Subject { object, assignment: assignment.clone() }).collect();
        // Whom the validator did not reach is not measured here either. Without θ only the draw is of use.
        let mut left = if at_theta { measured } else { 0 };
        if left == 0 {
            let drawn = templar_node::validator::evaluate::draw(&evaluation, source.n_samples, &seed, &subjects)?;
            return Ok(Evaluated { drawn, ..Evaluated::default() });
        }
        evaluate(work, &evaluation, &source, &seed, &subjects, &clip_norms, || {
            left -= 1;
            left == 0
        })
    });
    let evaluated: Result<Evaluated, WorkError> = match job.await {
        Ok(evaluated) => evaluated,
        Err(Stopped::Missing(why) | Stopped::False(why)) => return both(why),
    };
    match evaluated {
        Ok(evaluated) => {
            let samples = compare_samples(&case.sheet, &uids, &evaluated.drawn);
            let losses = if at_theta {
                compare_losses(&case.sheet, &evaluated.measurements, &*case.inputs.executor)
            } else {
                Check::not_possible("losses", "without θ of the window nothing can be measured")
            };
            vec![samples, losses]
        }
        Err(error) => both(error.to_string()),
    }
}

fn compare_samples(sheet: &ScoreSheet, uids: &[Uid], drawn: &Drawn) -> Check {
    let own = uids.iter().zip(&drawn.own).map(|(uid, rows)| Samples::of(Some(*uid), rows));
    let ours: Vec<Samples> = std::iter::once(Samples::of(None, &drawn.random)).chain(own).collect();
    let mut differences = Vec::new();
    for sample in &ours {
        let who = sample.uid.map_or_else(|| "random".to_owned(), |uid| format!("uid {uid}"));
        match sheet.samples.iter().find(|published| published.uid == sample.uid) {
            Some(published) if published == sample => {}
            Some(published) => differences.push(format!(
                "{who}: published {} of {}, drawn {} of {}",
                published.indices.short(),
                published.count,
                sample.indices.short(),
                sample.count
            )),
            None => differences.push(format!("{who}: not published")),
        }
    }
    if sheet.samples.len() != ours.len() {
        differences.push(format!("{} draws published, {} follow from the seed", sheet.samples.len(), ours.len()));
    }
    Check::of("samples", format!("{} draws by the published seed", ours.len()), differences)
}

/// Compares losses one by one.
pub(super) fn compare_losses(sheet: &ScoreSheet, ours: &[Measurement], executor: &dyn Executor) -> Check {
    let (tolerance, own) = (tolerance(&sheet.engine, executor), engine_name(executor));
    let (mut differences, mut largest, mut same, mut count) = (Vec::new(), 0.0f64, 0usize, 0usize);
    let theirs = &sheet.observation.measurements;
    let uids = |list: &[Measurement]| list.iter().map(|measured| measured.uid).collect::<Vec<_>>();
    if uids(theirs) != uids(ours) {
        differences.push(format!("published of uids {:?}, measured {:?}", numbers(&uids(theirs)), numbers(&uids(ours))));
    }
    for (published, measured) in theirs.iter().zip(ours) {
        let pairs = [("random", &published.random, &measured.random), ("own", &published.own, &measured.own)];
        for (what, published_losses, measured_losses) in pairs {
            for (side, a, b) in sides(published_losses, measured_losses) {
                let place = format!("uid {} {what} {side}", published.uid);
                if a.len() != b.len() {
                    differences.push(format!("{place}: {} losses published, {} measured", a.len(), b.len()));
                }
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    count += 1;
                    same += usize::from(a.to_bits() == b.to_bits());
                    let apart = difference(*a, *b);
                    largest = largest.max(apart);
                    if apart > tolerance {
                        differences.push(format!("{place}, sequence {index}: published {a}, measured {b}"));
                    }
                }
            }
        }
    }
    let (engines, bits) = (format!("{} then, {own} now", sheet.engine), format!("{same} of {count} the same bits"));
    Check::of("losses", format!("{engines}: {bits}, at most {largest:.1e} apart, {tolerance:.0e} allowed"), differences)
}

fn numbers(uids: &[Uid]) -> Vec<u16> {
    uids.iter().map(|uid| uid.0).collect()
}

fn sides<'a>(a: &'a Losses, b: &'a Losses) -> [(&'static str, &'a [f64], &'a [f64]); 2] {
    [("before", &a.before, &b.before), ("after", &a.after, &b.after)]
}

/// The relative difference; 0 for equal bits and for two that are no numbers, infinite for one of them.
fn difference(a: f64, b: f64) -> f64 {
    if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let apart = (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
    if apart.is_finite() { apart } else { f64::INFINITY }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn differences_are_shares_and_never_hide_what_is_no_number() {
        assert_eq!(difference(2.0, 2.0), 0.0);
        assert!((difference(2.0, 2.002) - 1e-3).abs() < 1e-6);
        assert_eq!(difference(f64::NAN, f64::NAN), 0.0);
        assert_eq!(difference(f64::NAN, 2.0), f64::INFINITY);
        assert_eq!(difference(f64::INFINITY, 2.0), f64::INFINITY);
        assert_eq!(difference(0.0, -0.0), 0.0);
    }

    #[test]
    fn a_processor_is_held_to_more_than_an_accelerator() {
        let cpu = templar_tensor::Cpu::new();
        assert_eq!(engine_name(&cpu), "cpu f32");
        assert!(tolerance("cpu f32", &cpu) < tolerance("pjrt f32", &cpu));
        assert!(tolerance("pjrt f32", &cpu) < tolerance("pjrt bf16", &cpu));
    }
}
