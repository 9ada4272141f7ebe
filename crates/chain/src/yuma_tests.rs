//! Consensus against the chain's own numbers, and properties that hold for any input.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/yuma/epoch.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_vector_is_equal_to_the_bit() {
    let mut epochs = 0;
    for scenario in vectors()["scenarios"].as_array().unwrap() {
        let params: YumaParams = serde_json::from_value(scenario["params"].clone()).unwrap();
        for (k, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
            let input: EpochInput = serde_json::from_value(step["in"].clone()).unwrap();
            let expected: EpochOutput = serde_json::from_value(step["out"].clone()).unwrap();
            let (output, bits) = epoch(&params, &input);
            let at = format!("{} step {k}", scenario["name"]);
            let read = |key: &str| -> Vec<i64> { serde_json::from_value(step["out"]["i32f32_bits"][key].clone()).unwrap() };
            let raw = |list: &[Fixed]| list.iter().map(|x| x.0).collect::<Vec<_>>();
            assert_eq!(raw(&bits.active_stake), read("active_stake"), "{at}: active stake");
            assert_eq!(raw(&bits.consensus), read("consensus"), "{at}: consensus");
            assert_eq!(raw(&bits.incentive), read("incentive"), "{at}: incentive");
            assert_eq!(raw(&bits.dividends), read("dividends"), "{at}: dividends");
            assert_eq!(output, expected, "{at}");
            epochs += 1;
        }
    }
    assert_eq!(epochs, 34);
}

#[test]
fn medians_equal_the_chains() {
    for case in vectors()["weighted_median"].as_array().unwrap() {
        let fixed = |x: f64| Fixed((x * 4_294_967_296.0) as i64);
        let list = |key: &str| -> Vec<Fixed> { case[key].as_array().unwrap().iter().map(|x| fixed(x.as_f64().unwrap())).collect() };
        let median = weighted_median(&list("stake"), &list("score"), fixed(case["majority"].as_f64().unwrap()));
        let expected = case["median"].as_f64().unwrap();
        assert!((median.0 as f64 / 4_294_967_296.0 - expected).abs() < 1e-9, "{case}: {median:?}");
    }
}

prop_compose! {
    fn any_input()(n in 1usize..8)(
        stake in proptest::collection::vec(0u64..1 << 50, n),
        weights in proptest::collection::vec(proptest::collection::btree_map(0u16..9, any::<u16>(), 0..6), n),
        bonds in proptest::collection::vec(proptest::collection::btree_map(0u16..9, any::<u16>(), 0..6), n),
        last_update in proptest::collection::vec(0u64..20, n),
        block_at_registration in proptest::collection::vec(0u64..20, n),
        validator_permit in proptest::collection::vec(any::<bool>(), n),
        emission in 0u64..1 << 60,
    ) -> EpochInput {
        let rows = |all: Vec<std::collections::BTreeMap<u16, u16>>| all.into_iter().map(|row| row.into_iter().collect()).collect();
        EpochInput {
            block: 20, stake, weights: rows(weights), last_update, block_at_registration, validator_permit,
            bonds: rows(bonds), oldest_commit: vec![None, Some(15)], last_epoch_block: 10, emission,
        }
    }
}

proptest! {
    #[test]
    fn no_more_is_paid_than_there_is(input in any_input(), yuma3: bool, liquid_alpha: bool, bonds_penalty: u16, kappa: u16) {
        let params = YumaParams {
            activity_cutoff: 10, bonds_moving_average: 900_000, bonds_penalty, kappa, max_allowed_validators: 3,
            owner_uid: Some(0), stake_threshold: 5, tempo: 10, yuma3, liquid_alpha,
            alpha_low: 6553, alpha_high: 58_982, alpha_sigmoid_steepness: 1000,
        };
        let (output, _) = epoch(&params, &input);
        let paid: u128 = output.server_emission.iter().chain(&output.validator_emission).map(|&x| u128::from(x)).sum();
        prop_assert!(paid <= u128::from(input.emission));
        prop_assert!(output.validator_permit.iter().filter(|&&p| p).count() <= 4);
    }

    #[test]
    fn a_miner_without_majority_earns_nothing(big in 600u64..1000, share in 1u16..) {
        // Uid 0 holds the majority and gives everything to uid 2; uid 1 gives something to uid 3.
        let input = EpochInput {
            block: 20, stake: vec![big, 1000 - big, 0, 0], weights: vec![vec![(2, u16::MAX)], vec![(3, share)], vec![], vec![]],
            last_update: vec![19; 4], block_at_registration: vec![0; 4], validator_permit: vec![true, true, false, false],
            bonds: vec![vec![]; 4], oldest_commit: vec![], last_epoch_block: 10, emission: 1_000_000,
        };
        let params = YumaParams {
            activity_cutoff: 100, bonds_moving_average: 900_000, bonds_penalty: u16::MAX, kappa: 32_767, max_allowed_validators: 8,
            owner_uid: None, stake_threshold: 0, tempo: 10, yuma3: false, liquid_alpha: false,
            alpha_low: 45_875, alpha_high: 58_982, alpha_sigmoid_steepness: 1000,
        };
        let (output, _) = epoch(&params, &input);
        prop_assert_eq!(output.server_emission[3], 0);
        prop_assert_eq!(output.incentive[2], u16::MAX);
        prop_assert_eq!(output.validator_emission[1], 0);
    }
}
