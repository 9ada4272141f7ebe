//! What a development chain endures: a day of blocks, and being killed at any moment. `cargo xtask chain day`, `kills` and `speed` run it
//! as a release build.
//!
//! * `day`: 345,600 blocks in virtual time with 20 nodes that sign, then every kept snapshot is replayed to the same head.
//! * `kills N SEED`: a chain at work is killed with SIGKILL N times; each time it must be whole and have every final block.
//! * `speed`: one epoch of 256 uids with 64 validators; the metagraph of 256 neurons over JSON-RPC.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use parity_scale_codec::Encode as _;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};
use templar_chain::{
    At, BlockTime, CommitmentField, DevChain, Engine, GenesisConfig, GenesisNeuron,
    yuma::{EpochInput, YumaParams, epoch},
};
use templar_chain_rpc::{
    Face, Permissions, extrinsic,
    rpc::handle,
    runtime::{
        bounded_collections::bounded_vec::BoundedVec,
        node_subtensor_runtime::RuntimeCall,
        pallet_commitments::{self, types::CommitmentInfo},
        pallet_subtensor::pallet::Call as Subtensor,
        sp_runtime::generic::era::Era,
    },
};
use templar_protocol::{BlockNumber, Netuid};
use templar_wallet::{Keypair, Signer as _};

