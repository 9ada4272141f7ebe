//! A validator's numbers for one's own object, before it is sent: which gate it would pass, and what it does to the loss.
//!
//! Everything that is measured or decided here is measured and decided by the code that validators run: the container's checks, θ replayed from a
//! checkpoint, the clipped trial update, the paired losses, the likenesses, the rules with the state that a validator last published. What nobody
//! can know before a window is over (the block that draws the sequences, the other objects) is replaced, and [`Basis`] says by what. For a window
//! that a validator has scored, nothing is replaced, and the numbers are its own.
//!
//! What always holds: a gate that could not be examined is told apart from one that was passed; what is read is checked and bounded.

mod report;
mod text;
mod trail;

pub use report::{Basis, Effect, Gate, Numbers, Outcome, Report};

use crate::bench::{Bench, Means};
use crate::sheets::{self, SheetsError, read_sheet};
use crate::verify::replay::{self, Stopped, run_job};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use templar_codec::aggregate::clip_factor;
use templar_codec::{Expect, Header, Opened, Refusal, Sketch, norms};
use templar_data::Endpoint;
use templar_gauntlet::sheet::{STATE_BYTES_MAX, recompute};
use templar_gauntlet::{
    Fate, Gallery, Judgement, Likeness, Losses, Measurement, Member, NativeRules, Observation, ScoreSheet, Scorer, Sent, Survey,
};
use templar_node::position::Position;
use templar_node::recipe;
use templar_node::validator::collect::check_claims;
use templar_node::validator::evaluate::{Source, Subject, evaluate, read_shard};
use templar_node::validator::judge::loudness;
use templar_node::workspace::{WorkError, Workspace};
use templar_protocol::messages::RunDescriptor;
use templar_protocol::sampler::sample_digest;
use templar_protocol::{AccountId, Digest, Uid, Window, names};
use templar_store::{Bucket, Deadline, Http};
use templar_tensor::Executor;
use trail::Trail;

/// Earlier windows that are looked through for a state of scores.
const STATES_BACK: u64 = 24;
/// Longest answer to a request for a state of scores.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(120);

/// What is needed to judge.
pub struct Inputs {
    /// The sealed object.
    pub object: Bytes,
    /// Whose it should be, where that is known.
    pub owner: Option<(Uid, AccountId)>,
    /// The window that it should be of, where that is known.
    pub window: Option<Window>,
    /// Validators' buckets; the first one's scores count.
    pub buckets: Vec<Bucket>,
    /// Where the data set is; the places that the run names, when this is empty.
    pub data: Vec<Endpoint>,
    /// Connections to buckets.
    pub http: Http,
    /// What measures the losses.
    pub executor: Arc<dyn Executor>,
    /// Threads for it.
    pub threads: usize,
    /// A folder for shards of the data set.
    pub cache: PathBuf,
    /// What draws the sequences of a window that is not scored yet; the object's own digest without one.
    pub seed: Option<Digest>,
    /// Earlier windows whose objects are compared with; as many as the rules remember without a number.
    pub earlier: Option<usize>,
}

/// Why nothing can be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The file is no sealed object.
    #[error("the file is no sealed object: {0}")]
    Object(#[from] Refusal),
    /// No validator's bucket is known.
    #[error("no validator's bucket is known, so there is no run to judge by")]
    NoBucket,
    /// The run or its scores cannot be read.
    #[error(transparent)]
    Sheets(#[from] SheetsError),
}

/// The object with the run that it is judged by.
struct Case<'a> {
    inputs: &'a Inputs,
    header: Header,
    run: RunDescriptor,
    run_id: Digest,
}

