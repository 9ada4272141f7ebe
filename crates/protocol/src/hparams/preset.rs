//! The presets: one readable file of a base and of named overrides, embedded in the library.

use super::{Hparams, InvalidHparams, VERSION};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const TEXT: &str = include_str!("presets.json");

/// Why hyper-parameters could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// No preset of that name.
    #[error("there is no preset {name:?}; the presets are {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// All names, for people.
        known: String,
    },
    /// The text is not the JSON of the structure.
    #[error("the hyper-parameters cannot be read: {0}")]
    Json(#[source] serde_json::Error),
    /// The text is too long to be hyper-parameters.
    #[error("the hyper-parameters have {bytes} bytes; more than 1 MiB is refused")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// A value is out of its range.
    #[error(transparent)]
    Invalid(#[from] InvalidHparams),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    base: Map<String, Value>,
    presets: BTreeMap<String, Map<String, Value>>,
}

impl Hparams {
    /// The preset called `name`; letter case does not matter.
    ///
    /// # Errors
    /// There is no preset of that name.
    pub fn preset(name: &str) -> Result<Self, PresetError> {
        let mut file = file()?;
        let known = file.presets.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned();
        let Some((name, overrides)) = known.and_then(|known| file.presets.remove_entry(&known)) else {
            let known = file.presets.into_keys().collect::<Vec<_>>().join(", ");
            return Err(PresetError::Unknown { name: name.chars().take(80).collect(), known });
        };
        let mut merged = file.base;
        merged.insert("version".into(), file.version.into());
        merged.insert("name".into(), name.into());
        merge(&mut merged, overrides);
        let hparams: Self = serde_json::from_value(Value::Object(merged)).map_err(PresetError::Json)?;
        hparams.validate()?;
        Ok(hparams)
    }

    /// Names of all presets, sorted.
    pub fn preset_names() -> Vec<String> {
        file().map(|file| file.presets.into_keys().collect()).unwrap_or_default()
    }
}

fn file() -> Result<File, PresetError> {
    let file: File = serde_json::from_str(TEXT).map_err(PresetError::Json)?;
    debug_assert_eq!(file.version, VERSION, "the presets file has the version of the structure");
    Ok(file)
}

/// Puts `over` into `into`, group by group.
fn merge(into: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(group)), Value::Object(value)) => merge(group, value),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
