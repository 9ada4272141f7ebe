//! A chain whose process is killed with SIGKILL in mid-work: what it has told anybody is there when it is opened again.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};
use templar_chain::{At, BlockRef, BlockTime, Call, Chain as _, CommitmentField, DevChain, GenesisConfig, GenesisNeuron, SignedCall};
use templar_protocol::{BlockNumber, Netuid};
use templar_wallet::Keypair;

const DIRECTORY: &str = "TEMPLAR_TEST_KILLED_CHAIN";
const NETUID: Netuid = Netuid(3);

fn open(dir: &Path) -> DevChain {
    let mut config = GenesisConfig::new(NETUID);
    let account = Keypair::from_seed([1; 32]).public();
    config.neurons = vec![GenesisNeuron { hotkey: account, coldkey: account, stake: 1, permit: true }];
    config.rules.tempo = 3;
    DevChain::open(dir, Some(&config), BlockTime::Virtual(250)).unwrap()
}

/// What a process of its own does: it commits to a rising number, closes a block, and tells both, until it is killed.
async fn work(dir: &Path) {
    let chain = open(dir);
    let key = Keypair::from_seed([1; 32]);
    let genesis = chain.info().await.unwrap().genesis_hash;
    let mut out = std::io::stdout();
    for nonce in next_nonce(&chain).await.. {
        let data = nonce.to_le_bytes().to_vec();
        let taken = chain
            .submit(&SignedCall::new(
                &genesis,
                &key,
                nonce,
                Call::SetCommitment { netuid: NETUID, fields: vec![CommitmentField::Raw(data)] },
            ))
            .unwrap();
        writeln!(out, "told {nonce} {}", taken.tx.block).unwrap();
        for _ in 0..40 {
            let block = chain.close_block().unwrap();
            writeln!(out, "block {}", serde_json::to_string(&block).unwrap()).unwrap();
        }
        out.flush().unwrap();
    }
}

/// One more than the number committed to, which is the nonce of the call that did it.
async fn next_nonce(chain: &DevChain) -> u64 {
    let account = Keypair::from_seed([1; 32]).public();
    let committed = chain.commitment(NETUID, &account).await.unwrap();
    committed.map_or(0, |commitment| u64::from_le_bytes(commitment.data.try_into().unwrap()) + 1)
}

#[tokio::test]
async fn a_killed_chain_has_what_it_told() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return work(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut told_nonce = None;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_chain_has_what_it_told", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told_block: Option<BlockRef> = None;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after another number of lines each time: in the midst of what follows them.
        let mut left = 150 * round + 7;
        while left > 0 {
            let line = lines.next().expect("it works until it is killed").unwrap();
            if let Some(block) = line.strip_prefix("block ") {
                told_block = Some(serde_json::from_str(block).unwrap());
            } else if let Some(told) = line.strip_prefix("told ") {
                told_nonce = Some(told.split(' ').next().unwrap().parse::<u64>().unwrap());
            } else {
                continue;
            }
            left -= 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let chain = open(dir.path());
        let block = told_block.unwrap();
        assert_eq!(chain.head(At::Number(block.number)).await.unwrap(), block, "round {round}");
        // The call may be in the block that was being built.
        chain.close_block().unwrap();
        assert!(next_nonce(&chain).await > told_nonce.unwrap(), "round {round}");
        assert!(chain.best().number > BlockNumber(0));
    }
}
