//! What a user does wrong, or stops half-way: a message that says what to do, nothing left running, and nothing lost.

use crate::lab::{Ended, Lab, text};
use std::net::TcpListener;

/// Checks that a run failed with a message that has all `phrases`, whatever the terminal's width made of its lines.
fn assert_refused(ended: &Ended, phrases: &[&str]) {
    assert_eq!(ended.status.code(), Some(1), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stdout, "", "standard output is for the report");
    let words: Vec<&str> = ended.stderr.split_whitespace().filter(|word| !["│", "×", "╰─▶", "├─▶"].contains(word)).collect();
    let message = words.join(" ");
    for phrase in phrases {
        assert!(message.contains(phrase), "{phrase:?} is not in: {message}");
    }
}

#[test]
fn what_cannot_begin_says_why() {
    let lab = Lab::new();
    assert_refused(&lab.begin(&["--windows", "0"]).wait_for_end(), &["no windows", "--windows 1 or more"]);
    assert!(!lab.dir().exists(), "nothing was made for it");

    let with_data = |name: &str| {
        let path = lab.path(name);
        lab.localnet(&["--windows", "1", "--inner-steps", "30", "--data", path.to_str().unwrap()]).wait_for_end()
    };
    assert_refused(&with_data("missing"), &["missing does not exist", "check the path"]);
    std::fs::write(lab.path("empty.txt"), "").unwrap();
    assert_refused(&with_data("empty.txt"), &["no UTF-8 text", "give files or folders that hold text"]);
    std::fs::write(lab.path("short.txt"), text(2000)).unwrap();
    assert_refused(&with_data("short.txt"), &["the text is too small", "give more text"]);
    std::fs::write(lab.path("few.txt"), text(20_000)).unwrap();
    assert_refused(&with_data("few.txt"), &["a window of one miner needs 480", "give more text with --data", "--inner-steps"]);

    assert_refused(&lab.begin(&["--windows", "1", "--miners", "0"]).wait_for_end(), &["0 miners", "at least one of each"]);

    // The attempts before have left nothing that is in the way.
    lab.begin(&["--windows", "1"]).wait_for_end().report();
    std::fs::remove_dir_all(lab.dir()).unwrap();
    std::fs::create_dir(lab.dir()).unwrap();
    std::fs::write(lab.dir().join("notes.txt"), "mine").unwrap();
    assert_refused(&lab.begin(&["--windows", "1"]).wait_for_end(), &["not a localnet's", "new directory with --dir"]);
    let left: Vec<_> = lab.dir().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"], "somebody's directory stays as it is");
}

#[test]
fn an_interrupted_network_resumes_as_the_one_that_it_was() {
    let lab = Lab::new();
    let mut net = lab.begin(&[]);
    let ended = |node: &str| lab.windows(node).keys().next_back().copied();
    let stopped_at = net.wait("a window", |_| ended("validator-0"));
    assert_refused(&lab.localnet_beside(&[]).wait_for_end(), &["in use", "stop the program that uses it"]);
    assert_eq!(net.processes().len(), 6, "the first network is as it was");
    assert_eq!(net.interrupt().status.code(), Some(130));

    assert_refused(&lab.localnet(&["--miners", "4"]).wait_for_end(), &["made with --miners 3", "leave the flag out"]);
    assert_refused(&lab.localnet(&["--inner-steps", "3"]).wait_for_end(), &["inner steps", "leave the flag out"]);
    for port in ["chain_port", "store_port"] {
        let taken = TcpListener::bind(("127.0.0.1", lab.port(port))).unwrap();
        assert_refused(&lab.localnet(&["--windows", "1"]).wait_for_end(), &["in use", "stop the program that uses it"]);
        drop(taken);
    }

    // This time it is killed: nobody can tell its processes, and they end all the same.
    let mut net = lab.localnet(&[]);
    net.wait("a later window", |_| ended("validator-0").filter(|window| *window > stopped_at));
    net.kill_alone();

    let killed_at = ended("validator-0").unwrap();
    lab.localnet(&["--windows", "2"]).wait_for_end().report();
    assert!(ended("validator-0").unwrap() > killed_at);
    lab.assert_agreement(&["miner-0", "miner-1", "miner-2", "validator-0"]);
}
