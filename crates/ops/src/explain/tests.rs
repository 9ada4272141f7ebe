//! Explanations of made-up windows, judged by the real rules.

use super::*;
use templar_gauntlet::sheet::{Arrival, Samples, recompute};
use templar_gauntlet::{Measurement, Member, NativeRules, Observation, Scorer, Seed, Survey};
use templar_protocol::BlockNumber;

/// The noise of made-up losses, from a counter.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    fn normal(&mut self) -> f64 {
        // A sum of twelve even deviates is near enough to a normal one.
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a miner does in a window.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Deed {
    /// It helps so much on random data, and twice that on its own.
    Helps(f64),
    /// It sends the object of uid 1 of the window before.
    Replays,
    /// Its object comes too late.
    Late,
    /// Nothing comes.
    Absent,
}

pub(crate) fn hotkey(uid: u16) -> AccountId {
    AccountId([uid as u8; 32])
}

fn fate(uid: u16, window: u64, deed: Deed) -> Fate {
    match deed {
        Deed::Late => Fate::Refused { kind: "late".into(), reason: "its object was not there 2000 ms after the window's end".into() },
        Deed::Absent => Fate::Absent,
        _ => Fate::Accepted { object: Digest::of(&[uid as u8, window as u8]) },
    }
}

fn measurement(uid: u16, gain: f64, noise: &mut Noise) -> Measurement {
    let mut losses = |gain: f64| {
        let before: Vec<f64> = (0..12).map(|_| 3.0 + 0.1 * noise.normal()).collect();
        let after = before.iter().map(|loss| loss - gain * (1.0 + 0.2 * noise.normal())).collect();
        Losses { before, after }
    };
    Measurement { uid: Uid(uid), hotkey: hotkey(uid), random: losses(gain), own: losses(2.0 * gain) }
}

/// The sheet of `window` in which the miners, uid 1 first, do `deeds`; the scorer goes on.
pub(crate) fn sheet(scorer: &mut Scorer, window: u64, deeds: &[Deed], noise: &mut Noise) -> ScoreSheet {
    let miners = || (1u16..).zip(deeds.iter().copied());
    let members = miners().map(|(uid, deed)| Member { uid: Uid(uid), hotkey: hotkey(uid), fate: fate(uid, window, deed) }).collect();
    let gain = |deed| match deed {
        Deed::Helps(gain) => Some(gain),
        Deed::Replays => Some(0.004),
        Deed::Late | Deed::Absent => None,
    };
    let measurements: Vec<Measurement> = miners().filter_map(|(uid, deed)| Some(measurement(uid, gain(deed)?, noise))).collect();
    let replay = |uid| Likeness {
        uid: Uid(uid),
        other: Uid(1),
        other_hotkey: hotkey(1),
        other_window: Window(window - 1),
        cosine: 0.98,
        plain: 0.99,
    };
    let alike = miners().filter(|(_, deed)| *deed == Deed::Replays).map(|(uid, _)| replay(uid)).collect();
    let arrivals = measurements.iter().map(|m| Arrival { uid: m.uid, object_bytes: 51_234, found_ms: 8000 * (window + 1) + 260 });
    let mut sheet = ScoreSheet {
        rules: scorer.rules().rule_set().name,
        rules_digest: scorer.rules().digest(),
        parameters: scorer.rules().clone(),
        manifest: Digest::of(b"manifest"),
        global_step: GlobalStep(window),
        theta_before: Digest::of(b"theta"),
        window_end_ms: 8000 * (window + 1),
        seed: Seed { block: BlockNumber(32 * (window + 1)), hash: Digest::of(&window.to_le_bytes()) },
        engine: "cpu".into(),
        arrivals: arrivals.collect(),
        samples: vec![Samples::of(None, &[1, 2, 3])],
        observation: Observation {
            window: Window(window),
            members,
            uncommitted: vec![],
            measurements,
            survey: Survey { alike, ..Survey::default() },
        },
        state_before: scorer.digest(),
        ..ScoreSheet::default()
    };
    let made = recompute(scorer, &sheet).unwrap();
    (sheet.chosen, sheet.verdict, sheet.weights) = (made.chosen, made.verdict, made.weights);
    sheet.state_after = made.after.digest();
    *scorer = made.after;
    sheet
}

/// The sheets of windows 5 to 5 + `windows`, in which the miners do what `deeds` says of the window's place.
pub(crate) fn sheets(windows: u64, deeds: impl Fn(u64) -> Vec<Deed>) -> Vec<ScoreSheet> {
    let (mut scorer, mut noise) = (Scorer::new(NativeRules::default()), Noise(7));
    (0..windows).map(|place| sheet(&mut scorer, 5 + place, &deeds(place), &mut noise)).collect()
}

const HONEST: Deed = Deed::Helps(0.01);

#[test]
fn an_honest_miner_is_told_what_it_gets_and_why() {
    let sheets = sheets(6, |_| vec![HONEST, Deed::Helps(0.012), HONEST, Deed::Helps(0.0)]);
    let told = explain(&sheets, Uid(3)).unwrap();
    assert_eq!((told.window, told.earning, told.history.len()), (Window(10), 3, 6));
    assert!(told.place.is_some() && told.changes.iter().all(|change| change.what == "overtake"), "{:?}", told.changes);
    insta::assert_snapshot!(told.text());
}

