//! State from disk: of this version, of another set of parameters, or of a version before.

use super::credit::WindowCredit;
use super::memory;
use super::quality::{WindowScore, level};
use super::rules::NativeRules;
use super::scorer::{PeerState, SCHEMA, Scorer};
use crate::GradientScore;
use crate::observation::MEMBERS_MAX;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use templar_protocol::{AccountId, Uid, Window};

/// Why kept scores cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text is no state of any version.
    #[error("the kept scores are damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of a later version.
    #[error("the kept scores have schema {found}, this version knows up to {SCHEMA}; use the version that wrote them, or remove them")]
    Schema {
        /// The schema found.
        found: u32,
    },
    /// A number in it is not finite or out of its range.
    #[error("the kept scores hold a number that no scorer keeps ({what})")]
    Number {
        /// Which one.
        what: &'static str,
    },
}

/// How kept scores were taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// As they were.
    Same,
    /// The parameters of the rules have changed since; what is kept of the miners stays.
    OtherRules,
    /// They were of a version before.
    Migrated,
}

/// State of the first version, schema 1: by uid, with ratings that the present rules have no use for.
#[derive(Deserialize)]
struct Old {
    last_window: Option<Window>,
    peers: BTreeMap<Uid, OldPeer>,
}

#[derive(Deserialize)]
struct OldPeer {
    hotkey: AccountId,
    scores: Vec<OldScore>,
}

#[derive(Deserialize)]
struct OldScore {
    window: Window,
    score: GradientScore,
}

/// Schema 2: as it is now, but that windows' typical scores were not kept, nor rules that are known now.
const BEFORE: u32 = 2;

/// Only enough to tell versions apart.
#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    schema: Option<u32>,
}

impl Scorer {
    /// Takes up the state in `text` under `rules`.
    ///
    /// # Errors
    /// It is damaged or of a later version.
    pub fn load(rules: NativeRules, text: &[u8]) -> Result<(Self, Loaded), LoadError> {
        match serde_json::from_slice::<Version>(text)?.schema {
            None => Ok((migrate(rules, serde_json::from_slice(text)?)?, Loaded::Migrated)),
            Some(SCHEMA) => {
                let mut scorer = Self::read(text)?;
                let loaded = if *scorer.rules() == rules { Loaded::Same } else { Loaded::OtherRules };
                scorer.adopt(rules);
                Ok((scorer, loaded))
            }
            Some(BEFORE) => {
                let scorer: Self = serde_json::from_value(renewed(&rules, serde_json::from_slice(text)?)?)?;
                scorer.check()?;
                Ok((scorer, Loaded::Migrated))
            }
            Some(found) => Err(LoadError::Schema { found }),
        }
    }

    /// Reads the state that a validator has published: as it is, under the rules that it names.
    ///
    /// # Errors
    /// It is no state of this version, or holds what no scorer keeps.
    pub fn read(text: &[u8]) -> Result<Self, LoadError> {
        let scorer: Self = serde_json::from_slice(text)?;
        if scorer.schema() != SCHEMA {
            return Err(LoadError::Schema { found: scorer.schema() });
        }
        scorer.rules().validate().map_err(|error| LoadError::Number { what: error.key })?;
        scorer.check()?;
        Ok(scorer)
    }

