//! Transactions: calls by the runtime's types, signed by those who may sign, in sequences with blocks between; and bytes that are none.
//!
//! An input is a row of records, each of a kind (1 byte), a length (2 bytes, little-endian) and that many bytes:
//!
//! * 0: a transaction as bytes.
//! * 1: who signs, its era and nonce (3 bytes), and the bytes of a call. Signed here, so that changed calls reach the chain.
//! * 2: as 1, with one bit of the signed bytes changed: a fourth byte says where.
//! * 3: blocks, as many as its first byte says modulo 16.

use super::town;
use crate::{Dice, Shapes, Target, mutate, normal};
use parity_scale_codec::{Decode as _, Encode as _};
use templar_chain::{ChainError, DevChain};
use templar_chain_rpc::{
    Face, extrinsic,
    extrinsic::BadExtrinsic,
    runtime::{node_subtensor_runtime::RuntimeCall, sp_runtime::generic::era::Era},
    storage::Args,
    view::View,
};

const RAW: u8 = 0;
const CALL: u8 = 1;
const DAMAGED: u8 = 2;
const BLOCKS: u8 = 3;
/// Records in one input.
const RECORDS_MAX: usize = 12;

/// A chain with its face.
pub struct Extrinsics {
    face: Face,
}

impl Extrinsics {
    /// A fresh chain.
    pub fn new() -> Self {
        Self { face: town::face() }
    }
}

impl Default for Extrinsics {
    fn default() -> Self {
        Self::new()
    }
}

fn read(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some(([kind, low, high], rest)) = input.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        records.push((*kind % 4, rest[..length].to_vec()));
        input = &rest[length..];
    }
    records.truncate(RECORDS_MAX);
    records
}

fn write(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let length = |body: &[u8]| u16::try_from(body.len()).unwrap_or(u16::MAX);
    records.iter().flat_map(|(kind, body)| [&[*kind][..], &length(body).to_le_bytes(), body].concat()).collect()
}

/// A record of a call by its type.
fn call_record(dice: &mut Dice) -> (u8, Vec<u8>) {
    let mut body = vec![dice.below(town::KEYS.len()) as u8, if dice.once_in(6) { dice.byte() } else { 0 }, u8::from(dice.once_in(12))];
    body.extend(town::call(dice).encode());
    (CALL, body)
}

fn era_of(byte: u8, chain: &DevChain) -> Era {
    let now = chain.best().number.0;
    match byte {
        0..128 => Era::mortal(64, now),
        128..160 => Era::Immortal,
        other => Era::mortal(1 << (other % 20), now.wrapping_sub(u64::from(other))),
    }
}

/// What kind of call it is: pallet and name.
fn name_of(call: &RuntimeCall) -> String {
    let text: String = format!("{call:?}").chars().take(64).collect();
    let end = text.find(" {").unwrap_or(text.len());
    text[..end].to_owned()
}

impl Extrinsics {
    fn sign(&self, body: &[u8]) -> Option<(Vec<u8>, String)> {
        let ([by, era, ahead], call) = body.split_first_chunk::<3>()?;
        let call = RuntimeCall::decode(&mut &*call).ok()?;
        let chain = self.face.chain();
        let raw = town::signed(chain, usize::from(*by), u32::from(*ahead % 4), era_of(*era, chain), &call)?;
        Some((raw, name_of(&call)))
    }

    /// Submits a transaction and says what became of it.
    fn submit(&self, raw: &[u8]) -> String {
        let chain = self.face.chain();
        let tx = match extrinsic::check(chain, raw) {
            Ok(tx) => tx,
            Err(BadExtrinsic::Format(why)) => return format!("format: {}", normal(&why)),
            Err(BadExtrinsic::Invalid(error)) => return reason(&error),
        };
        match chain.submit_transaction(&tx) {
            Err(error) => reason(&error),
            Ok(report) => match chain.decided(&report.tx) {
                Some(None) => "done".into(),
                Some(Some(error)) => reason(&error),
                None => "not decided".into(),
            },
        }
    }
}

fn reason(error: &ChainError) -> String {
    match error {
        ChainError::Dispatch { pallet, error, .. } => format!("{pallet}.{error}"),
        ChainError::PoolRejected { code, .. } => format!("pool: {code:?}"),
        other => normal(&other.to_string()),
    }
}