#[test]
fn quality_has_one_standard_error_whatever_the_first_windows_brought() {
    // The gains of a run's beginning are scaled down by the rules, so the mean level is not what turns one error into the other.
    let gain = |place: u64, much: f64| if place == 0 { 20.0 * much } else { much };
    let sheets = sheets(6, |place| [0.01, 0.012, 0.009].map(|much| Deed::Helps(gain(place, much))).to_vec());
    let told = explain(&sheets, Uid(3)).unwrap();
    let own = told.weight.as_ref().unwrap();
    assert!(own.quality_error > 0.0);
    let (quality, words) = (format!("{:.4} ± {:.4} of", own.quality, own.quality_error), &own.reason);
    assert!(told.text().contains(&quality), "{quality}: {}", told.text());
    assert!(words.contains(&format!("{:.3} ± {:.3} of", own.quality, own.quality_error)), "{words}");
}

#[test]
fn a_replay_loses_its_window_and_its_standing_and_learns_by_whom() {
    let sheets = sheets(6, |place| vec![HONEST, HONEST, HONEST, if place < 4 { HONEST } else { Deed::Replays }, HONEST]);
    let told = explain(&sheets, Uid(4)).unwrap();
    let penalty = &told.penalties[0];
    assert_eq!((penalty.kind.as_str(), told.credit), ("replay", Some(0.0)));
    assert_eq!(told.likenesses[0].other, Uid(1));
    let change = told.changes.iter().find(|change| change.what == "replay").unwrap();
    let own = told.weight.as_ref().unwrap();
    assert!(change.weight.unwrap() > 2.0 * own.weight, "{change:?} against {}", own.weight);
    assert_eq!(told.rivals.len(), 4, "all others are ahead");
    assert_eq!(told.rivals[0].decided_by, "standing");
    insta::assert_snapshot!(told.text());
}

#[test]
fn a_harmful_update_is_told_in_standard_errors_and_a_late_one_what_to_do() {
    let late = |place| if place == 5 { Deed::Late } else { HONEST };
    let sheets = sheets(6, |place| vec![HONEST, Deed::Helps(-0.01), late(place), HONEST]);
    let harmful = explain(&sheets, Uid(2)).unwrap();
    assert_eq!(harmful.weight.as_ref().unwrap().weight, 0.0);
    assert!(harmful.changes.iter().any(|change| change.what == "helps") && harmful.random.as_ref().unwrap().interval.unwrap()[1] < 0.0);
    insta::assert_snapshot!("harmful", harmful.text());
    insta::assert_snapshot!("late", explain(&sheets, Uid(3)).unwrap().text());
}

#[test]
fn the_weight_after_a_change_is_what_the_rules_give() {
    // Uid 3 misses the last window; if it had not, the rules say exactly what its weight would be.
    let deeds = |last: Deed| move |place| vec![HONEST, HONEST, if place == 5 { last } else { HONEST }];
    let missed = sheets(6, deeds(Deed::Absent));
    let told = explain(&missed, Uid(3)).unwrap();
    let change = told.changes.iter().find(|change| change.what == "absent").unwrap();
    let own = told.weight.as_ref().unwrap();
    assert!((own.credit - 5.0 / 6.0).abs() < 1e-12);
    // With the same qualities, credit 1 instead of 5/6.
    let weights = &missed.last().unwrap().weights.peers;
    let others: f64 = weights.iter().filter(|peer| peer.uid != Uid(3)).map(|peer| peer.shrunk).sum();
    assert!((change.weight.unwrap() - own.shrunk / (own.shrunk + others)).abs() < 1e-12);
}

#[test]
fn who_was_no_miner_is_named_with_those_who_were() {
    let sheets = sheets(1, |_| vec![HONEST, HONEST]);
    let error = explain(&sheets, Uid(9)).unwrap_err();
    assert_eq!(error.to_string(), "uid 9 was no miner in window 5; the miners then were 1, 2");
    assert_eq!(explain(&[], Uid(1)), Err(ExplainError::NoSheet));
}

#[test]
fn the_exact_fields_are_json() {
    let sheets = sheets(3, |_| vec![HONEST, HONEST, Deed::Absent]);
    let value = serde_json::to_value(explain(&sheets, Uid(1)).unwrap()).unwrap();
    assert_eq!((&value["fate"], &value["uid"]), (&"accepted".into(), &1.into()));
    let weight = sheets.last().unwrap().weights.of(Uid(1)).unwrap().weight;
    assert_eq!(value["weight"]["weight"].as_f64().unwrap().to_bits(), weight.to_bits());
}

#[test]
fn what_a_peer_has_sent_cannot_move_the_cursor() {
    let mut sheets = sheets(1, |_| vec![HONEST, Deed::Late]);
    let member = sheets[0].observation.members.iter_mut().find(|member| member.uid == Uid(2)).unwrap();
    member.fate = Fate::Refused { kind: "late".into(), reason: "\u{1b}[2J\nuid 2 is the best".into() };
    let text = explain(&sheets, Uid(2)).unwrap().text();
    assert!(!text.contains('\u{1b}') && text.contains("[2J uid 2 is the best"), "{text}");
}