/// Judges an object as the validators of its run would.
///
/// # Errors
/// It is no sealed object, or no validator's run can be read. That it would be refused is no error but the report's content.
pub async fn judge(inputs: &Inputs) -> Result<Report, JudgeError> {
    let header = Header::parse(&inputs.object)?;
    let first = inputs.buckets.first().ok_or(JudgeError::NoBucket)?;
    let run = sheets::read_run(first).await?;
    let case = Case { inputs, header, run: run.message, run_id: run.digest };
    let mut report = Report {
        object: Digest::of(&inputs.object),
        bytes: inputs.object.len() as u64,
        bytes_max: None,
        window: case.header.window,
        uid: case.header.uid,
        hotkey: case.header.hotkey,
        run: case.run_id,
        basis: None,
        gates: vec![],
        numbers: None,
    };
    case.identity(&mut report);
    let means = Means { data: &inputs.data, http: &inputs.http, executor: &inputs.executor, threads: inputs.threads, cache: &inputs.cache };
    let bench = match Bench::open(&means, &case.run, case.header.global_step).await {
        Ok(bench) => bench,
        Err(why) => {
            report.skip("structure", why);
            return Ok(report);
        }
    };
    let Some(opened) = case.open(&bench, &mut report).await else { return Ok(report) };
    if let Some(trail) = case.claims(&bench, &opened, &mut report).await {
        case.measure(bench, opened, trail, &mut report).await;
    }
    Ok(report)
}

