//! The view of made-up networks, at the sizes of small and large terminals and at all sizes between.

#![allow(clippy::unwrap_used)]

use super::super::earnings::Earnings;
use super::super::progress::{Progress, made_up};
use super::draw::draw;
use super::scene::{Agreement, Scene, Setting};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Duration;
use templar_gauntlet::Penalty;
use templar_node::journal::{PeerEvaluation, TrainingEntry, WindowEntry};
use templar_protocol::{Digest, GlobalStep, Uid, Window};

const WINDOW_MS: u64 = 8000;

fn setting() -> Setting {
    Setting { dir: "/srv/train/localnet".into(), window_ms: Some(WINDOW_MS), windows: Some(20) }
}

fn entry(number: u64, uid: u16, miners: u16) -> WindowEntry {
    let falling = 2.2 + 3.3 * (-(number as f64) / 4.0).exp();
    let phases: &[(&str, u64)] = match uid {
        0 => &[("await_end", 5210), ("collect", 1240), ("evaluate", 1100), ("apply", 310), ("publish", 95), ("weights", 45)],
        _ => &[("train", 6480), ("await_end", 610), ("manifest", 420), ("compress", 230), ("gather", 160), ("apply", 90), ("commit", 10)],
    };
    let training = TrainingEntry {
        steps: 24,
        entry_loss: falling + 0.05,
        last_loss: falling - 0.1,
        tokens: 98_304,
        tokens_s: 15_170.0 - 300.0 * f64::from(uid),
        gradient_norm: 0.912,
        residual_norm: 1.84,
        residual_largest: 0.02,
        residual_not_finite: 0,
        object_bytes: 61_440,
        upload_margin_ms: Some(1720),
        learning_rate: 4e-3,
        data_wait_ms: 0,
        offload_ms: 0,
        restore_ms: 0,
    };
    let refused = miners > 2 && number.is_multiple_of(3);
    WindowEntry {
        window: Window(number),
        global_step: GlobalStep(number + 1),
        stepped: true,
        state_digest: Digest::of(&number.to_le_bytes()),
        manifest: Some(Digest::of(b"manifest")),
        gathered: (1..=miners - u16::from(refused)).map(Uid).collect(),
        refused: refused.then(|| (Uid(miners), "late: the object came 412 ms after the upload window".to_owned())).into_iter().collect(),
        from_copies: if number.is_multiple_of(2) { vec![Uid(1)] } else { vec![] },
        gather_success: if refused { 0.67 } else { 1.0 },
        object_bytes: 61_440 * u64::from(miners - u16::from(refused)),
        training: (uid > 0).then_some(training),
        held_out_loss: (uid == 0).then_some(falling),
        phases_ms: phases.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect(),
        host_bytes: 187_000_000 + u64::from(uid) * 1_000_000,
        store_bytes: [1_200_000 * (number + 1), 61_440 * (number + 1)],
        ..WindowEntry::default()
    }
}

fn evaluation(uid: u16) -> PeerEvaluation {
    let rank = f64::from(uid);
    PeerEvaluation {
        uid: Uid(uid),
        own_loss: [2.412, 2.371 + rank / 1e3],
        random_loss: [2.433, 2.401 + rank / 1e3],
        gradient_score: 0.0132 - 0.006 * rank,
        standard_error: 0.0021,
        advantage: 0.61 - 0.05 * rank,
        standing: 1.0 - 0.1 * rank,
        weight: 0.5 / rank,
        ..PeerEvaluation::default()
    }
}

fn earnings(uid: u16, miners: u16) -> Earnings {
    if uid == 0 {
        return Earnings { stake_rao: 10_000_000_000_000, dividends: 1.0, emission_rao: 4_100_000_000, ..Earnings::default() };
    }
    let share = 1.0 / f64::from(miners);
    let emission_rao = 4_100_000_000 / u64::from(miners);
    Earnings { stake_rao: 12 * emission_rao, incentive: share, emission_rao, ..Earnings::default() }
}

/// A network of `miners` miners that has ended `windows` windows.
fn lived(miners: u16, windows: u64) -> Progress {
    let mut progress = made_up::network(miners);
    for number in 0..windows {
        let window = progress.windows.entry(number).or_default();
        window.ended = Some(Duration::from_millis(10_000 + number * 8120));
        for node in &mut progress.nodes {
            let entry = entry(number, node.uid.0, miners);
            window.entries.insert(node.name.clone(), entry.clone());
            node.last = Some(entry);
        }
    }
    progress.evaluations = (1..=miners).map(|uid| (Uid(uid), evaluation(uid))).collect();
    progress.weights = (1..=miners).map(|uid| (Uid(uid), 1.0 / f64::from(miners))).collect();
    progress.earnings = (0..=miners).map(|uid| (Uid(uid), earnings(uid, miners))).collect();
    progress
}

fn screen(progress: &Progress, width: u16, height: u16) -> String {
    let setting = setting();
    let elapsed = Duration::from_millis(10_000 + 8120 * (progress.windows.len() as u64).saturating_sub(1) + 3400);
    // The validator has just spoken, the others at the start.
    let said: Vec<Duration> = progress.nodes.iter().map(|node| if node.validates { elapsed } else { Duration::from_secs(21) }).collect();
    let scene = Scene { setting: &setting, progress, elapsed, said: &said };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(&scene, frame.area(), frame.buffer_mut())).unwrap();
    let cells = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| cells[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

fn snapshot(name: &str, screen: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, screen));
}

