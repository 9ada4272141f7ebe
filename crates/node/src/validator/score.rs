//! The validator's evaluation effect: from a gathered window to scores on disk, a sheet in the bucket, and entries in the journal.

use super::driver::Validator;
use super::evaluate::{Source, read_shard};
use super::fates::{HELD, disputes, fates, uncommitted};
use super::judge::{Assessed, Case, Judge, assess};
use super::machine::Outcome;
use super::sketches::Sketches;
use super::unpublished::SignedSheet;
use crate::journal::{Entry, PeerEvaluation, ScoredEntry};
use crate::node::{Node, NodeError};
use crate::position::Position;
use crate::signed;
use crate::state::write_atomically;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use templar_codec::Expect;
use templar_gauntlet::native::Loaded;
use templar_gauntlet::sheet::{SHEET_BYTES_MAX, STATE_BYTES_MAX};
use templar_gauntlet::{NativeRules, ScoreSheet, Scorer, Seed};
use templar_protocol::{Digest, Window, names};

/// The largest file of scores that is read.
const SCORES_BYTES_MAX: u64 = 256 << 20;
/// Share of a window after whose end no further evaluation is begun: what follows has to be done before the next window ends.
const EVALUATION_SHARE: f64 = 0.9;

impl Validator {
    pub(super) async fn evaluate(&mut self, at: &Position) -> Result<Outcome, NodeError> {
        if self.node.is_null_round(at.window) {
            // Everybody sends an empty object then, as the run asks: there is nothing to judge.
            return Ok(Outcome::Done);
        }
        let case = self.case(at).await?;
        let reader = self.node.shard(at.global_step).await?;
        let mut peers = self.node.take_peers();
        let (applied, held) = (peers.len(), self.held_objects(at.window));
        let mut assignments = BTreeMap::new();
        for uid in peers.iter().map(|peer| peer.header().uid).chain(held.iter().map(|(expect, _)| expect.uid)) {
            assignments.insert(uid, self.node.assignment(uid, at.window, reader.n_samples())?);
        }
        let until_ms = self.node.round().next_start_ms + (EVALUATION_SHARE * self.node.run.window_ms() as f64) as u64;
        let (ctx, judge) = (self.node.ctx.clone(), self.judge.clone());
        self.node.begin_profile(at.window).await;
        let job = self.node.worker.run(move |work| {
            let source = Source { n_samples: reader.n_samples(), read: &|rows| read_shard(&reader, rows) };
            peers.extend(held.into_iter().filter_map(|(expect, bytes)| work.open(&bytes, &expect).ok()));
            let assessed = assess(work, &judge, &case, &source, &peers, &assignments, || ctx.now_ms() >= until_ms);
            peers.truncate(applied);
            (case, assessed, peers)
        });
        let (mut case, assessed, peers) = job.await?;
        self.node.end_profile();
        self.node.put_peers(peers);
        let scored = match assessed {
            Ok(assessed) => {
                let manifest = self.decided.as_ref().map(|decided| &decided.manifest);
                case.disputes = manifest.map(|manifest| disputes(manifest, &self.collected, &assessed.clip_norms)).unwrap_or_default();
                self.score(case, assessed).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        Ok(match scored {
            Ok(()) => Outcome::Done,
            Err(why) => {
                self.node.ctx.warn(format!("window {} was not scored: {why}", at.window));
                Outcome::Failed(why)
            }
        })
    }

    /// The objects of `window` that the manifest holds back, as this validator has them.
    fn held_objects(&self, window: Window) -> Vec<(Expect, Bytes)> {
        let Some(decided) = self.decided.as_ref().filter(|decided| decided.manifest.window == window) else { return vec![] };
        let held = decided.manifest.refused.iter().filter(|refused| refused.kind == HELD);
        held.filter_map(|refused| {
            let hotkey = self.node.round().roster.member(refused.uid)?.hotkey;
            let expect = Expect { run_id: self.node.run.id, uid: refused.uid, hotkey, window };
            Some((expect, self.collected.objects.get(&refused.uid)?.clone()))
        })
        .collect()
    }

    async fn case(&self, at: &Position) -> Result<Case, NodeError> {
        let (manifest, digest) = self.decided.as_ref().map(|decided| (&decided.manifest, decided.digest)).unzip();
        let own = self.node.ctx.hotkey();
        let fated = |manifest| fates(&self.node.round().roster.miners, &own, manifest, &self.collected, self.node.peers());
        Ok(Case {
            run: self.node.run.id,
            window: at.window,
            global_step: at.global_step,
            theta: at.theta,
            manifest: digest.unwrap_or_default(),
            seed: self.evaluation_seed(at.window).await?,
            uncommitted: manifest.map(|manifest| uncommitted(manifest, &self.collected)).unwrap_or_default(),
            members: manifest.map(fated).unwrap_or_default(),
            disputes: vec![],
        })
    }

    /// What draws the sequences: the hash of the first block after the window, which no miner knew when it committed.
    async fn evaluation_seed(&self, window: Window) -> Result<Seed, NodeError> {
        let ctx = &self.node.ctx;
        let block = window.next().first_block(self.node.run.blocks_per_window());
        let hash = ctx.insist("read a block's hash", || ctx.chain.block_hash(block)).await?;
        let fallback = self.decided.as_ref().map_or([0; 32], |decided| decided.digest.0);
        Ok(Seed { block, hash: Digest(hash.map_or(fallback, |hash| hash.0)) })
    }

    /// Scores the window: first to disk, so that a restart cannot score it twice, then to the bucket and the journal.
    async fn score(&mut self, case: Case, assessed: Assessed) -> Result<(), Box<dyn std::error::Error>> {
        let mut judge = self.judge.clone();
        let before = serde_json::to_vec(&judge.scorer)?;
        let (window, sent) = (case.window, assessed.sent.clone());
        let mut sheet = judge.conclude(case, assessed)?;
        sheet.validator = self.node.ctx.uid;
        sheet.window_end_ms = self.node.round().next_start_ms;
        sheet.engine = self.engine.clone();
        sheet.arrivals = self.collected.arrivals(window);
        if let Err(error) = self.sketches.keep(&judge.scorer.rules().likeness, window, &sent) {
            self.node.ctx.warn(format!("the sketches of window {window} were not kept, after a restart its replays go unnoticed: {error}"));
        }
        let signed = self.signed_sheet(&sheet, before);
        if let Some(Err(error)) = signed.as_ref().map(|signed| self.unpublished.keep(signed)) {
            self.node.ctx.warn(format!("the score sheet of window {window} is lost if this validator stops before publishing it: {error}"));
        }
        write_atomically(&self.scores_path, &serde_json::to_vec(&judge.scorer)?)?;
        self.judge = judge;
        let published = match signed {
            Some(signed) => self.publish_sheet(window, signed).await,
            None => None,
        };
        self.note_scores(sheet, published);
        Ok(())
    }

    /// The sheet in its envelope, unless it would be too large for anybody to read.
    fn signed_sheet(&self, sheet: &ScoreSheet, before: Vec<u8>) -> Option<SignedSheet> {
        let (ctx, window) = (&self.node.ctx, sheet.observation.window);
        match signed::sign(sheet, &*ctx.key) {
            Ok(envelope) if envelope.len() as u64 <= SHEET_BYTES_MAX && before.len() as u64 <= STATE_BYTES_MAX => {
                Some(SignedSheet { envelope, before })
            }
            Ok(_) => {
                ctx.warn(format!("the score sheet of window {window} is too large to be read by anybody and will not be published"));
                None
            }
            Err(error) => {
                ctx.warn(format!("the score sheet of window {window} could not be signed: {error}"));
                None
            }
        }
    }

    /// Puts sheet and state into this validator's bucket; gives the sheet's digest when both are there.
    async fn publish_sheet(&self, window: Window, sheet: SignedSheet) -> Option<Digest> {
        let ctx = &self.node.ctx;
        let digest = signed::open::<ScoreSheet>(&sheet.envelope).ok()?.digest;
        // The state first: a sheet never names a state that is not there.
        let (before, envelope) = (Bytes::from(sheet.before), Bytes::from(sheet.envelope));
        let latest = (names::SCORES_LATEST.to_owned(), envelope.clone());
        for (name, bytes) in [(names::score_state(window), before), (names::score_sheet(window), envelope), latest] {
            if let Err(error) = ctx.bucket.put(&name, bytes).await {
                ctx.warn(format!("{name} was not published: {error}"));
                return None;
            }
        }
        if let Err(error) = self.unpublished.forget() {
            ctx.warn(format!("the published score sheet of window {window} will be published again after a restart: {error}"));
        }
        Some(digest)
    }

    /// Publishes the sheet that a former process has scored with and not brought into the bucket.
    pub(super) async fn publish_left_over(&self) {
        let Some((signed, sheet)) = self.unpublished.left(&self.node.ctx.hotkey(), self.judge.scorer.last_window()) else { return };
        let published = self.publish_sheet(sheet.observation.window, signed).await;
        self.note_scores(sheet, published);
    }

    fn note_scores(&self, sheet: ScoreSheet, published: Option<Digest>) {
        let (ctx, window) = (&self.node.ctx, sheet.observation.window);
        for measurement in &sheet.observation.measurements {
            let evaluation = Box::new(PeerEvaluation::of(&sheet.verdict, &sheet.weights, measurement));
            ctx.note(Entry::Evaluated { window, evaluation });
        }
        for judgement in &sheet.verdict.peers {
            if judgement.random.is_none() {
                ctx.note(Entry::Judged { window, judgement: Box::new(judgement.clone()) });
            }
        }
        ctx.note(Entry::Scored(Box::new(ScoredEntry::new(sheet, published))));
    }
}

/// The scores of a former process, or fresh ones; damage is said and costs the history, not the validator.
pub(super) fn load_judge(node: &Node, path: &Path, sketches: &Sketches) -> Judge {
    let rules = NativeRules::for_run(&node.run.hparams().evaluation);
    let fresh = || Judge::new(Scorer::new(rules.clone()));
    let bytes = match std::fs::metadata(path).and_then(|meta| if meta.len() > SCORES_BYTES_MAX { Ok(vec![]) } else { std::fs::read(path) })
    {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return fresh(),
        Err(error) => {
            node.ctx.warn(format!("the scores in {} cannot be read, starting without: {error}", path.display()));
            return fresh();
        }
    };
    match Scorer::load(rules.clone(), &bytes) {
        Ok((scorer, loaded)) => {
            match loaded {
                Loaded::Same => {}
                Loaded::OtherRules => node.ctx.warn("the rules of scoring have changed; the scores kept so far go on under the new ones"),
                Loaded::Migrated => node.ctx.warn("the scores of the version before were taken up"),
            }
            let last = scorer.last_window().unwrap_or_default();
            let gallery = sketches.load(&scorer.rules().likeness, last);
            Judge { scorer, gallery }
        }
        Err(error) => {
            node.ctx.warn(format!("the scores in {} cannot be taken up, starting without: {error}", path.display()));
            fresh()
        }
    }
}