/// What always holds of a chain: no money is made or lost, and its state can be read.
fn check(face: &Face) {
    face.chain().close_block().expect("a chain in memory goes on");
    let view = View::at(face.chain(), None).expect("the newest state is kept");
    assert_eq!(view.state().surplus(), 0, "what was created is held, waits in a pot, or was burned");
    let events = face.storage().key("System", "Events", &Args::default()).and_then(|key| face.storage().get(&view, &key));
    assert!(events.is_some(), "every block has events");
}

impl Target for Extrinsics {
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8> {
        let one = |dice: &mut Dice| match dice.below(10) {
            0 => (RAW, dice.bytes(120)),
            1 => (BLOCKS, vec![dice.byte()]),
            2 => {
                let (_, mut body) = call_record(dice);
                body.insert(3, dice.byte());
                (DAMAGED, body)
            }
            3 => {
                let (_, body) = call_record(dice);
                let raw = self.sign(&body).map(|(raw, _)| raw).unwrap_or_default();
                (RAW, mutate::bytes(&raw, dice))
            }
            _ => call_record(dice),
        };
        let records: Vec<(u8, Vec<u8>)> = (0..1 + dice.below(8)).map(|_| one(dice)).collect();
        write(&records)
    }

    fn mutate(&mut self, input: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut records = read(input);
        let at = dice.below(records.len());
        match dice.below(6) {
            0 if !records.is_empty() => drop(records.remove(at)),
            1 => records.insert(at, call_record(dice)),
            2 => records.insert(at, (BLOCKS, vec![dice.byte()])),
            3 if !records.is_empty() => {
                let to = dice.below(records.len());
                records.swap(at, to);
            }
            _ if !records.is_empty() => records[at].1 = mutate::bytes(&records[at].1, dice),
            _ => records.push(call_record(dice)),
        }
        write(&records)
    }

    fn run(&mut self, input: &[u8]) -> Shapes {
        let mut shapes = Shapes::new();
        for (kind, mut body) in read(input) {
            let shape = match kind {
                BLOCKS => {
                    let blocks = u64::from(body.first().copied().unwrap_or(1) % 16);
                    self.face.chain().close_blocks(blocks).expect("a chain in memory goes on");
                    continue;
                }
                RAW => self.submit(&body),
                DAMAGED if body.len() > 3 => {
                    let place = usize::from(body.remove(3));
                    let Some((mut raw, _)) = self.sign(&body) else { continue };
                    let at = place % raw.len();
                    raw[at] ^= 1 << (place % 8);
                    let shape = self.submit(&raw);
                    assert_ne!(shape, "done", "a transaction was changed after it was signed, and taken");
                    format!("damaged: {shape}")
                }
                _ => match self.sign(&body) {
                    Some((raw, name)) => format!("{name}: {}", self.submit(&raw)),
                    None => "no call".into(),
                },
            };
            shapes.insert(shape);
        }
        check(&self.face);
        shapes
    }

    fn renew(&mut self) {
        self.face = town::face();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written() {
        let records = vec![(CALL, vec![1, 2, 3]), (BLOCKS, vec![]), (RAW, vec![9; 300])];
        assert_eq!(read(&write(&records)), records);
        let bytes = write(&records);
        // The first two take 9 bytes, the head of the third takes 3.
        assert_eq!(read(&bytes[..20]).last(), Some(&(RAW, vec![9; 8])), "the last one is cut");
        assert_eq!(read(&bytes[..11]), records[..2], "a record without a whole head is none");
    }

    #[test]
    fn most_calls_are_decided() {
        let (mut target, mut dice) = (Extrinsics::new(), Dice::new(5));
        let mut shapes = Shapes::new();
        for _ in 0..60 {
            let input = target.generate(&mut dice);
            shapes.extend(target.run(&input));
        }
        assert!(shapes.iter().any(|shape| shape.ends_with(": done")), "{shapes:?}");
        assert!(shapes.iter().any(|shape| shape.starts_with("damaged: ")), "{shapes:?}");
        assert!(shapes.len() > 20, "{shapes:?}");
    }
}