    /// Whether all that is kept is what a scorer keeps: a file may have been changed by hand.
    fn check(&self) -> Result<(), LoadError> {
        let fail = |what| Err(LoadError::Number { what });
        let rules = self.rules();
        if self.peers.len() > MEMBERS_MAX || self.counted.len() > rules.credit_windows {
            return fail("a list that is longer than the rules keep");
        }
        for state in self.peers.values() {
            if state.scores.len() > memory::evaluations_max(rules) || state.credits.len() > rules.credit_windows {
                return fail("a list that is longer than the rules keep");
            }
            let unit = |value: f64| (0.0..=1.0).contains(&value);
            if !unit(state.standing) || state.standing == 0.0 {
                return fail("standing");
            }
            if !state.credits.iter().all(|entry| entry.credit.is_none_or(unit)) {
                return fail("credit");
            }
            let marks = [state.work.sum, state.work.variance, state.work.weight];
            if !marks.iter().all(|value| value.is_finite() && *value >= 0.0) {
                return fail("work");
            }
            let sound = |entry: &WindowScore| {
                let GradientScore { value, standard_error, .. } = entry.score;
                (-1.0..=1.0).contains(&value)
                    && unit(entry.level)
                    && (-1.0..=1.0).contains(&entry.typical)
                    && standard_error.is_finite()
                    && standard_error >= 0.0
            };
            if !state.scores.iter().all(sound) {
                return fail("scores");
            }
        }
        Ok(())
    }
}

/// A state of schema [`BEFORE`] in the form of now, under `rules`. What was typical of a window was about its level.
fn renewed(rules: &NativeRules, mut state: Value) -> Result<Value, serde_json::Error> {
    let scores = state.get_mut("peers").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for entry in scores.filter_map(|peer| peer.get_mut("scores")?.as_array_mut()).flatten().filter_map(Value::as_object_mut) {
        if let Some(level) = entry.get("level").cloned() {
            entry.insert("typical".into(), level);
        }
    }
    if let Some(fields) = state.as_object_mut() {
        fields.insert("schema".into(), SCHEMA.into());
        fields.insert("rules".into(), serde_json::to_value(rules)?);
    }
    Ok(state)
}

