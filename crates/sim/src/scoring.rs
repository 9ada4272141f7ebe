//! The one place that turns the simulation's facts into what the scoring rules look at.

use crate::lab::{Lab, list_digest};
use crate::record::Record;
use crate::seat::Seat;
use crate::store::NodeIndex;
use crate::world::World;
use std::cell::RefMut;
use std::collections::BTreeMap;
use templar_codec::Opened;
use templar_gauntlet::{Gallery, Measurement, Member, NativeRules, Observation, Scorer, Sent, Survey};
use templar_node::journal::{Entry, PeerEvaluation};
use templar_node::round::Round;
use templar_node::run::Run;
use templar_node::validator::collect::Collected;
use templar_node::validator::fates::{fates, uncommitted};
use templar_node::validator::judge::loudness;
use templar_protocol::messages::Manifest;
use templar_protocol::{AccountId, Digest, Uid, Window};
use templar_wallet::Signer;

/// What one validator keeps of all miners.
#[derive(Clone)]
pub struct Scores {
    scorer: Scorer,
    gallery: Gallery,
    /// Names what the gallery holds.
    gallery_key: Digest,
    /// The objects of the last window.
    last: Vec<Sent>,
    /// Whose listed objects this validator has not read a commit of.
    uncommitted: Vec<Uid>,
}

impl Scores {
    /// Scores that have seen nothing.
    pub fn new(run: &Run) -> Self {
        let scorer = Scorer::new(NativeRules::for_run(&run.hparams().evaluation));
        Self { scorer, gallery: Gallery::new(), gallery_key: Digest::default(), last: vec![], uncommitted: vec![] }
    }

    /// The members of a round with their fates, and which of their objects are alike.
    pub fn look(
        &mut self,
        index: NodeIndex,
        world: &World,
        round: &Round,
        manifest: &Manifest,
        collected: &Collected,
        peers: &[Opened],
    ) -> (Vec<Member>, Survey) {
        let own = &world.node(index).key.account_id();
        let members = fates(&round.roster.miners, own, manifest, collected, peers);
        self.uncommitted = uncommitted(manifest, collected);
        (members, self.survey(index, world, round.window, peers))
    }

    /// Which objects are alike, and keeps them for later windows.
    fn survey(&mut self, index: NodeIndex, world: &World, window: Window, peers: &[Opened]) -> Survey {
        let mut lab = world.lab.borrow_mut();
        let sent = |lab: &mut Lab| -> Vec<Sent> {
            let one = |peer: &Opened| Sent {
                uid: peer.header().uid,
                hotkey: peer.header().hotkey,
                sketch: lab.sketch(peer, &world.run.id).as_ref().clone(),
            };
            peers.iter().map(one).collect()
        };
        let sent = sent(&mut lab);
        let objects = list_digest(peers);
        let key = Digest::of(&[self.gallery_key.0, objects.0].concat());
        let rules = self.scorer.rules().likeness.clone();
        let survey =
            lab.survey(window, key, || Survey { loudness: loudness(peers), ..self.gallery.survey(&rules, window, &sent) }).as_ref().clone();
        if index == 0 {
            world.record.borrow_mut().gauge.compare(&sent, &self.last);
        }
        self.last.clone_from(&sent);
        self.gallery.keep(&rules, window, sent);
        self.gallery_key = key;
        survey
    }

    /// Who is evaluated.
    pub fn choose(&self, seed: &Digest, members: &[Member], survey: &Survey) -> Vec<Uid> {
        self.scorer.choose(seed, members, survey).into_iter().map(|chosen| chosen.uid).collect()
    }

    /// Takes in a window.
    ///
    /// # Errors
    /// Why the window was not scored.
    pub fn observe(
        &mut self,
        seat: &Seat,
        window: Window,
        members: Vec<Member>,
        survey: Survey,
        measurements: &[Measurement],
    ) -> Result<(), String> {
        let uncommitted = std::mem::take(&mut self.uncommitted);
        let observation = Observation { window, members, uncommitted, measurements: measurements.to_vec(), survey };
        let verdict = self.scorer.observe(&observation).map_err(|error| error.to_string())?;
        if seat.world.record.borrow().has_journal() {
            for measurement in measurements {
                let evaluation = Box::new(PeerEvaluation::of(&verdict, &self.scorer.weights(), measurement));
                seat.note(&Entry::Evaluated { window, evaluation });
            }
        }
        if seat.world.record.borrow().has_journal() {
            let measured = |uid: Uid| measurements.iter().any(|measurement| measurement.uid == uid);
            for judgement in verdict.peers.iter().filter(|judgement| !measured(judgement.uid)) {
                seat.note(&Entry::Judged { window, judgement: Box::new(judgement.clone()) });
            }
        }
        let mut record: RefMut<'_, Record> = seat.world.record.borrow_mut();
        let node = |hotkey| seat.node_of(hotkey);
        for judgement in verdict.peers.iter().filter(|judgement| !judgement.penalties.is_empty()) {
            let Some(miner): Option<NodeIndex> = node(&judgement.hotkey) else { continue };
            record.penalties.entry((seat.index, miner)).or_default().insert(window.0);
        }
        if seat.index == 0 {
            for measurement in measurements.iter().filter(|m| node(&m.hotkey).is_some_and(|n| seat.world.node(n).attack.is_none())) {
                record.gauge.add(measurement);
            }
        }
        Ok(())
    }

    /// Whom a manifest of this validator holds back.
    pub fn held(&self) -> BTreeMap<AccountId, String> {
        self.scorer.held()
    }

    /// The weights that the kept scores give now.
    pub fn weights(&self) -> Vec<(Uid, f64)> {
        self.scorer.weights().nonzero()
    }
}
