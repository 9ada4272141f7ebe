//! Attackers among honest miners in a real network: what they are paid, and whether anybody can tell why.

use crate::lab::{Lab, templar};
use serde_json::Value;
use templar_gauntlet::ScoreSheet;
use templar_node::journal::Entry;
use templar_node::signed;
use templar_wallet::WalletDir;

/// The attackers: uids 4 to 7, after a validator and three honest miners.
const ATTACKS: [&str; 4] = ["free-zero", "sign-flip", "copy-replay", "late"];
const HONEST: [&str; 4] = ["miner-0", "miner-1", "miner-2", "validator-0"];

/// Runs the binary and gives its status, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = templar(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Rewrites the newest sheet of the leader, signed by its own key: a validator that lies.
fn forge(lab: &Lab, change: impl FnOnce(&mut ScoreSheet)) {
    let scores = lab.dir().join("store/buckets/validator-0/scores%");
    let mut sheet = signed::open::<ScoreSheet>(&std::fs::read(scores.join("latest.json")).unwrap()).unwrap().message;
    change(&mut sheet);
    let key = WalletDir::new(lab.dir().join("wallets")).hotkey("validator-0", "default").unwrap();
    let envelope = signed::sign(&sheet, &key).unwrap();
    std::fs::write(scores.join("latest.json"), envelope).unwrap();
}

#[test]
fn attackers_earn_next_to_nothing_and_honest_miners_what_they_did() {
    let lab = Lab::new();
    let flags: Vec<&str> = ATTACKS.iter().flat_map(|kind| ["--adversary", kind]).collect();
    let ended = lab.begin(&[&flags[..], &["--windows", "6"]].concat()).wait_for_end();
    assert!(ended.stderr.contains("uid 5 sign-flip: trains, and sends the opposite"), "{}", ended.stderr);
    assert!(ended.stderr.contains("7 late") && ended.stderr.contains("penalised"), "{}", ended.stderr);
    let report = ended.report();
    assert_eq!(report["attackers"]["7"], "late");
    let weight = |uid: u16| report["weights"][uid.to_string()].as_f64().unwrap_or(0.0);
    let honest = [1, 2, 3].map(weight);
    let least = honest.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least > 0.25, "{honest:?}");
    for (uid, kind) in (4..).zip(ATTACKS) {
        assert!(weight(uid) < 0.1 * least, "{kind} earns {} where honest miners earn {honest:?}", weight(uid));
    }
    // Their objects may be applied or not: all nodes agree about that, and nobody honest was ever refused or penalised.
    lab.assert_agreement(&HONEST);
    for line in lab.journal("validator-0") {
        match line.entry {
            Entry::Refused { uid, kind, .. } => assert!(uid.0 > 3 || kind == "held", "uid {uid} was refused: {kind}"),
            Entry::Scored(scored) => {
                for peer in scored.sheet.verdict.peers.iter().filter(|peer| peer.uid.0 <= 3) {
                    assert!(peer.penalties.is_empty(), "{}", peer.reason);
                }
            }
            _ => {}
        }
    }

    let dir = lab.dir();
    let dir = dir.to_str().unwrap();
    let replays = run(&["explain", "6", "--dir", dir]);
    assert!(replays.1.contains("penalty        replay") && replays.1.contains("Against whom it lost"), "{replays:?}");
    let (status, told, _) = run(&["explain", "1", "--dir", dir, "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &told["fate"]), (Some(0), &"accepted".into()));
    let (status, _, error) = run(&["explain", "99", "--dir", dir]);
    assert!(status == Some(1) && error.contains("was no miner"), "{error}");
    let (status, _, error) = run(&["explain", "1", "--dir", dir, "--window", "4000"]);
    assert!(status == Some(1) && error.contains("no score sheet of window 4000") && error.contains("leave"), "{error}");
    let (status, _, error) = run(&["explain", "1", "--dir", lab.path("nowhere").to_str().unwrap()]);
    assert!(status == Some(1) && error.contains("no validator's journal"), "{error}");
}

#[test]
fn published_scores_are_verified_and_lies_are_found() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--adversary", "sign-flip"]);
    let scored = |lab: &Lab| lab.journal("validator-0").iter().filter(|line| matches!(line.entry, Entry::Scored(_))).count();
    net.wait("three scored windows", |_| (scored(&lab) >= 3).then_some(()));
    let dir = lab.dir();
    let dir = dir.to_str().unwrap();

    // While the network runs, the chain says what drew the evaluation.
    let window = lab.journal("validator-0").iter().rev().find_map(|line| match &line.entry {
        Entry::Scored(scored) => Some(scored.window.to_string()),
        _ => None,
    });
    let running = run(&["verify", "--dir", dir, "--window", &window.unwrap(), "--engine", "cpu", "--json"]);
    assert_eq!(running.0, Some(0), "{running:?}");
    let report: Value = serde_json::from_str(&running.1).unwrap();
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["outcome"], "agrees", "{check}");
    }
    let said = check(&report, "losses")["said"].as_str().unwrap();
    let (same, of) = said.split_once(": ").unwrap().1.split_once(" the same bits").unwrap().0.split_once(" of ").unwrap();
    assert_eq!(same, of, "the same executor gives the same bits: {said}");
    let url = format!("http://127.0.0.1:{}/validator-0", lab.port("store_port"));
    let published = run(&["explain", "4", "--validator", &url]);
    assert!(published.0 == Some(0) && published.1.contains("harmful"), "{published:?}");
    assert_eq!(net.interrupt().status.code(), Some(130));

    // Afterwards there is no chain to ask; everything else is served from the disk.
    let verify = || {
        let (status, out, error) = run(&["verify", "--dir", dir, "--engine", "cpu", "--json"]);
        (status, serde_json::from_str::<Value>(&out).unwrap_or_else(|why| panic!("{why}: {error}")))
    };
    let (status, honest) = verify();
    assert_eq!((status, &check(&honest, "seed")["outcome"]), (Some(4), &"not_possible".into()), "{honest}");
    let file = lab.dir().join("store/buckets/validator-0/scores%/latest.json");
    let original = std::fs::read(&file).unwrap();
    type Lie = (&'static str, fn(&mut ScoreSheet));
    let lies: [Lie; 5] = [
        ("losses", |sheet| sheet.observation.measurements[0].random.after[0] -= 0.1),
        ("scores", |sheet| sheet.weights.peers[0].weight *= 2.0),
        ("choice", |sheet| sheet.chosen.reverse()),
        ("seed", |sheet| sheet.seed.block.0 += 1),
        ("samples", |sheet| sheet.samples[1].indices = templar_protocol::Digest::of(b"easy ones")),
    ];
    for (name, lie) in lies {
        forge(&lab, lie);
        let (status, report) = verify();
        assert_eq!((status, &check(&report, name)["outcome"]), (Some(3), &"differs".into()), "{name}: {report}");
    }
    // What is not signed is not even read.
    let mut torn = original.clone();
    let at = torn.len() / 2;
    torn[at] ^= 1;
    std::fs::write(&file, torn).unwrap();
    let (status, _, error) = run(&["verify", "--dir", dir]);
    assert!(status == Some(1) && error.contains("does not count"), "{error}");
    std::fs::write(&file, original).unwrap();
    assert_eq!(verify().0, Some(4));
}
