//! Scoring a window: which objects resemble which, who is evaluated, what that shows, and the sheet that tells of it.
//!
//! [`assess`] works on the workspace and takes most of the time; [`Judge::conclude`] is a pure step of the scorer. Neither knows the network, so a
//! simulator calls the same.

use super::evaluate::{Drawn, Evaluated, Source, Subject, evaluate};
use crate::workspace::{WorkError, Workspace};
use std::collections::BTreeMap;
use templar_codec::{Opened, Sketch};
use templar_gauntlet::sheet::Samples;
use templar_gauntlet::{Chosen, Dispute, Gallery, Measurement, Member, Observation, ScoreError, ScoreSheet, Scorer, Seed, Sent, Survey};
use templar_protocol::sampler::Assignment;
use templar_protocol::{Digest, GlobalStep, Uid, Window};

/// A window as a validator scores it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The window.
    pub window: Window,
    /// Outer steps in θ.
    pub global_step: GlobalStep,
    /// Digest of θ.
    pub theta: Digest,
    /// Digest of the manifest that decided it.
    pub manifest: Digest,
    /// What draws the evaluation.
    pub seed: Seed,
    /// The miners and what became of their objects.
    pub members: Vec<Member>,
    /// Of these, whose commits this validator had not read in time.
    pub uncommitted: Vec<Uid>,
    /// What the manifest and this validator do not agree in.
    pub disputes: Vec<Dispute>,
}

/// What a validator remembers from window to window.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Scores.
    pub scorer: Scorer,
    /// The objects of the last windows, as sketches.
    pub gallery: Gallery,
}

/// What the workspace has found out about a window.
#[derive(Clone, Debug, Default)]
pub struct Assessed {
    /// The objects as sketches.
    pub sent: Vec<Sent>,
    survey: Survey,
    chosen: Vec<Chosen>,
    drawn: Drawn,
    left_out: Vec<Uid>,
    /// What was measured, in the order of evaluation.
    pub measurements: Vec<Measurement>,
    /// The clipping norms of the objects.
    pub clip_norms: Vec<f32>,
}

/// Compares the objects `peers` with each other and with earlier ones, chooses who is evaluated, and measures them at the workspace's θ, which is as before
/// afterwards. `assignments` are those of the peers, by uid; `is_over` says that there is no time for another evaluation.
///
/// # Errors
/// The data or the engine failed; never a peer's fault.
pub fn assess(
    work: &mut Workspace,
    judge: &Judge,
    case: &Case,
    source: &Source,
    peers: &[Opened],
    assignments: &BTreeMap<Uid, Assignment>,
    is_over: impl FnMut() -> bool,
) -> Result<Assessed, WorkError> {
    let sketched =
        |peer: &Opened| Sent { uid: peer.header().uid, hotkey: peer.header().hotkey, sketch: Sketch::of(work.layout(), peer, &case.run) };
    let sent: Vec<Sent> = peers.iter().map(sketched).collect();
    let survey = judge.gallery.survey(&judge.scorer.rules().likeness, case.window, &sent);
    let chosen = judge.scorer.choose(&case.seed.hash, &case.members, &survey);
    let clip_norms = work.clip_norms(peers);
    let subjects: Vec<Subject> = chosen
        .iter()
        .filter_map(|chosen| {
            let object = peers.iter().find(|peer| peer.header().uid == chosen.uid)?;
            Some(Subject { object, assignment: assignments.get(&chosen.uid)?.clone() })
        })
        .collect();
    let evaluation = work.hparams().evaluation.clone();
    let Evaluated { measurements, drawn, left_out } =
        evaluate(work, &evaluation, source, &case.seed.hash, &subjects, &clip_norms, is_over)?;
    Ok(Assessed { sent, survey, chosen, drawn, left_out, measurements, clip_norms })
}

impl Judge {
    /// A judge who has seen nothing but `scorer`.
    pub fn new(scorer: Scorer) -> Self {
        Self { scorer, gallery: Gallery::new() }
    }

    /// Scores the window and writes its sheet.
    ///
    /// # Errors
    /// The window was scored before, or what was measured says nothing; then nothing has changed.
    pub fn conclude(&mut self, case: Case, assessed: Assessed) -> Result<ScoreSheet, ScoreError> {
        let Assessed { sent, survey, chosen, drawn, left_out, measurements, .. } = assessed;
        let samples = std::iter::once(Samples::of(None, &drawn.random))
            .chain(chosen.iter().zip(&drawn.own).map(|(chosen, rows)| Samples::of(Some(chosen.uid), rows)))
            .collect();
        let observation = Observation { window: case.window, members: case.members, uncommitted: case.uncommitted, measurements, survey };
        let (rules, state_before) = (self.scorer.rules().clone(), self.scorer.digest());
        let verdict = self.scorer.observe(&observation)?;
        self.gallery.keep(&rules.likeness, case.window, sent);
        Ok(ScoreSheet {
            run: case.run,
            rules_digest: rules.digest(),
            rules: rules.rule_set().name,
            manifest: case.manifest,
            theta_before: case.theta,
            global_step: case.global_step,
            seed: case.seed,
            chosen,
            left_out,
            samples,
            observation,
            disputes: case.disputes,
            state_before,
            state_after: self.scorer.digest(),
            verdict,
            weights: self.scorer.weights(),
        })
    }
}