fn migrate(rules: NativeRules, old: Old) -> Result<Scorer, LoadError> {
    // Levels were not kept: they follow from the scores of each window.
    let scored = |window: Window| {
        let of_window = move |peer: &OldPeer| peer.scores.iter().find(|entry| entry.window == window).map(|entry| entry.score.value);
        level(old.peers.values().filter_map(of_window))
    };
    let windows: BTreeSet<Window> = old.peers.values().flat_map(|peer| peer.scores.iter().map(|entry| entry.window)).collect();
    let levels: BTreeMap<Window, f64> = windows.iter().map(|window| (*window, scored(*window))).collect();
    let keep = rules.credit_windows.max(1);
    let counted: VecDeque<Window> = windows.iter().copied().skip(windows.len().saturating_sub(keep)).collect();
    let mut scorer = Scorer::new(rules);
    for (uid, peer) in &old.peers {
        let since = peer.scores.first().map_or(old.last_window.unwrap_or_default(), |entry| entry.window);
        let mut state = PeerState::new(*uid, since);
        state.last_evaluated = peer.scores.last().map(|entry| entry.window);
        let score = |entry: &OldScore| {
            let level = levels[&entry.window];
            WindowScore { window: entry.window, score: entry.score, level, typical: level }
        };
        let beyond = peer.scores.len().saturating_sub(scorer.rules().score_evaluations.max(1));
        state.scores = peer.scores.iter().skip(beyond).map(score).collect();
        // Who was evaluated in a window had contributed to it.
        let credit = |window: &Window| {
            let credit = peer.scores.iter().any(|entry| entry.window == *window);
            WindowCredit { window: *window, credit: Some(f64::from(u8::from(credit))), judged: credit }
        };
        state.credits = counted.iter().map(credit).collect();
        scorer.peers.insert(peer.hotkey, state);
    }
    (scorer.last_window, scorer.counted) = (old.last_window, counted);
    scorer.check()?;
    Ok(scorer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the version before has written it.
    fn old() -> String {
        let score =
            |window: u64, value: f64| format!(r#"{{"window":{window},"score":{{"value":{value},"standard_error":0.001,"sequences":32}}}}"#);
        let peer = |key: u8, values: &[f64]| {
            let scores: Vec<String> = values.iter().enumerate().map(|(i, value)| score(i as u64 + 5, *value)).collect();
            let (hotkey, scores) = (AccountId([key; 32]), scores.join(","));
            format!(r#"{{"hotkey":"{hotkey}","scores":[{scores}],"average":0.1,"rating":{{"mu":25.0,"sigma":8.0}}}}"#)
        };
        let config = r#"{"score_windows":10,"binary_score_ma_alpha":0.05,"rating":{"beta":7.0,"tau":0.1}}"#;
        let peers = format!(r#"{{"1":{},"2":{}}}"#, peer(1, &[0.02, 0.03, 0.02]), peer(2, &[0.02, 0.03, 0.02]));
        format!(r#"{{"config":{config},"last_window":7,"peers":{peers}}}"#)
    }

    #[test]
    fn the_version_before_is_taken_up() {
        let (scorer, loaded) = Scorer::load(NativeRules::default(), old().as_bytes()).unwrap();
        assert_eq!((loaded, scorer.last_window()), (Loaded::Migrated, Some(Window(7))));
        let weights = scorer.weights();
        assert_eq!(weights.nonzero(), [(Uid(1), 0.5), (Uid(2), 0.5)]);
        assert!((scorer.peer(&AccountId([1; 32])).unwrap().scores[1].level - 0.03).abs() < 1e-12);
        let (again, loaded) = Scorer::load(NativeRules::default(), &serde_json::to_vec(&scorer).unwrap()).unwrap();
        assert_eq!((again, loaded), (scorer, Loaded::Same));
    }

    #[test]
    fn the_schema_before_is_taken_up() {
        let (scorer, _) = Scorer::load(NativeRules::default(), old().as_bytes()).unwrap();
        let text = serde_json::to_string(&scorer).unwrap();
        let before = text.replace("\"schema\":3", "\"schema\":2").replace("\"score_evaluations_max\":80", "\"change_evaluations\":3");
        let mut before: Value = serde_json::from_str(&before).unwrap();
        for peer in before["peers"].as_object_mut().unwrap().values_mut() {
            peer["scores"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|entry| _ = entry.as_object_mut().unwrap().remove("typical").unwrap());
        }
        let before = before.to_string();
        assert!(before.contains("change_evaluations") && !before.contains("typical"), "{before}");
        assert_eq!(Scorer::load(NativeRules::default(), before.as_bytes()).unwrap(), (scorer, Loaded::Migrated));
        assert!(matches!(Scorer::read(before.as_bytes()), Err(LoadError::Json(_))), "a published state is under the rules that it names");
    }

    #[test]
    fn other_parameters_keep_what_is_known_of_miners() {
        let (scorer, _) = Scorer::load(NativeRules::default(), old().as_bytes()).unwrap();
        let rules = NativeRules { exponent: 2.0, ..NativeRules::default() };
        let (other, loaded) = Scorer::load(rules.clone(), &serde_json::to_vec(&scorer).unwrap()).unwrap();
        assert_eq!((loaded, other.rules(), &other.peers), (Loaded::OtherRules, &rules, &scorer.peers));
    }

    #[test]
    fn damage_is_named() {
        let (scorer, _) = Scorer::load(NativeRules::default(), old().as_bytes()).unwrap();
        let text = serde_json::to_string(&scorer).unwrap();
        let load = |text: &str| Scorer::load(NativeRules::default(), text.as_bytes());
        assert!(matches!(load("{"), Err(LoadError::Json(_))));
        assert_eq!(Scorer::read(text.as_bytes()).unwrap(), scorer);
        let endless = text.replace("\"score_evaluations_max\":80", "\"score_evaluations_max\":4000000000");
        assert!(matches!(Scorer::read(endless.as_bytes()), Err(LoadError::Number { what: "score_evaluations_max" })));
        assert!(matches!(load(&text.replace("\"schema\":3", "\"schema\":4")), Err(LoadError::Schema { found: 4 })));
        assert!(matches!(load(&text.replace("\"standing\":1.0", "\"standing\":7.0")), Err(LoadError::Number { what: "standing" })));
        assert!(matches!(load(&text.replace("\"level\":0.02", "\"level\":-1.0")), Err(LoadError::Number { .. } | LoadError::Json(_))));
    }
}
