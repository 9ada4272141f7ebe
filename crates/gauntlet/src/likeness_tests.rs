use super::*;
use crate::native::NativeRules;
use crate::test_noise::Noise;

fn key(uid: u16) -> AccountId {
    AccountId([(uid % 251) as u8; 32])
}

/// A direction of norm about 1 for `seed`.
fn direction(seed: u64) -> Vec<f64> {
    let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9));
    (0..SKETCH_LEN).map(|_| noise.normal() / (SKETCH_LEN as f64).sqrt()).collect()
}

/// An object that is √common of the window's direction and for the rest a direction of its own.
fn sent(uid: u16, window: u64, common: f64, own: u64) -> Sent {
    let (shared, own) = (direction(1_000_000 + window), direction(own));
    let values: Vec<f64> = shared.iter().zip(&own).map(|(shared, own)| common.sqrt() * shared + (1.0 - common).sqrt() * own).collect();
    Sent { uid: Uid(uid), hotkey: key(uid), sketch: Sketch::from_values(&values).unwrap() }
}

fn honest(window: u64, count: u16, common: f64) -> Vec<Sent> {
    (0..count).map(|uid| sent(uid, window, common, 100 * window + u64::from(uid))).collect()
}

/// `keep` of the energy of `of`, the rest noise.
fn diluted(of: &Sent, uid: u16, keep: f64, seed: u64) -> Sent {
    let noise = direction(seed);
    let values: Vec<f64> =
        of.sketch.values().iter().zip(&noise).map(|(value, noise)| keep.sqrt() * f64::from(*value) + (1.0 - keep).sqrt() * noise).collect();
    Sent { uid: Uid(uid), hotkey: key(uid), sketch: Sketch::from_values(&values).unwrap() }
}

#[test]
fn independent_work_is_not_alike_however_much_is_common() {
    let rules = NativeRules::default().likeness;
    for common in [0.0, 0.3, 0.6, 0.9] {
        let mut gallery = Gallery::new();
        for window in 1..=4 {
            let objects = honest(window, 20, common);
            let survey = gallery.survey(&rules, Window(window), &objects);
            let alike: Vec<_> = survey.alike.iter().filter(|pair| pair.cosine >= rules.group_floor).collect();
            assert!(alike.is_empty(), "common {common}: {alike:?}");
            assert!(survey.within.median.abs() < 0.1 && survey.within.deviation < 0.2, "{:?}", survey.within);
            assert!(survey.agreements.iter().all(|agreement| common == 0.0 || agreement.cosine > 0.3), "{:?}", survey.agreements);
            gallery.keep(&rules, Window(window), objects);
        }
    }
}

#[test]
fn few_independent_objects_are_not_alike_and_copies_among_few_are() {
    let rules = NativeRules::default().likeness;
    for count in [3, 4, 5, 6, 8] {
        for common in [0.2, 0.5, 0.8] {
            let mut objects = honest(7, count, common);
            let survey = Gallery::new().survey(&rules, Window(7), &objects);
            assert!(survey.alike.iter().all(|pair| pair.cosine < 0.3), "{count} with {common} in common: {:?}", survey.alike);
            objects.push(diluted(&objects[0], count, 0.95, 3));
            let survey = Gallery::new().survey(&rules, Window(7), &objects);
            let alike: Vec<_> =
                survey.alike.iter().filter(|pair| pair.cosine >= rules.group_floor).map(|pair| (pair.uid.0, pair.other.0)).collect();
            assert_eq!(alike, [(0, count)], "{count} with {common} in common: {:?}", survey.alike);
        }
    }
}

/// The same object with its sign turned.
fn opposite(of: &Sent) -> Sent {
    let values: Vec<f64> = of.sketch.values().iter().map(|value| -f64::from(*value)).collect();
    Sent { sketch: Sketch::from_values(&values).unwrap(), ..of.clone() }
}