impl Case<'_> {
    fn window(&self) -> Window {
        self.header.window
    }

    /// Whose it is, of which run and window.
    fn identity(&self, report: &mut Report) {
        let header = &self.header;
        let (named, ours) = (header.run_id.short(), self.run_id.short());
        report.require(
            "run",
            header.run_id == self.run_id,
            format!("it is of run {ours}"),
            format!("it is of run {named}, the network's is {ours}"),
        );
        if let Some((uid, hotkey)) = self.inputs.owner {
            let holds = (header.uid, header.hotkey) == (uid, hotkey);
            let wrong = format!("it names uid {} with {}, the node is uid {uid} with {hotkey}", header.uid, header.hotkey);
            report.require("owner", holds, format!("uid {uid} with hotkey {hotkey}"), wrong);
        }
        if let Some(window) = self.inputs.window {
            let holds = header.window == window;
            report.require("window", holds, format!("window {window}"), format!("it is of window {}, not of {window}", header.window));
        }
    }

    /// Size, seal, digest and structure.
    async fn open(&self, bench: &Bench, report: &mut Report) -> Option<Opened> {
        let (object, header) = (self.inputs.object.clone(), &self.header);
        let expect = Expect { run_id: self.run_id, uid: header.uid, hotkey: header.hotkey, window: header.window };
        let job = run_job(&bench.worker, move |work| {
            (templar_codec::max_object_bytes(work.layout()) as u64, work.open(&object, &expect), work.specs().len())
        });
        match job.await {
            Ok((most, opened, parameters)) => {
                report.bytes_max = Some(most);
                let (bytes, over) = (report.bytes, format!("{} bytes, an object of this run has at most {most}", report.bytes));
                report.require("oversized", bytes <= most, format!("{bytes} bytes of at most {most}"), over);
                match opened {
                    Ok(opened) => {
                        report.pass("structure", format!("seal, digest, bounds and the sections of {parameters} parameters are right"));
                        return Some(opened);
                    }
                    Err(refusal) => report.fail(refusal.kind(), refusal.to_string()),
                }
            }
            Err(stopped) => report.skip("structure", stopped.why()),
        }
        None
    }

    /// θ and samples, as a validator checks what an object claims. Gives the way to θ, where it could be gone.
    async fn claims(&self, bench: &Bench, opened: &Opened, report: &mut Report) -> Option<Trail> {
        let header = opened.header();
        let assigned = recipe::assignment(&self.run.hparams, header.uid, header.window, bench.reader.n_samples())
            .map_err(|error| error.to_string())
            .and_then(|assignment| bench.reader.ids(assignment.pool()).map_err(|error| error.to_string()))
            .map(|ids| (sample_digest(&ids), ids.len() as u64));
        let at = |theta| Position { window: header.window, global_step: header.global_step, theta, manifest: None };
        match assigned {
            Ok(assigned) => match check_claims(header, &at(header.theta), || assigned) {
                Ok(()) => report.pass("samples", format!("the {} samples that uid {} is assigned", assigned.1, header.uid)),
                Err((kind, why)) => report.fail(kind, why),
            },
            Err(why) => report.skip("samples", why),
        }
        match trail::follow(&self.inputs.buckets, &bench.worker, &self.run, self.run_id, header.window).await {
            Ok(trail) => {
                // The samples have had their say.
                let claimed = (header.sample_digest, header.sample_count);
                match check_claims(header, &at(trail.theta), || claimed) {
                    Ok(()) => report.pass("theta", format!("it starts from θ {}, {}", trail.theta.short(), trail.said)),
                    Err((kind, why)) => report.fail(kind, why),
                }
                Some(trail)
            }
            Err(stopped) => {
                report.skip("theta", stopped.why());
                None
            }
        }
    }

    /// What it does to the loss, what it resembles, and what the rules make of that.
    async fn measure(&self, bench: Bench, opened: Opened, trail: Trail, report: &mut Report) {
        let stage = match self.stage(&bench, &opened, &trail).await {
            Ok(stage) => stage,
            Err(why) => return report.skip("helps", why),
        };
        let held = stage.before.held().get(&self.header.hotkey).cloned();
        match &held {
            Some(why) => report.fail("held", format!("it would be measured, but not applied: {why}")),
            None => report.pass("held", "the miner's updates are applied"),
        }
        match self.weigh(&bench, opened, &stage).await {
            Ok((measurement, survey, weighed)) => self.conclude(stage, measurement, survey, weighed, report),
            Err(why) => report.skip("helps", why),
        }
    }

    /// The members, peers, seed and state of the window: a validator's own, or what stands for them.
    async fn stage(&self, bench: &Bench, opened: &Opened, trail: &Trail) -> Result<Stage, String> {
        let bucket = &self.inputs.buckets[0];
        let text = |error: SheetsError| error.to_string();
        let sheet = read_sheet(bucket, &names::score_sheet(self.window())).await.map_err(text)?;
        let sheet = sheet.map(|(sheet, _)| sheet).filter(|sheet| sheet.run == self.run_id && sheet.window() == self.window());
        let rules = NativeRules::for_run(&self.run.hparams.evaluation);
        let own = Member { uid: self.header.uid, hotkey: self.header.hotkey, fate: Fate::Accepted { object: Digest::of(opened.bytes()) } };
        let gallery = |rules: &NativeRules| self.inputs.earlier.unwrap_or(rules.likeness.memory_windows) as u64;
        if let Some(sheet) = sheet {
            let before = state(bucket, sheet.window()).await?;
            let listed = trail::judged(&self.inputs.buckets, self.run_id, &sheet, self.run.hparams.timetable.slots).await;
            let mut listed = listed.ok_or_else(|| format!("the manifest of window {} is in no bucket that is known", self.window()))?;
            listed.retain(|accepted| accepted.uid != own.uid);
            let objects = replay::objects(&bench.worker, self.run_id, self.window(), &listed, &self.inputs.buckets).await;
            let peers = objects.map_err(Stopped::why)?.opened;
            let gallery = trail::gallery(self, bench, &before.rules().likeness, gallery(before.rules())).await;
            return Ok(Stage::of_sheet(own, sheet, before, peers, gallery));
        }
        let (before, state_window) = self.last_state(bucket).await.unwrap_or_else(|| (Scorer::new(rules), None));
        let gallery = trail::gallery(self, bench, &before.rules().likeness, gallery(before.rules())).await;
        let seed = self.inputs.seed.unwrap_or_else(|| Digest::of(opened.bytes()));
        let clip_norms = trail.last.as_ref().map(|manifest| manifest.clip_norms.clone()).filter(|norms| !norms.is_empty());
        let clip_window = trail.last.as_ref().filter(|_| clip_norms.is_some()).map(|manifest| manifest.window);
        Ok(Stage {
            observation: Observation { window: self.window(), members: vec![own], ..Observation::default() },
            seed,
            before,
            peers: vec![],
            gallery,
            clip_norms: Some(clip_norms.unwrap_or_else(|| vec![f32::INFINITY; opened.sections().len()])),
            published: None,
            basis: Basis::Forecast { seed, clip_window, state_window },
        })
    }

    /// The state of the rules after the newest window before this one that was scored.
    async fn last_state(&self, bucket: &Bucket) -> Option<(Scorer, Option<Window>)> {
        for back in 1..=STATES_BACK {
            let window = Window(self.window().0.checked_sub(back)?);
            let Ok(Some((sheet, _))) = read_sheet(bucket, &names::score_sheet(window)).await else { continue };
            if sheet.run != self.run_id || sheet.window() != window {
                continue;
            }
            let after = recompute(&state(bucket, window).await.ok()?, &sheet).ok()?.after;
            return Some((after, Some(window)));
        }
        None
    }

    /// The losses of the object, and the likenesses of its window.
    async fn weigh(&self, bench: &Bench, opened: Opened, stage: &Stage) -> Result<(Measurement, Survey, Weighed), String> {
        let (evaluation, window, run_id) = (self.run.hparams.evaluation.clone(), self.window(), self.run_id);
        let assignment = recipe::assignment(&self.run.hparams, self.header.uid, window, bench.reader.n_samples());
        let assignment = assignment.map_err(|error| error.to_string())?;
        let (reader, seed, clip, peers) = (bench.reader.clone(), stage.seed, stage.clip_norms.clone(), stage.peers.clone());
        let (gallery, rules, held) = (stage.gallery.clone(), stage.before.rules().likeness.clone(), stage.held());
        let job = run_job(&bench.worker, move |work: &mut Workspace| -> Result<_, WorkError> {
            let mut all: Vec<&Opened> = peers.iter().chain([&opened]).collect();
            all.sort_by_key(|object| (held.contains(&object.header().uid), object.header().uid));
            let all: Vec<Opened> = all.into_iter().cloned().collect();
            let applied = all.iter().filter(|object| !held.contains(&object.header().uid));
            let clip = clip.unwrap_or_else(|| work.clip_norms(applied));
            let source = Source { n_samples: reader.n_samples(), read: &|rows| read_shard(&reader, rows) };
            let subjects = [Subject { object: &opened, assignment }];
            let mut evaluated = evaluate(work, &evaluation, &source, &seed, &subjects, &clip, || false)?;
            let sent: Vec<Sent> = all.iter().map(|object| sketch(work, object, &run_id)).collect();
            let survey = Survey { loudness: loudness(&all), ..gallery.survey(&rules, window, &sent) };
            let norms = norms(&opened);
            let cut = norms.iter().zip(&clip).filter(|(norm, clip)| clip_factor(f64::from(**clip), **norm) < 1.0).count();
            let weighed = Weighed {
                norm: norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
                clipped: [cut, norms.len()],
                peers: all.len() - 1,
            };
            let measured = evaluated.measurements.pop().ok_or_else(|| WorkError::Data("no sequence could be drawn".into()))?;
            Ok((measured, survey, weighed))
        });
        job.await.map_err(Stopped::why)?.map_err(|error| error.to_string())
    }

    /// What the rules make of it.
    fn conclude(&self, stage: Stage, measurement: Measurement, survey: Survey, weighed: Weighed, report: &mut Report) {
        let uid = self.header.uid;
        let Stage { mut observation, mut before, published, mut basis, gallery, .. } = stage;
        if let Basis::Scored { apart, .. } = &mut basis {
            *apart = published.as_ref().map(|published| apart_of(published, &measurement));
        }
        let mine = |likeness: &&Likeness| likeness.uid == uid || (likeness.other == uid && likeness.other_window == observation.window);
        let alike = survey.alike.iter().filter(mine).cloned().collect();
        let others = weighed.peers > 0;
        let loudness = survey.loudness.iter().find(|loudness| loudness.uid == uid && others).map(|loudness| loudness.ratio);
        let agreement = survey.agreements.iter().find(|agreement| agreement.uid == uid && others).map(|agreement| agreement.cosine);
        match observation.measurements.iter_mut().find(|other| other.uid == uid) {
            Some(place) => *place = measurement.clone(),
            None => observation.measurements.push(measurement.clone()),
        }
        observation.survey = survey;
        report.basis = Some(basis);
        let verdict = match before.observe(&observation) {
            Ok(verdict) => verdict,
            Err(error) => return report.skip("helps", error.to_string()),
        };
        let Some(judgement) = verdict.of(uid) else { return report.skip("helps", "the rules say nothing of it") };
        for check in &judgement.checks {
            report.require(&check.name, check.passed, check.reason.clone(), check.reason.clone());
        }
        for penalty in &judgement.penalties {
            report.fail(&penalty.kind, penalty.reason.clone());
        }
        report.numbers = numbers(&measurement, judgement, weighed).map(|numbers| Numbers {
            loudness,
            agreement,
            alike,
            compared_windows: gallery.windows().len(),
            ..numbers
        });
        if report.numbers.is_none() {
            report.skip("helps", "the losses say nothing: the model is broken");
        }
    }
}