#[test]
fn an_attacker_is_seen_with_what_it_is_penalised_for() {
    let mut progress = lived(3, 13);
    assert!(!screen(&progress, 160, 40).contains("penalty"), "a network in peace has no such column");
    progress.nodes[3].name = "sign-flip-0".into();
    progress.nodes[3].attacks = true;
    let penalty = Penalty { kind: "harmful".into(), factor: 0.5, before: 1.0, after: 0.5, reason: "why".into() };
    progress.penalties.insert(Uid(3), (12, vec![penalty]));
    let screen = screen(&progress, 160, 40);
    assert!(screen.contains("penalty") && screen.contains("sign-flip-0") && screen.contains("harmful in 12"), "{screen}");
}

#[test]
fn who_joined_from_elsewhere_is_shown_by_what_the_chain_and_the_validator_say() {
    let mut progress = lived(3, 13);
    progress.nodes.pop();
    let screen = screen(&progress, 160, 40);
    let joined: Vec<&str> = screen.lines().filter(|line| line.contains("(joined)")).collect();
    assert_eq!(joined.len(), 2, "{screen}");
    assert!(joined[0].contains("0.333") && joined[0].ends_with("late"), "{screen}");
    assert!(joined[1].starts_with("(joined) 3") && joined[1].contains("1.367"), "{screen}");
}

fn troubled() -> Progress {
    let mut progress = lived(3, 13);
    progress.nodes[3].message = Some("the object of window 11 was not put: the bucket did not answer\nwithin 2 s".into());
    progress.nodes[0].message = Some("resync: θ differs from the majority's".into());
    progress.windows.get_mut(&12).unwrap().entries.get_mut("miner-1").unwrap().state_digest = Digest::of(b"another");
    progress
}

#[test]
fn a_small_terminal_shows_the_essentials() {
    snapshot("small", &screen(&lived(3, 13), 80, 24));
}

#[test]
fn a_large_terminal_shows_everything() {
    snapshot("large", &screen(&lived(3, 13), 200, 60));
}

#[test]
fn trouble_is_loud_on_a_small_terminal() {
    snapshot("small_trouble", &screen(&troubled(), 80, 24));
}

#[test]
fn trouble_is_loud_on_a_large_terminal() {
    snapshot("large_trouble", &screen(&troubled(), 200, 60));
}

#[test]
fn a_start_says_that_it_is_one() {
    snapshot("start", &screen(&made_up::network(3), 80, 24));
}

#[test]
fn many_miners_leave_room_for_the_rest() {
    snapshot("many", &screen(&lived(40, 13), 80, 24));
}

/// All small sizes, where parts are left out, and some large ones.
const SIZES: [u16; 21] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17, 21, 24, 33, 60, 81, 130, 250];

#[test]
fn no_size_and_no_network_makes_it_panic() {
    let mut odd = lived(2, 3);
    odd.unigram_entropy = f64::NAN;
    odd.evaluations.get_mut(&Uid(1)).unwrap().gradient_score = 1e300;
    odd.windows.get_mut(&1).unwrap().entries.get_mut("validator-0").unwrap().held_out_loss = Some(f64::INFINITY);
    odd.windows.get_mut(&2).unwrap().ended = None;
    odd.nodes[1].last.as_mut().unwrap().phases_ms = [("train".to_owned(), u64::MAX), ("apply".to_owned(), u64::MAX)].into();
    odd.nodes[2].message = Some("\u{1b}[2J語語語\u{200d}".repeat(40));
    let mut far = lived(1, 1);
    far.windows.insert(u64::MAX, far.windows[&0].clone());
    let networks = [made_up::network(0), made_up::network(250), lived(3, 13), lived(200, 2), troubled(), odd, far];
    for progress in &networks {
        for width in SIZES {
            for height in SIZES {
                screen(progress, width, height);
            }
        }
    }
}

#[test]
fn a_disagreement_outlives_the_first_entry_of_the_next_window() {
    let setting = setting();
    let mut progress = troubled();
    let agreement = |progress: &Progress| Scene { setting: &setting, progress, elapsed: Duration::ZERO, said: &[] }.agreement();
    assert!(matches!(agreement(&progress), Agreement::Differs { window: 12, ref holders } if holders.len() == 2));
    progress.windows.entry(13).or_default().entries.insert("miner-0".into(), entry(13, 1, 3));
    assert!(matches!(agreement(&progress), Agreement::Differs { window: 12, .. }));
    progress.windows.entry(14).or_default().entries.insert("miner-0".into(), entry(14, 1, 3));
    assert!(matches!(agreement(&progress), Agreement::Same { window: 14, nodes: 1, .. }));
}

#[test]
fn a_window_that_does_not_end_is_late() {
    let setting = setting();
    let progress = lived(1, 1);
    let late = |elapsed| Scene { setting: &setting, progress: &progress, elapsed, said: &[] }.late();
    assert!(!late(Duration::from_secs(10 + 24)));
    assert!(late(Duration::from_secs(10 + 25)));
}
