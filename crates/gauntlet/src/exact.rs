//! Numbers in JSON that come back bit for bit, whatever they are.
//!
//! A finite number is written as a JSON number with as many digits as it needs; JSON knows no other numbers, so NaN and the infinities
//! are written as texts. (Every NaN comes back as the same one; nothing here tells them apart.)

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A number as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Exact {
    Finite(f64),
    Text(String),
}

impl Exact {
    fn of(value: f64) -> Self {
        if value.is_finite() { Self::Finite(value) } else { Self::Text(value.to_string()) }
    }

    fn value<E: Error>(self) -> Result<f64, E> {
        match self {
            Self::Finite(value) => Ok(value),
            Self::Text(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(E::custom("a number, or one of the texts NaN, inf and -inf, is expected")),
            },
        }
    }
}

/// Lists of numbers: `#[serde(with = "exact::list")]`.
pub(crate) mod list {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| Exact::of(*value)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        Vec::<Exact>::deserialize(deserializer)?.into_iter().map(Exact::value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "list")]
        values: Vec<f64>,
    }

    proptest! {
        #[test]
        fn every_number_comes_back(bits in proptest::collection::vec(any::<u64>(), 0..20)) {
            let values: Vec<f64> = bits.into_iter().map(f64::from_bits).chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]).collect();
            let text = serde_json::to_string(&Holder { values: values.clone() }).unwrap();
            let back: Holder = serde_json::from_str(&text).unwrap();
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            prop_assert!(back.values.len() == values.len() && back.values.iter().zip(&values).all(same), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(serde_json::from_str::<Holder>(r#"{"values":["nan"]}"#).is_err());
    }
}
