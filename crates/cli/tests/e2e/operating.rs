//! What an operator does with a node that runs: draining it before an update.

use crate::lab::{Lab, has_object, templar};
use templar_node::journal::Entry;
use templar_protocol::{Uid, names};

#[test]
fn a_drained_miner_has_sent_its_object_and_ends_by_itself() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--no-restart"]);
    net.wait("a window of the miner", |_| lab.windows("miner-0").keys().next().copied());
    let output = templar(&["miner", "--drain", "--dir", lab.node("miner-0").to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("has ended"));
    let journal = lab.journal("miner-0");
    let stopped = journal.iter().rev().find_map(|line| match &line.entry {
        Entry::Stopped { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert_eq!(stopped.as_deref(), Some("drained between two windows, as asked"));
    // It ended between two windows: the last one has been trained, sent and followed.
    let (window, entry) = lab.windows("miner-0").into_iter().next_back().unwrap();
    assert!(entry.training.is_some_and(|training| training.upload_margin_ms.is_some()), "window {window}");
    assert!(entry.gathered.contains(&Uid(1)), "{:?}", entry.gathered);
    assert!(has_object(&lab, "miner-0", &names::object(templar_protocol::Window(window), Uid(1))));
    // There is nothing to drain any more.
    let output = templar(&["miner", "--drain", "--dir", lab.node("miner-0").to_str().unwrap()]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("no node runs"));
    net.interrupt();
}

/// Every code that a service manager must know, from the real binary.
#[test]
fn exit_codes_say_whether_to_start_again() {
    let lab = Lab::new();
    let code = |arguments: &[&str], env: &[(&str, &str)]| {
        let output = templar(arguments).envs(env.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (dir, wallets) = (lab.path("node"), lab.path("wallets"));
    let (dir, wallets) = (dir.to_str().unwrap(), wallets.to_str().unwrap());
    let made = templar(&["wallet", "new-hotkey", "--wallet", "w", "--wallet-path", wallets]).output().unwrap();
    assert!(made.status.success());
    let miner = ["miner", "--wallet", "w", "--wallet-path", wallets, "--dir", dir];
    let with = |more: &[&'static str]| [&miner[..], more].concat();
    let no_engine = code(&with(&["--engine", "pjrt"]), &[]);
    assert_eq!(no_engine.0, Some(78), "{}", no_engine.1);
    let no_network = code(&with(&["--engine", "cpu", "--chain", "nakamoto"]), &[]);
    assert_eq!(no_network.0, Some(64), "{}", no_network.1);
    let no_key = code(&["miner", "--wallet", "none", "--wallet-path", wallets, "--dir", dir, "--engine", "cpu"], &[]);
    assert_eq!(no_key.0, Some(64), "{}", no_key.1);
    let no_file = code(&["--config", "/no/such/file.toml", "miner"], &[]);
    assert_eq!(no_file.0, Some(64), "{}", no_file.1);
    let usage = code(&["miner", "--no-such-flag"], &[]);
    assert_eq!(usage.0, Some(2), "{}", usage.1);
    std::fs::create_dir_all(dir).unwrap();
    let lock = std::fs::File::create(std::path::Path::new(dir).join("lock")).unwrap();
    lock.lock().unwrap();
    let taken = code(&with(&["--engine", "cpu"]), &[]);
    assert_eq!(taken.0, Some(75), "{}", taken.1);
    let kept: Vec<u8> = templar_ops::service::NO_RESTART.iter().map(|(code, _)| *code).collect();
    assert_eq!(kept, [2, 64, 77, 78], "77 is tested with a chain, beside the doctor");
}

/// Twenty secrets in all the places where they are or may have strayed to; none leaves them by a report of a defect.
#[test]
fn a_report_of_a_defect_has_no_secret_in_it() {
    use std::io::{Read as _, Write as _};
    let lab = Lab::new();
    let secret = |number: usize| format!("planted-{number:02}-{}", "5ecr3t".repeat(3));
    let names = [
        "TEMPLAR_S3_ACCESS_KEY_ID",
        "TEMPLAR_S3_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "WANDB_API_KEY",
        "R2_GRADIENTS_WRITE_SECRET_ACCESS_KEY",
        "R2_DATASET_READ_SECRET_ACCESS_KEY",
        "INFLUXDB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "BASILICA_API_TOKEN",
        "BT_PW__WALLETS_MINER_HOTKEY",
        "GITHUB_TOKEN",
        "MY_PASSWORD",
    ];
    let mut environment: Vec<(String, String)> = names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), secret(at))).collect();
    let in_env_file = environment.split_off(8);
    let dir = lab.path("conf");
    let node = lab.path("node");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::create_dir_all(node.join("state")).unwrap();
    let lines: String = in_env_file.iter().map(|(name, value)| format!("export {name}=\"{value}\"\n")).collect();
    std::fs::write(dir.join(".env"), format!("# {}\n{lines}", secret(12))).unwrap();
    let bucket = format!("http://user:{}@127.0.0.1:1/bucket", secret(13));
    let config = format!("# {}\n[bucket]\nurl = \"http://127.0.0.1:1/bucket\"\n[node]\ndir = \"{}\"\n", secret(14), node.display());
    std::fs::write(dir.join("templar.toml"), config).unwrap();
    // The journal: warnings that quote what they should not, a stray line, a URL that gives access.
    let mut journal = templar_node::journal::Journal::open(&node).unwrap();
    let warn = |text: String| Entry::Warning { kind: String::new(), text };
    journal.write(1, warn(format!("the store said {} and {}", secret(1), secret(9))));
    journal.write(2, warn(format!("cannot reach {bucket}?X-Amz-Signature={}", secret(15))));
    let mut file = std::fs::File::options().append(true).open(node.join("journal.jsonl")).unwrap();
    writeln!(file, "{{\"note\":\"{}\"}}\n{}", secret(16), secret(17)).unwrap();
    std::fs::write(node.join("state/notes"), secret(18)).unwrap();
    let wallet = lab.path("wallets/miner/hotkeys");
    std::fs::create_dir_all(&wallet).unwrap();
    std::fs::write(wallet.join("default"), format!("{{\"secretPhrase\": \"{}\"}}", secret(19))).unwrap();

    let out = lab.path("report.tar.gz");
    let run = |more: &[&str]| {
        let mut command = templar(&["report-bug", "--wallet", "miner", "--engine", "cpu", "--chain", "http://127.0.0.1:1"]);
        command.arg("--config").arg(dir.join("templar.toml")).arg("--wallet-path").arg(lab.path("wallets"));
        command.arg("--out").arg(&out).args(more).envs(environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let told = run(&["--dry-run"]);
    assert!(!out.exists() && told.contains("journal.jsonl") && told.contains("doctor.json"), "{told}");
    let told = run(&[]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let mut text = String::new();
    let packed = flate2::read::GzDecoder::new(std::fs::File::open(&out).unwrap());
    let mut archive = tar::Archive::new(packed);
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        files.push(entry.path().unwrap().display().to_string());
        entry.read_to_string(&mut text).unwrap();
    }
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(text.contains("cannot reach http://[removed]@127.0.0.1:1/bucket") && text.contains("wallet.hotkey"), "{text}");
    for number in 0..20 {
        let planted = secret(number);
        assert!(!text.contains(&planted), "secret {number} is in the report");
        assert!(!told.contains(&planted), "secret {number} was printed");
    }
}

#[test]
fn a_change_in_the_network_is_told_once_and_a_release_too() {
    let lab = Lab::new();
    lab.begin(&["--windows", "3"]).wait_for_end().report();
    let node = lab.node("miner-0");
    let check = |more: &[&str]| {
        let output = templar(&["upgrade", "--check", "--json", "--dir", node.to_str().unwrap()]).args(more).output().unwrap();
        let report = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        (output.status.code(), report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
    };
    let (status, report) = check(&[]);
    assert_eq!((status, report["findings"].as_array().map(Vec::len)), (Some(0), Some(0)), "{report}");
    assert_eq!(report["seen"]["containers"], serde_json::json!([templar_codec::container::VERSION]));
    // What was seen is kept; another past is told as a change.
    let seen = node.join("seen.json");
    let mut before: serde_json::Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
    before["hparams"]["inner_steps"] = 77.into();
    std::fs::write(&seen, before.to_string()).unwrap();
    let (status, report) = check(&[]);
    let said = report["findings"][0]["said"].as_str().unwrap_or_default();
    assert!(status == Some(3) && said.contains("inner_steps is 2, it was 77"), "{report}");
    assert_eq!(check(&[]).0, Some(0), "a change is told once");
    let feed = lab.path("feed.json");
    std::fs::write(&feed, r#"{"version": "99.0.0", "url": "https://releases.example/99"}"#).unwrap();
    let (status, report) = check(&["--feed", feed.to_str().unwrap()]);
    assert!(status == Some(3) && report["findings"][0]["said"].as_str().unwrap().contains("99.0.0 is out"), "{report}");
    let (status, report) = check(&["--feed", lab.path("none.json").to_str().unwrap()]);
    assert!(status == Some(4) && report["not_looked_at"][0].as_str().unwrap().contains("release feed"), "{report}");
}

#[test]
fn a_moved_miner_goes_on_with_its_residual() {
    let lab = Lab::new();
    lab.begin(&["--windows", "3"]).wait_for_end().report();
    let node = lab.node("miner-0");
    let state = |journal: Vec<templar_node::journal::Line>, word: &str| {
        journal.into_iter().rev().find_map(|line| match line.entry {
            Entry::State { what, residual, moments, window, .. } if what == word => Some((residual, moments, window)),
            _ => None,
        })
    };
    let saved = state(lab.journal("miner-0"), "saved").unwrap();
    let (archive, moved) = (lab.path("miner.tar"), lab.path("moved"));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = templar(&["node"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["export".as_ref(), "--dir".as_ref(), node.as_ref(), "--out".as_ref(), archive.as_ref()]);
    run(&["import".as_ref(), archive.as_ref(), "--dir".as_ref(), moved.as_ref()]);
    // The directory that goes on is the unpacked one, and nothing of the old one is left.
    std::fs::remove_dir_all(&node).unwrap();
    std::fs::rename(&moved, &node).unwrap();
    lab.localnet(&["--windows", "2"]).wait_for_end().report();
    let loaded = lab.journal("miner-0").into_iter().find_map(|line| match line.entry {
        Entry::State { what, residual, moments, window, .. } if what == "loaded" => Some((residual, moments, window)),
        _ => None,
    });
    assert_eq!(loaded, Some(saved), "residual and moments have the digests with which they were saved");
    lab.assert_agreement(&["miner-0", "miner-1", "validator-0"]);
}

#[test]
fn a_bucket_is_brought_below_its_quota() {
    let lab = Lab::new();
    let mut net = lab.begin(&[]);
    net.wait("four windows", |_| (lab.windows("miner-0").len() >= 4).then_some(()));
    let access: serde_json::Value = serde_json::from_slice(&std::fs::read(lab.dir().join("access.json")).unwrap()).unwrap();
    let bucket = access["buckets"].as_array().unwrap().iter().find(|bucket| bucket["name"] == "miner-0").unwrap();
    let gc = |more: &[&str]| {
        let output = templar(&["store", "gc", "--json", "--bucket", &format!("http://127.0.0.1:{}/miner-0", lab.port("store_port"))])
            .env("TEMPLAR_S3_ACCESS_KEY_ID", bucket["access_key_id"].as_str().unwrap())
            .env("TEMPLAR_S3_SECRET_ACCESS_KEY", bucket["secret_access_key"].as_str().unwrap())
            .args(more)
            .output()
            .unwrap();
        let plan = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        plan.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    let oldest = *lab.windows("miner-0").keys().next().unwrap();
    let key = names::object(templar_protocol::Window(oldest), Uid(1));
    assert!(has_object(&lab, "miner-0", &key));
    let planned = gc(&["--keep-windows", "2", "--dry-run"]);
    assert!(
        planned["delete"].as_array().unwrap().iter().any(|gone| *gone == key.as_str()) && has_object(&lab, "miner-0", &key),
        "{planned}"
    );
    gc(&["--keep-windows", "2"]);
    assert!(!has_object(&lab, "miner-0", &key));
    net.interrupt();
}
