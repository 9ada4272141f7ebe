//! Weights on the wire (spec chain-and-wallet §B.5): what a client sends and what the chain stores.

use crate::fixed::Fixed;
use templar_protocol::Uid;

/// Turns weights into shares of the largest, as the Python client does: divides by the largest, rounds half to even on 0…65535, drops
/// zeros. Not finite or negative weights count as zero. Empty when all are zero: then there is nothing to send.
pub fn weights_to_u16(weights: &[(Uid, f32)]) -> Vec<(Uid, u16)> {
    let clean = |w: f32| if w.is_finite() && w > 0.0 { f64::from(w) } else { 0.0 };
    let largest = weights.iter().map(|&(_, w)| clean(w)).fold(0.0, f64::max);
    if largest <= 0.0 {
        return Vec::new();
    }
    weights.iter().map(|&(uid, w)| (uid, (clean(w) / largest * 65535.0).round_ties_even() as u16)).filter(|&(_, share)| share > 0).collect()
}

/// Scales so that the largest is 65535, with the chain's arithmetic: above 32768 by a factor divided beforehand.
pub fn max_upscale(weights: &[u16]) -> Vec<u16> {
    let largest = weights.iter().copied().max().unwrap_or(0);
    let (full, top) = (Fixed::whole(u16::MAX), Fixed::whole(largest));
    let factor = full.div(top);
    weights
        .iter()
        .map(|&w| {
            let value = Fixed::whole(w);
            if largest > 32_768 { value.mul(factor).round_u16() } else { scale_exactly(w, largest) }
        })
        .collect()
}

/// `round(w · 65535 / largest)` with the quotient truncated to 32 fraction bits first. The product exceeds the fixed-point range only
/// where it saturates on the chain too: never, as `w ≤ 32768`.
fn scale_exactly(w: u16, largest: u16) -> u16 {
    if largest == 0 {
        return 0;
    }
    let bits = ((u64::from(w) * 65535) << 32) / u64::from(largest);
    u16::try_from((bits + (1 << 31)) >> 32).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors(name: &str) -> Value {
        let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn stored_weights_equal_the_chains() {
        let all = vectors("yuma/epoch.json");
        let cases = all["max_upscale_u16"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let read = |key: &str| -> Vec<u16> { serde_json::from_value(case[key].clone()).unwrap() };
            assert_eq!(max_upscale(&read("in")), read("out"), "{case}");
        }
    }

    #[test]
    fn sent_weights_equal_the_python_clients() {
        let all = vectors("chain/chain.json");
        for case in all["client_weights_to_u16"].as_array().unwrap() {
            let uids: Vec<Uid> = serde_json::from_value(case["uids"].clone()).unwrap();
            let weights: Vec<f32> = serde_json::from_value(case["weights_f32"].clone()).unwrap();
            let out_uids: Vec<Uid> = serde_json::from_value(case["out_uids"].clone()).unwrap();
            let out: Vec<u16> = serde_json::from_value(case["out_values"].clone()).unwrap();
            let sent = weights_to_u16(&uids.into_iter().zip(weights).collect::<Vec<_>>());
            assert_eq!(sent, out_uids.into_iter().zip(out).collect::<Vec<_>>(), "{case}");
        }
    }

    #[test]
    fn hostile_weights_do_not_count() {
        assert!(weights_to_u16(&[(Uid(0), f32::NAN), (Uid(1), -1.0), (Uid(2), f32::INFINITY)]).is_empty());
        assert!(weights_to_u16(&[]).is_empty());
        assert!(max_upscale(&[]).is_empty());
    }
}
