//! JSON-RPC: messages to a development chain's face, subscriptions included. An input is a row of messages, one a line.

use super::town;
use crate::{Dice, Shapes, Target, json, mutate, normal};
use parity_scale_codec::Encode as _;
use serde_json::{Value, json};
use templar_chain_rpc::{
    Face,
    apis::APIS,
    rpc::{BATCH_MAX, Session, handle},
    storage::Args,
};
use templar_protocol::AccountId;
use tokio::{runtime::Runtime, sync::mpsc};

/// Messages in one input.
const MESSAGES_MAX: usize = 12;
/// What the connection may have told before it is read.
const QUEUE: usize = 64;
/// Blocks in one call, beyond which an honest chain is busy for long. More than the method's own bound are asked for as well.
const BLOCKS_MAX: u64 = 64;
const ENTRIES: [(&str, &str); 12] = [
    ("System", "Account"),
    ("System", "Events"),
    ("System", "BlockHash"),
    ("Timestamp", "Now"),
    ("SubtensorModule", "Tempo"),
    ("SubtensorModule", "Uids"),
    ("SubtensorModule", "Keys"),
    ("SubtensorModule", "Weights"),
    ("SubtensorModule", "Bonds"),
    ("SubtensorModule", "TimelockedWeightCommits"),
    ("Commitments", "CommitmentOf"),
    ("Drand", "Pulses"),
];

/// A face, a connection to it, and what can be asked.
pub struct Rpc {
    face: Face,
    runtime: Runtime,
    session: Session,
    told: mpsc::Receiver<String>,
    methods: Vec<String>,
}

impl Rpc {
    /// A fresh chain with a connection.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without a driver needs nothing");
        let (out, told) = mpsc::channel(QUEUE);
        let face = town::face();
        let listed = handle(&face, br#"{"jsonrpc":"2.0","id":1,"method":"rpc_methods"}"#, None).unwrap_or_default();
        let mut listed: Value = serde_json::from_str(&listed).expect("an answer is JSON");
        let methods = serde_json::from_value(listed["result"]["methods"].take()).expect("the methods are texts");
        Self { face, runtime, session: Session::new(out), told, methods }
    }

    fn params(&self, method: &str, dice: &mut Dice) -> Vec<Value> {
        let hexed = |bytes: &[u8]| Value::from(format!("0x{}", hex::encode(bytes)));
        let chain = self.face.chain();
        let hash = |dice: &mut Dice| match dice.below(4) {
            0 => Value::Null,
            1 => hexed(&dice.array::<32>()),
            2 => hexed(&chain.genesis_hash().0),
            _ => hexed(&chain.best().hash.0),
        };
        let mut params = match method {
            "state_call" | "state_callAt" => {
                let (name, arguments) = api(dice);
                vec![name.into(), hexed(&arguments), hash(dice)]
            }
            "chain_getBlock" | "chain_getHeader" | "state_getRuntimeVersion" | "state_getMetadata" => vec![hash(dice)],
            "chain_getBlockHash" => vec![Value::from(dice.number())],
            "author_submitExtrinsic" | "author_submitAndWatchExtrinsic" => {
                let (call, era) = (town::call(dice), town::era(dice, chain.best().number.0));
                let raw = town::signed(chain, dice.below(9), u32::from(dice.once_in(10)), era, &call).unwrap_or_default();
                vec![hexed(&raw)]
            }
            "state_getKeysPaged" | "state_getKeysPagedAt" => {
                let prefix = self.key(dice);
                let prefix = &prefix[..dice.below(prefix.len() + 1)];
                vec![
                    hexed(prefix),
                    Value::from(dice.below(1002)),
                    if dice.once_in(2) { Value::Null } else { hexed(&self.key(dice)) },
                    hash(dice),
                ]
            }
            "state_queryStorageAt" | "state_subscribeStorage" => {
                vec![(0..dice.below(4)).map(|_| hexed(&self.key(dice))).collect(), hash(dice)]
            }
            "system_accountNextIndex" | "account_nextIndex" => vec![AccountId(town::account(dice).0).to_string().into()],
            "dev_advance" => vec![Value::from(dice.below(12))],
            "dev_fund" => vec![AccountId(town::account(dice).0).to_string().into(), Value::from(dice.number())],
            "dev_createSubnet" => vec![town::netuid(dice).into(), rules(dice)],
            "dev_setRules" => vec![town::netuid(dice).into(), rules(dice)],
            "templar_decided" => vec![hash(dice)],
            _ if method.starts_with("state_getStorage") => vec![hexed(&self.key(dice)), hash(dice)],
            _ if method.contains("nsubscribe") || method.contains("unwatch") => vec![format!("t{:08x}", dice.below(40)).into()],
            _ => Vec::new(),
        };
        if dice.once_in(12) {
            params.push(json::any(dice, &[]));
        }
        params
    }

