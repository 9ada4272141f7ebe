//! Rule sets as data: every number that scoring depends on, under a name and a digest that validators can publish.
//!
//! A rule set is a JSON file in `crates/gauntlet/rules/`, built into the binary. What always holds: a rule set that exists as a value
//! has passed [`RuleSet::validate`], so every number is finite and in its range, and equal digests mean equal rules.

use crate::native::NativeRules;
use crate::reference::ReferenceRules;
use serde::{Deserialize, Serialize};
use templar_protocol::Digest;

/// Longest text that is read as a rule set, in bytes.
pub const RULES_BYTES_MAX: usize = 64 * 1024;

/// The rule sets of this build, by name.
const EMBEDDED: [(&str, &str); 2] =
    [("templar-2.1", include_str!("../rules/templar-2.1.json")), ("native-1", include_str!("../rules/native-1.json"))];

/// Why a text is no rule set.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// No rule set of this name is built in.
    #[error("there is no rule set named {name:?}; this build has {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The text is too long.
    #[error("a rule set of {bytes} bytes is refused; at most {RULES_BYTES_MAX} are read")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text is not a rule set.
    #[error("the rule set cannot be read: {0}; compare it with the files in crates/gauntlet/rules")]
    Json(#[from] serde_json::Error),
    /// A number is out of its range.
    #[error("`{key}` of the rule set {name} is {value}; it must be {want}")]
    Range {
        /// Name of the rule set.
        name: String,
        /// The parameter, dotted.
        key: &'static str,
        /// Its value.
        value: f64,
        /// Its range in words.
        want: &'static str,
    },
}

/// A number that is not in its range; becomes [`RulesError::Range`] with the rule set's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutOfRange {
    /// The parameter, dotted.
    pub key: &'static str,
    /// Its value.
    pub value: f64,
    /// Its range in words.
    pub want: &'static str,
}

/// Parameters of a rule set, by the family that gives them their meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", content = "parameters", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rules {
    /// The rules of the Python reference, number by number.
    Reference(Box<ReferenceRules>),
    /// The native rules: weight follows the estimated contribution.
    Native(Box<NativeRules>),
}

/// A rule set: a name, a version and the parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// Its name, the stem of its file.
    pub name: String,
    /// Counts up with every change of a number or of a number's meaning; at least 1.
    pub version: u32,
    /// Family and parameters.
    pub rules: Rules,
}

impl RuleSet {
    /// The built-in rule set of this name.
    ///
    /// # Errors
    /// There is none; the message lists those that exist.
    pub fn named(name: &str) -> Result<Self, RulesError> {
        match EMBEDDED.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text),
            None => Err(RulesError::Unknown { name: name.to_owned(), known: Self::names().join(", ") }),
        }
    }

    /// Names of the built-in rule sets.
    pub fn names() -> Vec<&'static str> {
        EMBEDDED.iter().map(|(name, _)| *name).collect()
    }

    /// Reads and validates a rule set.
    ///
    /// # Errors
    /// The text is too long, is not a rule set, or a number is out of its range.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        if text.len() > RULES_BYTES_MAX {
            return Err(RulesError::TooLong { bytes: text.len() });
        }
        let set: Self = serde_json::from_str(text)?;
        set.validate()?;
        Ok(set)
    }

    /// Whether every number is finite and in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), RulesError> {
        let checked = match &self.rules {
            Rules::Reference(rules) => rules.validate(),
            Rules::Native(rules) => rules.validate(),
        };
        let version = in_range("version", f64::from(self.version), self.version >= 1, "at least 1");
        checked.and(version).map_err(|e| RulesError::Range { name: self.name.clone(), key: e.key, value: e.value, want: e.want })
    }

    /// blake3 over the compact JSON of the structure, keys in the order of declaration.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("numbers, texts and plain structures always serialise"))
    }
}

/// `Ok` when `holds` and the value is finite.
///
/// # Errors
/// Otherwise, with what was wanted.
pub fn in_range(key: &'static str, value: f64, holds: bool, want: &'static str) -> Result<(), OutOfRange> {
    if holds && value.is_finite() { Ok(()) } else { Err(OutOfRange { key, value, want }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_rule_set_is_valid_and_named_like_its_file() {
        for name in RuleSet::names() {
            let set = RuleSet::named(name).unwrap();
            assert_eq!(set.name, name);
            let again = RuleSet::parse(&serde_json::to_string(&set).unwrap()).unwrap();
            assert_eq!((again.digest(), &again), (set.digest(), &set));
        }
        let error = RuleSet::named("templar-1.0").unwrap_err().to_string();
        assert!(error.contains("templar-1.0") && error.contains("templar-2.1"), "{error}");
    }

    #[test]
    fn a_digest_changes_with_every_number() {
        fn numbers(value: &serde_json::Value, path: String, out: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| numbers(value, format!("{path}/{key}"), out)),
                serde_json::Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| numbers(value, format!("{path}/{i}"), out)),
                serde_json::Value::Number(_) => out.push(path),
                _ => {}
            }
        }
        let set = RuleSet::named("templar-2.1").unwrap();
        let value = serde_json::to_value(&set).unwrap();
        let mut paths = Vec::new();
        numbers(&value, String::new(), &mut paths);
        assert!(paths.len() > 50, "{} numbers", paths.len());
        for path in paths {
            let mut changed = value.clone();
            let slot = changed.pointer_mut(&path).unwrap();
            *slot = match slot.as_u64() {
                Some(whole) => (whole + 1).into(),
                None => (slot.as_f64().unwrap() * 1.5 + 0.125).into(),
            };
            let changed: RuleSet = serde_json::from_value(changed).unwrap();
            assert_ne!(changed.digest(), set.digest(), "{path}");
        }
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused_with_its_key() {
        let text = |from: &str, to: &str| {
            let text = EMBEDDED[0].1;
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        };
        for (from, to, key) in [
            ("\"alpha\": 0.05", "\"alpha\": 1.5", "indicator.alpha"),
            ("\"bins\": 5", "\"bins\": 0", "evaluation.bins"),
            ("\"beta\": 7.0", "\"beta\": 0.0", "rating.beta"),
            ("\"score_floor\": 0.0001", "\"score_floor\": -1", "score_floor"),
            ("\"gather_share\": 0.75", "\"gather_share\": 1.75", "weights.gather_share"),
            ("\"version\": 1", "\"version\": 0", "version"),
        ] {
            let error = RuleSet::parse(&text(from, to)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
        assert!(RuleSet::parse(&text("\"alpha\"", "\"alfa\"")).unwrap_err().to_string().contains("alfa"));
        assert!(RuleSet::parse(&" ".repeat(RULES_BYTES_MAX + 1)).unwrap_err().to_string().contains("at most"));
    }
}
