//! The doctor and the settings of a real node: a healthy one passes, planted faults are found by the check that is about them.

use crate::lab::{Lab, templar};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Checks that depend on neither the machine's speed nor on how far the network is.
const SURE: &str = "env,wallet,store.write,store.read_by_peers,store.anonymous_write,store.anonymous_delete,store.list,store.delete,\
                    store.multipart,chain.reachable,chain.registered,chain.commitment,run.descriptor,run.protocol,data.manifest,data.shard,\
                    data.tokenizer,node.running,node.no_secrets,journal.present,journal.whole";

/// The doctor for the first miner, with the settings in its own `templar.toml` and `.env`.
fn doctor(lab: &Lab, config: &str) -> Command {
    let mut command = templar(&["doctor", "--json", "--only", SURE]);
    command.env("TEMPLAR_CONFIG", lab.path(config)).env_remove("TEMPLAR_S3_ACCESS_KEY_ID").env_remove("TEMPLAR_S3_SECRET_ACCESS_KEY");
    command
}

fn verdicts(report: &[u8]) -> BTreeMap<String, String> {
    let report: Value = serde_json::from_slice(report).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(report)));
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    report["checks"].as_array().unwrap().iter().map(|entry| (text(entry, "id"), text(entry, "verdict"))).collect()
}

fn failed(verdicts: &BTreeMap<String, String>) -> Vec<&str> {
    verdicts.iter().filter(|(_, verdict)| *verdict == "fail").map(|(id, _)| id.as_str()).collect()
}

#[test]
fn a_healthy_node_passes_and_planted_faults_are_found() {
    let lab = Lab::new();
    let mut net = lab.begin(&[]);
    net.wait("a window of the miner", |_| lab.windows("miner-0").keys().next().copied());

    // What a user would do: the bucket's key in a file, then setup.
    let access: Value = serde_json::from_slice(&std::fs::read(lab.dir().join("access.json")).unwrap()).unwrap();
    let bucket = access["buckets"].as_array().unwrap().iter().find(|bucket| bucket["name"] == "miner-0").unwrap();
    let (id, secret) = (bucket["access_key_id"].as_str().unwrap(), bucket["secret_access_key"].as_str().unwrap());
    let key = lab.path("key.env");
    std::fs::write(&key, format!("export TEMPLAR_S3_ACCESS_KEY_ID={id}\nexport TEMPLAR_S3_SECRET_ACCESS_KEY={secret}\n")).unwrap();
    let setup = |to: &str, settings: &[(&str, String)]| {
        let mut command = templar(&["setup", "--yes", "--to"]);
        command.arg(lab.path(to)).arg("--key-file").arg(&key);
        settings.iter().for_each(|(key, value)| _ = command.arg("--set").arg(format!("{key}={value}")));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stdout).contains(secret));
    };
    let settings = [
        ("network.chain", lab.chain()),
        ("wallet.path", lab.dir().join("wallets").display().to_string()),
        ("wallet.name", "miner-0".to_owned()),
        ("bucket.url", format!("http://127.0.0.1:{}/miner-0", lab.port("store_port"))),
        ("node.dir", lab.node("miner-0").display().to_string()),
    ];
    setup("good", &settings);
    let output = doctor(&lab, "good/templar.toml").output().unwrap();
    let found = verdicts(&output.stdout);
    assert_eq!(failed(&found), [""; 0], "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(found.values().filter(|verdict| *verdict == "skip").count(), 0, "{found:?}");
    assert_eq!(output.status.code(), Some(0), "{found:?}");

    // Planted: another node's bucket, a file that others may read, a secret where none belongs.
    setup("bad", &settings);
    setup("bad", &[("bucket.url", format!("http://127.0.0.1:{}/miner-1", lab.port("store_port")))]);
    let config = lab.path("bad/templar.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("# {secret}\n{text}")).unwrap();
    Command::new("chmod").arg("644").arg(lab.path("bad/.env")).status().unwrap();
    let output = doctor(&lab, "bad/templar.toml").output().unwrap();
    let found = verdicts(&output.stdout);
    for id in ["env.file_mode", "env.secret_in_config", "store.write", "chain.commitment"] {
        assert_eq!(found[id], "fail", "{id}: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&output.stdout).contains(secret), "a finding shows the secret");

    // A node does not start with a broken file, and says so with the code after which it is not started again.
    std::fs::write(&config, "[network]\nchian = 1\n").unwrap();
    let output = templar(&["miner"]).env("TEMPLAR_CONFIG", &config).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", String::from_utf8_lossy(&output.stderr));

    // Without a uid, too.
    let made = templar(&["wallet", "new-hotkey", "--wallet", "stranger", "--wallet-path"]).arg(lab.path("wallets")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let stranger = templar(&["miner", "--wallet", "stranger", "--engine", "cpu", "--chain", &lab.chain(), "--wallet-path"])
        .arg(lab.path("wallets"))
        .arg("--dir")
        .arg(lab.path("stranger"))
        .output()
        .unwrap();
    assert_eq!(stranger.status.code(), Some(77), "{}", String::from_utf8_lossy(&stranger.stderr));
    net.interrupt();
}