    /// The key of an entry, for something that is there.
    fn key(&self, dice: &mut Dice) -> Vec<u8> {
        let (pallet, entry) = *dice.pick(&ENTRIES);
        let args = Args {
            netuid: town::netuid(dice),
            uid: dice.below(6) as u16,
            account: AccountId(town::account(dice).0),
            second: AccountId(town::account(dice).0),
            number: dice.below(20) as u64,
        };
        self.face.storage().key(pallet, entry, &args).unwrap_or_default()
    }

    fn request(&self, dice: &mut Dice) -> Value {
        let method = dice.pick(&self.methods).as_str();
        let mut request = json!({ "jsonrpc": "2.0", "id": dice.below(100), "method": method, "params": self.params(method, dice) });
        if dice.once_in(20) {
            request["id"] = json::any(dice, &[]);
        }
        request
    }

    fn message(&self, dice: &mut Dice) -> String {
        if dice.once_in(10) {
            let batch: Vec<Value> = (0..dice.below(5)).map(|_| self.request(dice)).collect();
            return Value::from(batch).to_string();
        }
        self.request(dice).to_string()
    }

    /// Lets subscriptions speak, and hears them.
    fn hear(&mut self) -> Vec<String> {
        self.session.answered();
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }
}

impl Default for Rpc {
    fn default() -> Self {
        Self::new()
    }
}

/// A runtime function with arguments of the right length, mostly.
fn api(dice: &mut Dice) -> (String, Vec<u8>) {
    let api = dice.pick(&APIS);
    let name = format!("{}_{}", api.name, dice.pick(&api.methods).name);
    let arguments = match dice.below(7) {
        0 => Vec::new(),
        1 => town::netuid(dice).encode(),
        2 => (town::netuid(dice), dice.below(6) as u16).encode(),
        3 => town::account(dice).encode(),
        4 => (town::account(dice), town::account(dice), town::netuid(dice)).encode(),
        5 => (13 + dice.below(5) as u32).encode(),
        _ => dice.bytes(60),
    };
    (name, arguments)
}

fn rules(dice: &mut Dice) -> Value {
    const NAMES: [&str; 14] = [
        "tempo",
        "immunity_period",
        "weights_rate_limit",
        "max_allowed_uids",
        "max_allowed_validators",
        "kappa",
        "bonds_moving_average",
        "activity_cutoff",
        "stake_threshold",
        "min_burn",
        "max_burn",
        "burn_decay_q32",
        "reveal_period_epochs",
        "owner_cut",
    ];
    let mut rules = json!({ "yuma3": dice.once_in(2), "liquid_alpha": dice.once_in(2), "commit_reveal": dice.once_in(2) });
    for _ in 0..dice.below(4) {
        let value = if dice.once_in(2) { dice.number() } else { dice.below(100) as u64 };
        rules[*dice.pick(&NAMES)] = value.into();
    }
    rules
}

/// Whether a message asks for more blocks than there is time for.
fn is_endless(message: &Value) -> bool {
    match message {
        Value::Array(batch) => batch.iter().take(BATCH_MAX).any(is_endless),
        request if request["method"] == "dev_advance" => {
            let number = match &request["params"][0] {
                Value::String(text) => match text.strip_prefix("0x") {
                    Some(digits) => u64::from_str_radix(digits, 16).ok(),
                    None => text.parse().ok(),
                },
                value => value.as_u64(),
            };
            number.is_some_and(|blocks| (BLOCKS_MAX..=100_000).contains(&blocks))
        }
        _ => false,
    }
}

