//! Twelve-bit index packing of the reference's wire format (spec wire-protocol §2.5), strictly: exact lengths, no broadcasting.
//!
//! Needed for compatibility with `templar-2.1` objects only; the native container codes gaps.

/// Why indices could not be packed or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Pairs are packed, so the count must be even.
    #[error("{count} indices cannot be packed: their number must be even")]
    OddCount {
        /// Number of indices.
        count: usize,
    },
    /// An index of more than 12 bits.
    #[error("index {index} does not fit in 12 bits")]
    TooLarge {
        /// The index.
        index: u16,
    },
    /// A buffer whose length is not that of the count.
    #[error("{bytes} bytes do not hold {count} packed indices, which take exactly three bytes per pair")]
    Length {
        /// Bytes given.
        bytes: usize,
        /// Indices expected.
        count: usize,
    },
}

/// Packs an even number of indices below 4096, two in three bytes.
///
/// # Errors
/// On an odd count or an index of 4096 or more.
pub fn pack(indices: &[u16]) -> Result<Vec<u8>, PackError> {
    if !indices.len().is_multiple_of(2) {
        return Err(PackError::OddCount { count: indices.len() });
    }
    if let Some(index) = indices.iter().find(|index| **index >= 4096) {
        return Err(PackError::TooLarge { index: *index });
    }
    let pairs = indices.as_chunks::<2>().0;
    Ok(pairs.iter().flat_map(|[a, b]| [*a as u8, (a >> 8) as u8 | (b << 4) as u8, (b >> 4) as u8]).collect())
}

/// Unpacks exactly `count` indices.
///
/// # Errors
/// On an odd count, or when `bytes` has not exactly three bytes per pair.
pub fn unpack(bytes: &[u8], count: usize) -> Result<Vec<u16>, PackError> {
    if !count.is_multiple_of(2) {
        return Err(PackError::OddCount { count });
    }
    let (triples, rest) = bytes.as_chunks::<3>();
    if !rest.is_empty() || triples.len() != count / 2 {
        return Err(PackError::Length { bytes: bytes.len(), count });
    }
    let pair = |[x, y, z]: &[u8; 3]| {
        let (x, y, z) = (u16::from(*x), u16::from(*y), u16::from(*z));
        [x | (y & 15) << 8, y >> 4 | z << 4]
    };
    Ok(triples.iter().flat_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn flat(value: &Value, out: &mut Vec<u16>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| flat(item, out)),
            other => out.push(other.as_u64().unwrap() as u16),
        }
    }

    fn indices(value: &Value) -> Vec<u16> {
        let mut out = Vec::new();
        flat(value, &mut out);
        out
    }

    #[test]
    fn the_reference_packs_alike_and_its_lax_cases_are_refused() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wire/pack12.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        for case in json["pack"].as_array().unwrap() {
            let indices = indices(&case["indices"]);
            let packed = pack(&indices).unwrap();
            assert_eq!(hex::encode(&packed), case["packed_hex"].as_str().unwrap());
            assert_eq!(unpack(&packed, indices.len()).unwrap(), indices);
        }
        for case in json["pack_rejects"].as_array().unwrap() {
            assert!(pack(&indices(&case["indices"])).is_err());
        }
        for case in json["unpack_edge_cases"].as_array().unwrap() {
            let bytes = hex::decode(case["packed_hex"].as_str().unwrap()).unwrap();
            let count: u64 = case["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
            match unpack(&bytes, count as usize) {
                Ok(got) => assert_eq!(got, indices(&case["unpacked"])),
                Err(error) => assert!(bytes.len() != count as usize * 3 / 2, "{error}"),
            }
        }
    }

    proptest! {
        #[test]
        fn packed_indices_survive(pairs in prop::collection::vec((0u16..4096, 0u16..4096), 0..100)) {
            let indices: Vec<u16> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
            prop_assert_eq!(unpack(&pack(&indices).unwrap(), indices.len()).unwrap(), indices);
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>, count in 0usize..64) {
            if let Ok(indices) = unpack(&bytes, count) {
                prop_assert_eq!(pack(&indices).unwrap(), bytes);
            }
        }
    }
}
