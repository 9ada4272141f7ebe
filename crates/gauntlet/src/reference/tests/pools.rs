//! Who is evaluated, on which samples.

use super::*;
use crate::reference::{
    choose::{bin_index, bins, weighted_sample},
    samples::{Receipt, draw, draw_seed, pool, random_number},
};
use templar_protocol::sampler::{Pcg64, window_seed};

pub fn evaluation_bins(group: &Value) {
    let rules = rules().evaluation;
    for case in list(group) {
        let ratings: BTreeMap<Uid, Option<Rating>> = match case.get("ratings") {
            Some(ratings) => by_uid(ratings).into_iter().map(|(uid, value)| (uid, rating(value))).collect(),
            None => BTreeMap::new(),
        };
        let order = uids(&case["pool_order"]);
        assert_eq!(order.len() as u64, case["peers"].as_u64().unwrap());
        let pool: Vec<(Uid, Option<Rating>)> = order.iter().map(|uid| (*uid, ratings.get(uid).copied().flatten())).collect();
        let expected: Vec<Vec<Uid>> = by_uid(&case["bins"]).into_values().map(uids).collect();
        assert_eq!(bins(&rules, &pool), expected, "{} peers", case["peers"]);
    }
    assert_eq!([0.0, 0.39, 0.999].map(|draw| bin_index(&rules, draw, 5)), [0, 1, 4]);
    assert_eq!(bin_index(&rules, 0.999, 1), 0);
}

pub fn weighted_sample_without_replacement(group: &Value) {
    for case in list(group) {
        let candidates: Vec<(Uid, f64)> = uids(&case["candidates"]).into_iter().zip(numbers(&case["weights"])).collect();
        let mut draws = numbers(&case["uniform_draws_as_fraction_of_remaining_total"]).into_iter();
        let count = case["k"].as_u64().unwrap() as usize;
        let drawn = weighted_sample(&candidates, count, &mut || draws.next().unwrap());
        assert_eq!(drawn, uids(&case["expected"]), "{case}");
    }
    // A stop that is exactly at the end of a candidate's share is that candidate's.
    assert_eq!(weighted_sample(&[(Uid(4), 1.0), (Uid(7), 1.0)], 1, &mut || 0.5), [Uid(4)]);
    assert_eq!(weighted_sample(&[(Uid(4), f64::NAN), (Uid(7), 1.0), (Uid(9), -5.0)], 3, &mut || 0.9), [Uid(7)]);
}

pub fn rng_primitives(group: &Value) {
    let mut rng = Pcg64::new(group["seed"].as_u64().unwrap() as u32);
    for expected in list(&group["pcg64_first_u64"]) {
        assert_eq!(rng.next_u64().to_string(), expected.as_str().unwrap());
    }
    let choice = |seed, n, k| Pcg64::new(seed).choice(n, k).unwrap();
    let expected = |key: &str| list(&group[key]).iter().map(|value| value.as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(choice(0, 100, 10), expected("choice_100_10_seed0"));
    assert_eq!(choice(5, 10_001, 200)[..8], expected("choice_10001_200_seed5_first8"));
    assert_eq!(choice(123, 10_001, 201)[..8], expected("choice_10001_201_seed123_first8"));
}

pub fn training_pool_and_digest(group: &Value) {
    for case in list(&group["cases"]) {
        let whole = |key: &str| case[key].as_u64().unwrap();
        let mut rules = rules().evaluation;
        (rules.inner_steps, rules.target_batch_size) = (whole("inner_steps") as u32, whole("target_batch_size") as u32);
        rules.batch_size = rules.batch_size.min(rules.target_batch_size);
        let window = Window(whole("window"));
        assert_eq!(u64::from(window_seed(whole("uid"), window)), whole("seed"));
        let assignment = pool(&rules, whole("uid"), window, whole("dataset_len")).unwrap();
        let pool = assignment.pool();
        let expected = |key: &str| list(&case[key]).iter().map(|value| value.as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!((pool.len() as u64, pool.iter().sum::<u64>()), (whole("pool_size"), whole("sum")), "{case}");
        assert_eq!((&pool[..8], &pool[pool.len() - 4..]), (&expected("first_8")[..], &expected("last_4")[..]));
        let ids: Vec<u64> = pool.iter().map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x123_4567)).collect();
        let receipt = Receipt { digest: case["sample_digest"].as_str().unwrap().to_owned(), count: whole("sample_count") };
        assert_eq!(Receipt::of(&ids), receipt);
    }
}

#[test]
fn samples_are_drawn_from_the_pool_without_repeats_and_depend_on_the_clock() {
    let rules = rules().evaluation;
    let assignment = pool(&rules, 7, Window(62_834), 40_000).unwrap();
    let drawn = |clock| draw(&rules, assignment.pool(), draw_seed(7, Window(62_834), clock)).unwrap();
    let first = drawn(1);
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert_eq!((first.len(), distinct.len()), (8, 8));
    assert!(first.iter().all(|sample| assignment.pool().contains(sample)));
    assert_eq!((drawn(1), drawn(2) != first), (first, true));
    assert!(draw(&rules, &[1, 2, 3], 5).is_err());
    assert_eq!([0.0, 0.5, 0.999_999_999].map(|draw| random_number(&rules, draw)), [1000, 5_000_500, 10_000_000]);
}

#[test]
fn a_receipt_is_compared_and_changes_nothing() {
    let expected = Receipt::of(&[1, 2, 3]);
    let kind = |given| {
        let reason = Receipt::compare(given, &expected, Window(1), Uid(4));
        (reason.observed, reason.sentence)
    };
    assert_eq!(kind(Some(&expected)).0, Some(1.0));
    assert!(kind(None).1.contains("no receipt"));
    assert!(kind(Some(&Receipt::of(&[1, 2]))).1.contains("2 samples"));
}