/// A window as it is played for the object.
struct Stage {
    observation: Observation,
    seed: Digest,
    before: Scorer,
    peers: Vec<Opened>,
    gallery: Gallery,
    /// Clipping norms; those of the objects without any.
    clip_norms: Option<Vec<f32>>,
    /// What a validator has measured of this very object.
    published: Option<Measurement>,
    basis: Basis,
}

impl Stage {
    /// The window of `sheet` with `own` in it, in the place of whatever its miner has sent.
    fn of_sheet(own: Member, sheet: ScoreSheet, before: Scorer, peers: Vec<Opened>, gallery: Gallery) -> Self {
        let mut observation = sheet.observation;
        let sent = observation.member(own.uid).map(|member| member.fate.clone());
        let same = matches!((&sent, &own.fate), (Some(Fate::Accepted { object } | Fate::Held { object }), Fate::Accepted { object: own }) if object == own);
        let published = observation.measurements.iter().find(|measured| measured.uid == own.uid && same).cloned();
        if !same {
            // What was sent instead is no part of this.
            observation.members.retain(|member| member.uid != own.uid && member.hotkey != own.hotkey);
            observation.measurements.retain(|measured| measured.uid != own.uid);
            observation.uncommitted.retain(|uid| *uid != own.uid);
            observation.members.push(own);
            observation.members.sort_by_key(|member| member.uid);
        }
        let basis = Basis::Scored { validator: sheet.validator, apart: None };
        Self { observation, seed: sheet.seed.hash, before, peers, gallery, clip_norms: None, published, basis }
    }