const NETUID: Netuid = Netuid(3);
/// Blocks of a quarter of a second in a day.
const DAY_BLOCKS: u64 = 345_600;
const WINDOW_BLOCKS: u64 = 32;
const VALIDATORS: u8 = 4;
const NODES: u8 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["day"] => day(DAY_BLOCKS),
        ["kills", rounds, seed] => kills(rounds.parse().unwrap(), seed.parse().unwrap()),
        ["work", dir, seed] => work(Path::new(dir), seed.parse().unwrap()),
        ["speed"] => speed(),
        _ => {
            eprintln!("usage: endure day | kills N SEED | speed");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn config() -> GenesisConfig {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u8| {
        let account = key(i).account_id();
        GenesisNeuron { hotkey: account, coldkey: account, stake: u64::from(i < VALIDATORS) * 1_000_000_000_000, permit: false }
    };
    config.neurons = (0..NODES).map(neuron).collect();
    config.rules.tempo = 360;
    config
}

/// What a node does once in a window: validators weigh, miners commit.
fn act(node: u8, window: u64) -> RuntimeCall {
    if node < VALIDATORS {
        let dests: Vec<u16> = (u16::from(VALIDATORS)..u16::from(NODES)).collect();
        let weights = dests.iter().map(|uid| 1 + (u64::from(*uid) * 7919 + window * 31 + u64::from(node)) as u16 % 1000).collect();
        return RuntimeCall::SubtensorModule(Subtensor::set_weights { netuid: NETUID.0, dests, weights, version_key: 0 });
    }
    let mut data = format!("t1 http://127.0.0.1:9000/node-{node}/{window}").into_bytes();
    data.resize(128, b' ');
    let fields = BoundedVec(vec![pallet_commitments::types::Data(CommitmentField::Raw(data))]);
    let info = Box::new(CommitmentInfo { fields });
    RuntimeCall::Commitments(pallet_commitments::pallet::Call::set_commitment { netuid: NETUID.0, info })
}

fn send(chain: &DevChain, node: u8, call: &RuntimeCall) {
    let key = key(node);
    let nonce = u32::try_from(chain.next_nonce(&key.account_id())).unwrap();
    let raw = extrinsic::sign(chain, &key, nonce, Era::mortal(64, chain.best().number.0), call).unwrap();
    chain.submit_transaction(&extrinsic::check(chain, &raw).unwrap()).unwrap();
}

/// Peak memory of this process, MiB; 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn bytes_in(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

fn day(blocks: u64) {
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let begun = Instant::now();
    let chain = DevChain::open(dir.path(), Some(&config), BlockTime::Virtual(250)).unwrap();
    let (mut transactions, mut largest) = (0u64, 0);
    for window in 0..blocks / WINDOW_BLOCKS {
        for node in 0..NODES {
            send(&chain, node, &act(node, window));
            transactions += 1;
        }
        chain.close_blocks(WINDOW_BLOCKS).unwrap();
        if window % 64 == 0 {
            largest = largest.max(bytes_in(dir.path()));
        }
    }
    let refused = chain.block(At::Best).unwrap().body.transactions.iter().filter(|tx| tx.refused.is_some()).count();
    let (head, seconds, peak) = (chain.best(), begun.elapsed().as_secs_f64(), peak_mib());
    drop(chain);
    println!(
        "{} blocks, {transactions} transactions in {seconds:.1} s; peak memory {peak} MiB; store at most {} KiB",
        head.number,
        largest / 1024
    );
    assert_eq!((head.number.0, refused), (blocks, 0));
    let snapshots = replay_each(dir.path(), &config, head.number);
    println!("replayed to the same head from each of {snapshots} kept snapshots");
    assert!(seconds <= 600.0 && peak <= 300, "the bars are 600 s and 300 MiB");
}

/// Opens a copy of the directory from each snapshot alone. Replay itself compares the hash, and so the state's digest, of every block.
fn replay_each(dir: &Path, config: &GenesisConfig, head: BlockNumber) -> usize {
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    let snapshots: Vec<&String> = names.iter().filter(|name| name.starts_with("snapshot-")).collect();
    for kept in &snapshots {
        let copy = tempfile::tempdir().unwrap();
        for name in names.iter().filter(|name| !name.starts_with("snapshot-") || name == kept || *name > *kept) {
            std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
        let engine = Engine::open(copy.path(), Some(config), config.genesis_ms).unwrap();
        assert_eq!(engine.head().number, head, "from {kept}");
    }
    snapshots.len()
}

/// Numbers that look random, from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What the process that is killed does: transactions and blocks, and it tells every block that is final.
fn work(dir: &Path, seed: u64) {
    let chain = DevChain::open(dir, Some(&config()), BlockTime::Virtual(250)).unwrap();
    let mut dice = Dice(seed | 1);
    let mut out = std::io::stdout();
    for window in chain.best().number.0.. {
        for _ in 0..dice.below(4) {
            let node = dice.below(u64::from(VALIDATORS)) as u8;
            send(&chain, node, &act(node, window));
        }
        let head = chain.close_blocks(1 + dice.below(24)).unwrap();
        writeln!(out, "final {} {}", head.number, head.hash).unwrap();
        out.flush().unwrap();
    }
}

fn kills(rounds: u64, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(seed | 1);
    let begun = Instant::now();
    let mut told_rounds = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["work", dir.path().to_str().unwrap(), &(seed + round).to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (heard, hears) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .inspect(|_| {
                    let _ = heard.send(());
                })
                .last()
        });
        // From before the chain is open to long after it works, also on a machine with other work: the moment counts from what was told.
        for _ in 0..dice.below(4) {
            hears.recv().expect("it works until it is killed");
        }
        std::thread::sleep(Duration::from_micros(dice.below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let told = reader.join().unwrap();
        let engine = Engine::open(dir.path(), Some(&config()), config().genesis_ms).unwrap();
        // Each line is written at once, so the last one is whole.
        let words: Vec<&str> = told.as_deref().map(|line| line.split(' ').collect()).unwrap_or_default();
        if let [_, number, hash] = words[..] {
            let header = engine.header(BlockNumber(number.parse().unwrap())).unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert_eq!(header.block.hash.to_string(), hash, "round {round}");
            told_rounds += 1;
        }
        if (round + 1) % 100 == 0 {
            println!("{} kills, head {}", round + 1, engine.head().number);
        }
    }
    assert!(rounds < 10 || told_rounds > 0, "no process lived long enough to tell of a final block");
    let seconds = begun.elapsed().as_secs_f64();
    println!("killed {rounds} times in {seconds:.0} s, {told_rounds} of them after final blocks: no torn state, no lost final block");
}

fn speed() {
    let (n, validators) = (256u16, 64u16);
    let mut dice = Dice(7);
    let row = |dice: &mut Dice| (validators..n).map(|uid| (uid, 1 + dice.below(65_535) as u16)).collect();
    let rows = |dice: &mut Dice| (0..n).map(|uid| if uid < validators { row(dice) } else { vec![] }).collect::<Vec<Vec<(u16, u16)>>>();
    let params = YumaParams {
        activity_cutoff: 5000,
        bonds_moving_average: 900_000,
        bonds_penalty: 65_535,
        kappa: 32_767,
        max_allowed_validators: 64,
        owner_uid: None,
        stake_threshold: 0,
        tempo: 360,
        yuma3: false,
        liquid_alpha: false,
        alpha_low: 45_875,
        alpha_high: 58_982,
        alpha_sigmoid_steepness: 1000,
    };
    let input = EpochInput {
        block: 1000,
        stake: (0..u64::from(n)).map(|uid| if uid < u64::from(validators) { 1_000_000_000 * (uid + 1) } else { 0 }).collect(),
        weights: rows(&mut dice),
        last_update: vec![990; n.into()],
        block_at_registration: vec![10; n.into()],
        validator_permit: (0..n).map(|uid| uid < validators).collect(),
        bonds: rows(&mut dice),
        oldest_commit: vec![],
        last_epoch_block: 640,
        emission: 300_000_000_000,
    };
    for (name, yuma3, liquid_alpha) in [("classic", false, false), ("Yuma 3", true, false), ("Yuma 3, liquid alpha", true, true)] {
        let params = YumaParams { yuma3, liquid_alpha, ..params.clone() };
        let best = (0..20).map(|_| time(|| drop(epoch(&params, &input)))).min().unwrap();
        println!("epoch of {n} uids with {validators} validators, {name}: {:.1} ms", best.as_secs_f64() * 1e3);
    }
    metagraph(n);
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn metagraph(n: u16) {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u16| {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&i.to_le_bytes());
        let account = Keypair::from_seed(seed).account_id();
        GenesisNeuron { hotkey: account, coldkey: account, stake: 1_000_000_000 * u64::from(i), permit: false }
    };
    config.neurons = (0..n).map(neuron).collect();
    let chain = DevChain::in_memory(&config, BlockTime::Virtual(250)).unwrap();
    let face = Face::new(chain, Permissions::default()).unwrap();
    let argument: String = NETUID.0.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let request =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"state_call","params":["SubnetInfoRuntimeApi_get_metagraph","0x{argument}"]}}"#);
    let best = (0..20).map(|_| time(|| drop(handle(&face, request.as_bytes(), None).unwrap()))).min().unwrap();
    println!("metagraph of {n} neurons, request to answer: {:.2} ms", best.as_secs_f64() * 1e3);
}