fn shape(request: &Value, answer: &Value) -> String {
    let method: String = request["method"].as_str().unwrap_or("-").chars().filter(char::is_ascii_graphic).take(40).collect();
    let known = if method.contains('_') { method.as_str() } else { "-" };
    match answer.get("error") {
        Some(error) => format!("{known}: {} {}", error["code"], normal(error["data"].as_str().unwrap_or_default())),
        None => format!("{known}: {}", json::skeleton(&answer["result"])),
    }
}

/// The shapes of an answer's parts; those of unknown methods are told by their error alone.
fn shapes_of(message: &Value, answer: &Value, known: &[String], shapes: &mut Shapes) {
    match (message, answer) {
        (Value::Array(requests), Value::Array(answers)) => {
            shapes.insert("a batch".into());
            for (request, answer) in requests.iter().zip(answers) {
                shapes_of(request, answer, known, shapes);
            }
        }
        _ => {
            let is_known = message["method"].as_str().is_some_and(|method| known.iter().any(|name| name == method));
            shapes.insert(shape(if is_known { message } else { &Value::Null }, answer));
        }
    }
}

impl Target for Rpc {
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8> {
        let messages: Vec<String> = (0..1 + dice.below(6)).map(|_| self.message(dice)).collect();
        messages.join("\n").into_bytes()
    }

    fn mutate(&mut self, input: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut messages: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').take(MESSAGES_MAX).map(<[u8]>::to_vec).collect();
        let at = dice.below(messages.len());
        match dice.below(6) {
            0 => messages.insert(at, self.message(dice).into_bytes()),
            1 if messages.len() > 1 => drop(messages.remove(at)),
            2 => messages[at] = mutate::bytes(&messages[at], dice),
            _ => match serde_json::from_slice::<Value>(&messages[at]) {
                Ok(mut value) => {
                    let words: Vec<&str> = self.methods.iter().map(String::as_str).collect();
                    for _ in 0..=dice.below(3) {
                        json::change(&mut value, dice, &words);
                    }
                    messages[at] = value.to_string().into_bytes();
                }
                Err(_) => messages[at] = self.message(dice).into_bytes(),
            },
        }
        messages.join(&b'\n')
    }

    fn run(&mut self, input: &[u8]) -> Shapes {
        let mut shapes = Shapes::new();
        for line in input.split(|byte| *byte == b'\n').take(MESSAGES_MAX) {
            let message: Value = serde_json::from_slice(line).unwrap_or(Value::Null);
            if is_endless(&message) {
                continue;
            }
            let answer = {
                let _within = self.runtime.enter();
                handle(&self.face, line, Some(&self.session))
            };
            if let Some(answer) = answer {
                let answer = serde_json::from_str(&answer).expect("every answer is JSON");
                shapes_of(&message, &answer, &self.methods, &mut shapes);
            }
            for told in self.hear() {
                let told: Value = serde_json::from_str(&told).expect("what a subscription tells is JSON");
                shapes.insert(format!("{} tells {}", told["method"], json::skeleton(&told["params"]["result"])));
            }
        }
        shapes
    }

    fn renew(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_are_asked_and_most_answer() {
        let (mut target, mut dice) = (Rpc::new(), Dice::new(1));
        let mut shapes = Shapes::new();
        for _ in 0..150 {
            let input = target.generate(&mut dice);
            shapes.extend(target.run(&input));
        }
        let answered = |method: &&String| shapes.iter().any(|shape| shape.starts_with(&format!("{method}: ")));
        let silent: Vec<&String> = target.methods.iter().filter(|method| !answered(method)).collect();
        assert!(silent.len() < target.methods.len() / 10, "never asked: {silent:?}");
        assert!(shapes.iter().any(|shape| shape.contains(" tells ")), "{shapes:?}");
    }

    #[test]
    fn more_blocks_than_there_is_time_for_are_not_asked() {
        let asks = |blocks: Value| is_endless(&json!([{ "method": "dev_advance", "params": [blocks] }]));
        assert!(asks(json!(64)) && asks(json!("0x10000")) && asks(json!("100000")));
        assert!(!asks(json!(63)) && !asks(json!(100_001)) && !asks(Value::Null));
    }
}