    /// Whose objects are measured, but not applied.
    fn held(&self) -> Vec<Uid> {
        let held = self.observation.members.iter().filter(|member| matches!(member.fate, Fate::Held { .. }));
        held.map(|member| member.uid).collect()
    }
}

/// What was found beside the losses.
struct Weighed {
    norm: f64,
    clipped: [usize; 2],
    peers: usize,
}

async fn state(bucket: &Bucket, window: Window) -> Result<Scorer, String> {
    let name = names::score_state(window);
    let bytes = bucket.get(&name, STATE_BYTES_MAX, Deadline::within(REQUEST)).await;
    let bytes = bytes.map_err(|error| format!("the state of scores before window {window} cannot be read: {error}"))?;
    Scorer::read(&bytes).map_err(|error| format!("{name} is no state of scores: {error}"))
}

fn sketch(work: &Workspace, object: &Opened, run: &Digest) -> Sent {
    let header = object.header();
    Sent { uid: header.uid, hotkey: header.hotkey, sketch: Sketch::of(work.layout(), object, run) }
}

fn effect(losses: &Losses) -> Option<Effect> {
    let score = losses.gradient_score().ok()?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    Some(Effect {
        before: mean(&losses.before),
        after: mean(&losses.after),
        score: score.value,
        standard_error: score.standard_error,
        interval: crate::interval::interval(score.value, score.standard_error, score.sequences),
        sequences: score.sequences,
    })
}

fn numbers(measurement: &Measurement, judgement: &Judgement, weighed: Weighed) -> Option<Numbers> {
    Some(Numbers {
        norm: weighed.norm,
        loudness: None,
        clipped: weighed.clipped,
        random: effect(&measurement.random)?,
        own: effect(&measurement.own)?,
        advantage: judgement.advantage,
        agreement: None,
        alike: vec![],
        compared_windows: 0,
        credit: judgement.credit,
        reason: judgement.reason.clone(),
    })
}

/// The largest relative difference of two measurements of the same sequences; infinite when they are not.
fn apart_of(a: &Measurement, b: &Measurement) -> f64 {
    let sides = |m: &Measurement| [m.random.before.clone(), m.random.after.clone(), m.own.before.clone(), m.own.after.clone()];
    let mut largest = 0.0f64;
    for (a, b) in sides(a).iter().zip(&sides(b)) {
        if a.len() != b.len() {
            return f64::INFINITY;
        }
        for (a, b) in a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()) {
            let apart = (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
            largest = largest.max(if apart.is_finite() { apart } else { f64::INFINITY });
        }
    }
    largest
}

impl Stopped {
    /// The reason, whichever kind it is of.
    fn why(self) -> String {
        match self {
            Self::Missing(why) | Self::False(why) => why,
        }
    }
}

#[cfg(test)]
mod tests;