#[test]
fn who_sends_the_opposite_makes_nobody_alike_and_hides_no_copy() {
    let rules = NativeRules::default().likeness;
    for (count, opposed) in [(3, 1), (4, 2), (4, 3), (10, 3)] {
        for common in [0.3, 0.6, 0.8] {
            let mut gallery = Gallery::new();
            for window in [7, 8] {
                let mut objects = honest(window, count, common);
                objects.extend((0..opposed).map(|i| opposite(&sent(count + i, window, common, 100_000 + 100 * window + u64::from(i)))));
                let survey = gallery.survey(&rules, Window(window), &objects);
                assert!(survey.alike.iter().all(|pair| pair.cosine < 0.4), "{count}, {opposed}, {common}: {:?}", survey.alike);
                let against = |uid: u16| survey.agreements.iter().find(|agreement| agreement.uid == Uid(uid)).unwrap().cosine < 0.0;
                assert!((0..count + opposed).all(|uid| against(uid) == (uid >= count)), "{count}, {opposed}: {:?}", survey.agreements);
                let copy = diluted(&objects[0], count + opposed, 0.95, 3);
                let survey = gallery.survey(&rules, Window(window), &[&objects[..], &[copy]].concat());
                let alike = survey.alike.iter().filter(|pair| pair.cosine >= rules.group_floor).map(|pair| (pair.uid.0, pair.other.0));
                assert_eq!(alike.collect::<Vec<_>>(), [(0, count + opposed)], "{count}, {opposed}, {common}: {:?}", survey.alike);
                gallery.keep(&rules, Window(window), objects);
            }
        }
    }
}

#[test]
fn copies_of_a_former_window_are_found() {
    let rules = NativeRules::default().likeness;
    for common in [0.0, 0.5, 0.8] {
        let mut gallery = Gallery::new();
        let before = honest(1, 20, common);
        gallery.keep(&rules, Window(1), before.clone());
        gallery.keep(&rules, Window(2), honest(2, 20, common));
        let mut now = honest(3, 20, common);
        now.push(diluted(&before[7], 20, 1.0, 5));
        now.push(diluted(&before[8], 21, 0.8, 6));
        let survey = gallery.survey(&rules, Window(3), &now);
        let found = |uid: u16| survey.alike.iter().find(|pair| pair.uid == Uid(uid) && pair.other_window == Window(1));
        let exact = found(20).unwrap();
        assert!(exact.other == Uid(7) && exact.cosine > 0.99, "common {common}: {exact:?}");
        let part = found(21).unwrap();
        assert!(part.other == Uid(8) && part.cosine > 0.4, "common {common}: {part:?}");
        assert!((0..20).all(|uid| found(uid).is_none_or(|pair| pair.cosine < rules.replay_floor)));
    }
}

#[test]
fn one_trainer_behind_several_objects_is_found() {
    let rules = NativeRules::default().likeness;
    let mut now = honest(3, 12, 0.5);
    let trained = sent(12, 3, 0.5, 9999);
    now.extend((12..20).map(|uid| diluted(&trained, uid, if uid % 2 == 0 { 1.0 } else { 0.9 }, u64::from(uid))));
    let survey = Gallery::new().survey(&rules, Window(3), &now);
    let group = survey.alike.iter().filter(|pair| pair.cosine >= rules.group_floor);
    let (mut pairs, mut others) = (0, 0);
    for pair in group {
        if pair.uid.0 >= 12 && pair.other.0 >= 12 { pairs += 1 } else { others += 1 }
    }
    assert_eq!((pairs, others), (28, 0), "all pairs of the eight, and nobody else");
}

#[test]
fn the_order_of_objects_and_the_number_of_threads_make_no_difference() {
    let rules = NativeRules::default().likeness;
    let (mut gallery, mut now) = (Gallery::new(), honest(2, 9, 0.4));
    gallery.keep(&rules, Window(1), honest(1, 9, 0.4));
    let with = |threads: usize, now: &[Sent]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gallery.survey(&rules, Window(2), now))
    };
    let survey = with(1, &now);
    now.reverse();
    assert_eq!(with(3, &now), survey);
}

#[test]
fn memory_is_bounded() {
    let rules = NativeRules::default().likeness;
    let mut gallery = Gallery::new();
    for window in 1..40 {
        gallery.keep(&rules, Window(window), honest(window, 2, 0.2));
        assert!(gallery.windows().len() <= rules.memory_windows);
    }
    let many: Vec<Sent> = (0..300).map(|uid| sent(uid, 50, 0.1, 1)).collect();
    gallery.keep(&rules, Window(50), many);
    assert_eq!(gallery.shelves.back().unwrap().sent.len(), OBJECTS_MAX);
}

#[test]
fn nothing_and_nobody_are_no_trouble() {
    let rules = NativeRules::default().likeness;
    let nothing = Sent { uid: Uid(4), hotkey: AccountId([9; 32]), sketch: Sketch::from_values(&[0.0; SKETCH_LEN]).unwrap() };
    let survey = Gallery::new().survey(&rules, Window(1), &[nothing, sent(2, 1, 0.5, 3)]);
    assert_eq!((survey.empty, survey.alike.len(), survey.within.pairs), (vec![Uid(4)], 0, 0));
    assert_eq!(Gallery::new().survey(&rules, Window(1), &[]), Survey::default());
}
