//! An agent that has the skill and a shell, and nothing else, on a network in which something is wrong with each of several miners.
//!
//! What the agent runs is read from the skill as it is installed: the commands of "When something is wrong", in that order, as they stand there. So this
//! fails when the skill no longer leads to the cause, as well as when a command no longer finds it. The first thing that a command names must be the
//! fault that was planted: an agent mends what is named first.

use crate::commands::{Help, command_lines};
use crate::lab::{Lab, Running, expect_participants, has_object, templar};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use templar_protocol::{Uid, Window, names};

/// Checks whose verdict depends on how fast this machine is, or busy with the tests beside; no fault here is about that.
const OF_THE_MACHINE: [&str; 8] = [
    "host.",
    "engine.",
    "time.",
    "store.upload_rate",
    "store.download_rate",
    "journal.in_time",
    "journal.upload_forecast",
    "chain.earning",
];
/// Most commands until the cause is named.
const COMMANDS_MAX: usize = 3;
/// What a diagnosis may say of a node with which nothing is wrong, in a network in which other miners fail.
const OTHERS_FAIL: [&str; 2] = ["healthy", "gather-low-peers"];

/// The skill, as an agent has it.
struct Skill(PathBuf);

impl Skill {
    fn install(lab: &Lab) -> Self {
        let folder = lab.path("skills");
        let output = templar(&["skill", "install", "--dir"]).arg(&folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(folder.join("templar-miner"))
    }

    fn page(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// The commands to run when something is wrong, in their order.
    fn commands(&self) -> Vec<Vec<String>> {
        let page = self.page("SKILL.md");
        let section = page.split("\n## ").find(|section| section.contains("When something is wrong")).unwrap();
        let commands: Vec<_> = command_lines(section).into_iter().map(|(_, words)| words).collect();
        assert!((1..COMMANDS_MAX).contains(&commands.len()), "{commands:?}");
        commands
    }

    /// The checks to which the page of symptoms leads from this one.
    fn checks_of(&self, symptom: &str) -> Vec<String> {
        let page = self.page("references/troubleshooting.md");
        let row = page.lines().find(|line| line.starts_with(&format!("| {symptom}")));
        let cells: Vec<&str> = row.unwrap_or_else(|| panic!("no row about {symptom:?}")).split('|').collect();
        cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }
}

/// What a command names, in its order: an id, and the sentence with it.
type Named = Vec<(String, String)>;

/// The folder in which an agent works: settings, secrets, and `miner`, the directory of the node.
struct Desk(PathBuf);

impl Desk {
    /// What `templar setup` makes for a node of the network.
    fn new(lab: &Lab, name: &str, node: &str) -> Self {
        let folder = lab.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(lab.node(node), folder.join("miner")).unwrap();
        let access: Value = serde_json::from_slice(&std::fs::read(lab.dir().join("access.json")).unwrap()).unwrap();
        let bucket = access["buckets"].as_array().unwrap().iter().find(|bucket| bucket["name"] == node).unwrap();
        let part = |name: &str| bucket[name].as_str().unwrap().to_owned();
        let key =
            format!("TEMPLAR_S3_ACCESS_KEY_ID={}\nTEMPLAR_S3_SECRET_ACCESS_KEY={}\n", part("access_key_id"), part("secret_access_key"));
        std::fs::write(folder.join("key.env"), key).unwrap();
        let desk = Self(folder);
        let settings = [
            ("network.chain", lab.chain()),
            ("wallet.path", lab.dir().join("wallets").display().to_string()),
            ("wallet.name", node.to_owned()),
            ("bucket.url", format!("http://127.0.0.1:{}/{node}", lab.port("store_port"))),
            ("node.dir", "miner".to_owned()),
            ("engine.kind", "cpu".to_owned()),
        ];
        desk.setup(&settings, &["--key-file", "key.env"]);
        desk
    }

    fn setup(&self, settings: &[(&str, String)], more: &[&str]) {
        let mut command = templar(&["setup", "--yes"]);
        settings.iter().for_each(|(key, value)| _ = command.arg("--set").arg(format!("{key}={value}")));
        let output = command.args(more).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn set(&self, key: &str, value: impl Into<String>) {
        self.setup(&[(key, value.into())], &[]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs a command as it stands in the skill, and gives what it names.
    fn run(&self, words: &[String]) -> Named {
        assert_eq!(words[0], "templar");
        let mut command = templar(&words[1..].iter().map(String::as_str).collect::<Vec<_>>());
        for name in ["TEMPLAR_CONFIG", "TEMPLAR_S3_ACCESS_KEY_ID", "TEMPLAR_S3_SECRET_ACCESS_KEY"] {
            command.env_remove(name);
        }
        let output = command.current_dir(&self.0).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        match report.get("checks").and_then(Value::as_array) {
            Some(checks) => {
                let failed = checks.iter().filter(|entry| entry["verdict"] == "fail");
                let named = failed.map(|entry| (text(entry, "id"), text(entry, "sentence")));
                named.filter(|(id, _)| !OF_THE_MACHINE.iter().any(|start| id.starts_with(start))).collect()
            }
            None => {
                let causes = report[0]["causes"].as_array().unwrap();
                let certain = causes.iter().filter(|cause| cause["certainty"] != "possible");
                certain.map(|cause| (text(cause, "id"), text(cause, "sentence"))).collect()
            }
        }
    }
}

/// A fault, and what finds it.
struct Fault {
    /// How the table of symptoms begins the row to which it belongs.
    symptom: &'static str,
    /// The check that names it first, and words of its sentence.
    check: (&'static str, &'static str),
    /// What the diagnosis says; empty where the node itself still works.
    cause: &'static str,
}

const fn fault(symptom: &'static str, check: &'static str, words: &'static str, cause: &'static str) -> Fault {
    Fault { symptom, check: (check, words), cause }
}

impl Fault {
    /// Lets an agent look for it.
    fn is_found(&self, skill: &Skill, desk: &Desk) {
        let (check, words) = self.check;
        assert!(skill.checks_of(self.symptom).iter().any(|id| id == check), "the row {:?} does not lead to {check}", self.symptom);
        let commands = skill.commands();
        let transcript: Vec<(String, Named)> = commands.iter().map(|words| (words.join(" "), desk.run(words))).collect();
        let (id, sentence) = transcript.iter().find_map(|(_, named)| named.first()).unwrap_or_else(|| panic!("{check}: nothing was found"));
        assert!(id == check && sentence.contains(words), "{check} was to be named first: {transcript:#?}");
        let verdict = transcript.iter().find(|(command, _)| command.contains("diagnose")).unwrap().1.first();
        let verdict = verdict.map_or("healthy", |(id, _)| id.as_str());
        let right = if self.cause.is_empty() { OTHERS_FAIL.contains(&verdict) } else { verdict == self.cause };
        assert!(right, "{check}: the diagnosis is {verdict}, not {:?}: {transcript:#?}", self.cause);
    }
}

/// What is wrong with settings and secrets, on copies of those of a node with which nothing else is wrong.
fn settings_that_are_wrong(lab: &Lab) -> Vec<(Fault, Desk)> {
    let desk = |name: &str| Desk::new(lab, name, "miner-0");
    let mut planted = Vec::new();
    let mut plant = |fault: Fault, name: &str, change: &dyn Fn(&Desk)| {
        let desk = desk(name);
        change(&desk);
        planted.push((fault, desk));
    };
    let append = |path: PathBuf, text: &str| std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + text).unwrap();

    plant(fault("ends with code 69", "chain.port", "cannot be connected to", ""), "no-chain", &|desk| {
        desk.set("network.chain", "http://127.0.0.1:1");
    });
    plant(fault("ends at once with code 77", "chain.registered", "has no uid", ""), "stranger", &|desk| {
        let made = templar(&["wallet", "new-hotkey", "--wallet", "stranger", "--wallet-path", "wallets"]);
        assert!({ made }.current_dir(&desk.0).status().unwrap().success());
        desk.setup(&[("wallet.path", "wallets".into()), ("wallet.name", "stranger".into())], &[]);
    });
    plant(
        fault("ends at once and names hyper-parameters", "run.hyper_parameters", "inner_steps is expected to be 3", ""),
        "params",
        &|desk| {
            let mut hparams: Value = serde_json::from_slice(&std::fs::read(lab.dir().join("hparams.json")).unwrap()).unwrap();
            hparams["inner_steps"] = 3.into();
            std::fs::write(desk.path("expected.json"), hparams.to_string()).unwrap();
            desk.set("network.params", "expected.json");
        },
    );
    plant(fault("no object in the bucket", "store.write", "cannot put", ""), "other-key", &|desk| {
        std::fs::write(desk.path("other.env"), "TEMPLAR_S3_SECRET_ACCESS_KEY=of-another-bucket\n").unwrap();
        desk.setup(&[], &["--key-file", "other.env"]);
    });
    plant(fault("refused as `no-bucket`", "chain.commitment", "/miner-0, configured is", ""), "moved-bucket", &|desk| {
        // The key is that of the bucket which is configured; the chain names another.
        let other = Desk::new(lab, "moved-to", "late-0");
        std::fs::copy(other.path(".env"), desk.path(".env")).unwrap();
        desk.set("bucket.url", format!("http://127.0.0.1:{}/late-0", lab.port("store_port")));
    });
    plant(fault("ends at once with code 64", "env.config_file", "there is no setting network.chian", ""), "typing-error", &|desk| {
        let text = std::fs::read_to_string(desk.path("templar.toml")).unwrap();
        std::fs::write(desk.path("templar.toml"), text.replacen("chain =", "chian =", 1)).unwrap();
    });
    plant(fault("others could read its secrets", "env.file_mode", "mode 0644", ""), "open-secrets", &|desk| {
        assert!(Command::new("chmod").arg("644").arg(desk.path(".env")).status().unwrap().success());
    });
    plant(fault("others could read its secrets", "env.secret_in_config", "", ""), "stray-secret", &|desk| {
        let env = std::fs::read_to_string(desk.path(".env")).unwrap();
        let secret = env.lines().find_map(|line| line.strip_prefix("TEMPLAR_S3_SECRET_ACCESS_KEY=")).unwrap().to_owned();
        append(desk.path("templar.toml"), &format!("\n# {secret}\n"));
    });
    planted
}

/// Changes a file while `work` is done, and puts it back.
fn while_changed(path: &Path, change: impl FnOnce(&mut Vec<u8>), work: impl FnOnce()) {
    let before = std::fs::read(path).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    work();
    std::fs::write(path, before).unwrap();
}

/// What is wrong with the places that all share.
fn places_that_are_wrong(lab: &Lab, net: &mut Running, skill: &Skill) {
    let desk = Desk::new(lab, "places", "miner-0");
    let mut shards: Vec<PathBuf> =
        std::fs::read_dir(lab.dir().join("store/buckets/dataset")).unwrap().flatten().map(|entry| entry.path()).collect();
    shards.retain(|path| !path.to_string_lossy().contains("held_out"));
    let shard = shards.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let damaged = fault("refused as `wrong-samples`", "data.shard", "has another digest", "");
    while_changed(&shard, |bytes| bytes[5000] ^= 1, || damaged.is_found(skill, &desk));

    let private = fault("refused as `no-bucket`", "store.read_by_peers", "cannot get", "");
    let shut = |access: &mut Vec<u8>| {
        let mut table: Value = serde_json::from_slice(access).unwrap();
        let buckets = table["buckets"].as_array_mut().unwrap();
        buckets.iter_mut().filter(|bucket| bucket["name"] == "miner-0").for_each(|bucket| bucket["public_read"] = false.into());
        *access = table.to_string().into_bytes();
    };
    let (window, uid) = (*lab.windows("miner-0").keys().next_back().unwrap(), Uid(1));
    let key = names::object(Window(window), uid);
    while_changed(&lab.dir().join("access.json"), shut, || {
        // The store looks at its file now and then.
        net.wait("the store to take notice", |_| (!has_object(lab, "miner-0", &key)).then_some(()));
        private.is_found(skill, &desk);
    });
}

/// What is wrong with nodes, caused by how they behave.
fn nodes_that_are_wrong(lab: &Lab, net: &mut Running) -> Vec<(Fault, Desk)> {
    expect_participants(lab, PARTICIPANTS - 1);
    net.kill("miner-2");
    let faults = [
        ("miner-2", fault("the journal grows no more", "node.running", "no node runs in", "not-running")),
        ("late-0", fault("refused as `late`", "journal.upload_margin", "was late or not uploaded", "uploads-late")),
        ("stale-honest-0", fault("refused as `desynchronised`", "score.accepted", "(desynchronised: ", "desynchronised")),
        ("malformed-0", fault("refused as `bad-seal`, `malformed`", "score.accepted", "(malformed: ", "object-invalid")),
    ];
    faults.into_iter().map(|(node, fault)| (fault, Desk::new(lab, &format!("of-{node}"), node))).collect()
}

/// A validator, three miners, three that behave wrongly.
const PARTICIPANTS: usize = 7;
/// Windows after which scores, weights and refusals are there to be seen.
const WINDOWS: usize = 12;

#[test]
fn an_agent_finds_what_is_wrong_within_three_commands() {
    let lab = Lab::new();
    let wrong = ["--adversary", "late", "--adversary", "stale-honest", "--adversary", "malformed"];
    let mut net = lab.begin(&[&["--no-restart"], &wrong[..]].concat());
    let skill = Skill::install(&lab);
    let mut help = Help::of(env!("CARGO_BIN_EXE_templar"));
    for words in skill.commands() {
        help.check(&words[1..]).unwrap_or_else(|why| panic!("{}: {why}", words.join(" ")));
    }
    net.wait("twelve windows", |_| (lab.windows("miner-0").len() >= WINDOWS).then_some(()));

    // Nothing is found where nothing is wrong.
    let control = Desk::new(&lab, "control", "miner-1");
    for words in skill.commands() {
        let named = control.run(&words);
        assert!(named.iter().all(|(id, _)| OTHERS_FAIL.contains(&id.as_str())), "{}: {named:#?}", words.join(" "));
    }

    let mut planted = settings_that_are_wrong(&lab);
    planted.extend(nodes_that_are_wrong(&lab, &mut net));
    let mut ids: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    planted.iter().for_each(|(fault, _)| *ids.entry((fault.check.0, fault.cause)).or_default() += 1);
    assert!(ids.len() >= 10 && ids.values().all(|count| *count == 1), "ten different faults: {ids:?}");
    // A few at a time: an agent mostly waits for answers.
    for some in planted.chunks(3) {
        std::thread::scope(|scope| some.iter().for_each(|(fault, desk)| _ = scope.spawn(|| fault.is_found(&skill, desk))));
    }
    // In time that passed, windows would be lost to these faults, and the diagnosis would name them as well.
    net.while_standing_still("validator-0", |net| places_that_are_wrong(&lab, net, &skill));
    net.interrupt();
}
