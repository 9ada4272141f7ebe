//! A network of miners whose losses are drawn, as its validator's scorer sees it.

use crate::native::{NativeRules, Scorer, Verdict};
use crate::observation::{Background, Fate, Likeness, Member, Observation, Survey};
use crate::test_noise::Noise;
use crate::weights::Weights;
use crate::{Losses, Measurement};
use templar_protocol::{AccountId, Digest, Uid, Window};

pub fn key(uid: u16) -> AccountId {
    AccountId([uid as u8 + 1; 32])
}

/// What a miner does in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// Works: relative skill, share of the assigned data that it trained on.
    Work(f64, f64),
    /// Sends an update that changes the loss by nothing but noise.
    Noise,
    /// Sends an update that changes nothing.
    Zero,
    /// Sends its update with the sign turned.
    Flip,
    /// Sends an update that ruins the model.
    Ruin,
    /// Its object did not count for this reason.
    Refused(&'static str),
    Absent,
    Unreachable,
    Omitted,
}

pub const HONEST: Act = Act::Work(1.0, 1.0);

/// A network in which all losses are drawn: gains shrink as training goes on, differ from window to window, from miner to miner by `relative_noise`,
/// and from sequence to sequence.
pub struct Network {
    pub noise: Noise,
    pub scorer: Scorer,
    pub window: u64,
    pub relative_noise: f64,
    /// What is common to the evaluations of a window beside the gain, in units of it.
    pub common_noise: f64,
    /// Spread of one sequence's gain, in units of the mean gain.
    pub sequence_noise: f64,
    pub own: usize,
    pub random: usize,
    /// Additional gain of a sequence that was trained on, in units of the common gain.
    pub mark: f64,
    pub alike: Vec<Likeness>,
    pub empty: Vec<Uid>,
    pub uncommitted: Vec<Uid>,
    /// How widely the likenesses across windows are spread.
    pub spread: f64,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        let scorer = Scorer::new(NativeRules::default());
        let (noise, alike, empty, uncommitted) = (Noise(seed), vec![], vec![], vec![]);
        Self {
            noise,
            scorer,
            window: 0,
            relative_noise: 0.1,
            common_noise: 0.0,
            sequence_noise: 0.3,
            own: 16,
            random: 32,
            mark: 0.5,
            alike,
            empty,
            uncommitted,
            spread: 0.0,
        }
    }

    fn losses(&mut self, gain: f64, sequences: usize, marked: f64, mark: f64, spread: f64) -> Losses {
        let before: Vec<f64> = (0..sequences).map(|_| 3.0 + 0.5 * self.noise.normal()).collect();
        let after = before.iter().map(|loss| {
            let trained = if self.noise.uniform() < marked { mark } else { 0.0 };
            loss - 3.0 * (gain + trained + spread * self.noise.normal())
        });
        Losses { after: after.collect(), before: before.clone() }
    }

    fn measure(&mut self, uid: u16, act: Act, common: f64, hard: f64) -> Measurement {
        let relative = self.relative_noise * self.noise.normal();
        let noise = self.sequence_noise * common;
        let (gain, marked, spread) = match act {
            Act::Work(skill, share) => (common * (skill + relative - hard), share, noise),
            Act::Noise => (0.0, 0.0, noise),
            Act::Flip => (-common, 0.0, noise),
            Act::Ruin => (f64::NAN, 0.0, 0.0),
            _ => (0.0, 0.0, 0.0),
        };
        let random = self.losses(gain, self.random, 0.0, 0.0, spread);
        let own = self.losses(gain, self.own, marked, self.mark * common, spread);
        Measurement { uid: Uid(uid), hotkey: key(uid), random, own }
    }

    pub fn observation(&mut self, acts: &[Act]) -> Observation {
        self.window += 1;
        let common = 0.05 / (self.window as f64).sqrt() * (1.0 + 0.3 * self.noise.normal()).clamp(0.3, 2.0);
        let hard = if self.common_noise > 0.0 { self.common_noise * self.noise.normal() } else { 0.0 };
        let object = Digest::of(b"object");
        let mut measurements = Vec::new();
        let members = acts.iter().enumerate().map(|(uid, act)| {
            let uid = uid as u16;
            let fate = match act {
                Act::Refused(kind) => Fate::Refused { kind: (*kind).into(), reason: "a reason".into() },
                Act::Absent => Fate::Absent,
                Act::Unreachable => Fate::Unreachable { why: "no answer".into() },
                Act::Omitted => Fate::Omitted { object, why: "not listed".into() },
                _ => {
                    measurements.push(self.measure(uid, *act, common, hard));
                    Fate::Accepted { object }
                }
            };
            Member { uid: Uid(uid), hotkey: key(uid), fate }
        });
        let members = members.collect();
        let alike = self.alike.iter().map(|pair| Likeness { other_window: Window(self.window - pair.other_window.0), ..pair.clone() });
        let survey = Survey {
            alike: alike.collect(),
            empty: self.empty.clone(),
            across: Background { pairs: 9, median: 0.1, deviation: self.spread },
            ..Survey::default()
        };
        Observation { window: Window(self.window), members, uncommitted: self.uncommitted.clone(), measurements, survey }
    }

    pub fn step(&mut self, acts: &[Act]) -> (Verdict, Weights) {
        let observation = self.observation(acts);
        let verdict = self.scorer.observe(&observation).unwrap();
        (verdict, self.scorer.weights())
    }

    /// Mean weight of each miner over the last `windows` of `of` windows in which all do the same.
    pub fn settle(&mut self, acts: &[Act], of: usize, windows: usize) -> Vec<f64> {
        let mut sums = vec![0.0; acts.len()];
        for step in 0..of {
            let (_, weights) = self.step(acts);
            if step + windows >= of {
                sums.iter_mut().zip(&weights.peers).for_each(|(sum, peer)| *sum += peer.weight / windows as f64);
            }
        }
        sums
    }
}
