//! Commitments: what miners write on the chain about their buckets, as everybody reads it.
//!
//! The first byte of an input says what the others are: the bytes committed (even), the fields of a commitment as a transaction has them and as the
//! chain stores them (odd). The latter are committed to a development chain and read back by the client's own decoder.

use super::town;
use crate::{Dice, Shapes, Target, mutate, normal};
use parity_scale_codec::{DecodeAll as _, Encode as _};
use templar_chain::{BlockHash, DevChain};
use templar_chain_rpc::{
    Face, extrinsic,
    runtime::{
        node_subtensor_runtime::RuntimeCall,
        pallet_commitments::{
            pallet::Call,
            types::{CommitmentInfo, Data, Registration},
        },
        sp_runtime::generic::era::Era,
    },
    storage::Args,
    view::View,
};
use templar_protocol::AccountId;
use templar_store::BucketUrl;
use templar_subtensor::{BucketCommitment, StoredValues};
use templar_wallet::Signer as _;

/// A chain, and the client's view of what it stores.
pub struct Commitments {
    face: Face,
    stored: StoredValues,
}

impl Commitments {
    /// A fresh chain.
    pub fn new() -> Self {
        let face = town::face();
        let metadata = face.metadata().format(16).expect("the newest format is served");
        let stored = StoredValues::new(&BlockHash(face.chain().genesis_hash().0), metadata).expect("our own metadata can be read");
        Self { face, stored }
    }

    fn committed(data: &[u8]) -> String {
        match BucketCommitment::parse(data) {
            Err(error) => normal(&error.to_string()),
            Ok(read) => {
                assert_eq!(read.to_bytes(), data, "what was read is what was written");
                match read {
                    BucketCommitment::Keyed(bucket) => {
                        assert!(bucket.account_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "it becomes a part of a host's name");
                        "keyed".into()
                    }
                    BucketCommitment::Open { url } => match BucketUrl::parse_peer(&url) {
                        Ok(read) => {
                            assert_eq!(BucketUrl::parse_peer(&read.to_string()).ok(), Some(read), "a URL that is shown can be read");
                            "a URL".into()
                        }
                        Err(error) => format!("no URL: {}", normal(&error.to_string())),
                    },
                }
            }
        }
    }

    /// As the client reads it from a node, which may store what it likes.
    fn stored(&self, value: &[u8]) -> String {
        match self.stored.commitment(value) {
            Ok(Some(commitment)) => format!("stored: {}", Self::committed(&commitment.data)),
            Ok(None) => "stored: no bytes".into(),
            Err(error) => format!("stored: {}", normal(&error.to_string())),
        }
    }

    /// Through a transaction to the chain and back.
    fn through_the_chain(&self, info: CommitmentInfo) -> String {
        let chain = self.face.chain();
        let call = RuntimeCall::Commitments(Call::set_commitment { netuid: town::SUBNETS[0].0, info: Box::new(info) });
        let era = Era::mortal(64, chain.best().number.0);
        let raw = town::signed(chain, 2, 0, era, &call).expect("the era begins now");
        let tx = match extrinsic::check(chain, &raw) {
            Ok(tx) => tx,
            Err(error) => return format!("refused: {}", normal(&error.to_string())),
        };
        let report = match chain.submit_transaction(&tx) {
            Ok(report) => report,
            Err(error) => return format!("refused: {}", normal(&error.to_string())),
        };
        if let Some(Some(error)) = chain.decided(&report.tx) {
            return format!("failed: {}", normal(&error.to_string()));
        }
        chain.close_block().expect("a chain in memory goes on");
        let value = kept(&self.face, chain, town::KEYS[2].account_id());
        value.map_or_else(|| "nothing is stored".into(), |value| self.stored(&value))
    }
}

/// What the chain stores of an account's commitment.
fn kept(face: &Face, chain: &DevChain, account: AccountId) -> Option<Vec<u8>> {
    let args = Args { netuid: town::SUBNETS[0].0, account, ..Args::default() };
    let view = View::at(chain, None).ok()?;
    face.storage().get(&view, &face.storage().key("Commitments", "CommitmentOf", &args)?)
}

impl Default for Commitments {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for Commitments {
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8> {
        let digits = |dice: &mut Dice| hex::encode(dice.array::<64>());
        match dice.below(8) {
            0 => [&[0][..], digits(dice).as_bytes()].concat(),
            1 => {
                let (scheme, host) =
                    (*dice.pick(&["http", "https", "file", "ftp"]), *dice.pick(&["127.0.0.1:9000", "b.example", "[::1]", "u:p@h"]));
                let bucket = if dice.once_in(2) { "a-bucket.1".into() } else { dice.text(30) };
                format!("\0t1 {scheme}://{host}/{bucket}").into_bytes()
            }
            2 => [&[0][..], &dice.bytes(140)].concat(),
            3 => {
                let registration = Registration { deposit: dice.number(), block: dice.number() as u32, info: town::commitment(dice) };
                [&[3][..], &registration.encode()].concat()
            }
            _ => [&[1][..], &town::commitment(dice).encode()].concat(),
        }
    }

    fn mutate(&mut self, input: &[u8], dice: &mut Dice) -> Vec<u8> {
        let Some((kind, body)) = input.split_first() else { return self.generate(dice) };
        if *kind % 4 == 1
            && !dice.once_in(3)
            && let Ok(mut info) = CommitmentInfo::decode_all(&mut &*body)
        {
            let fields = &mut info.fields.0;
            let at = dice.below(fields.len() + 1);
            if dice.once_in(3) && at < fields.len() {
                fields.remove(at);
            } else {
                fields.insert(at, Data(town::field(dice)));
            }
            return [&[*kind][..], &info.encode()].concat();
        }
        [&[*kind][..], &mutate::bytes(body, dice)].concat()
    }

    fn run(&mut self, input: &[u8]) -> Shapes {
        let Some((kind, body)) = input.split_first() else { return Shapes::from(["nothing".into()]) };
        let shape = match kind % 4 {
            0 | 2 => Self::committed(body),
            3 => self.stored(body),
            _ => match CommitmentInfo::decode_all(&mut &*body) {
                Err(error) => format!("no fields: {}", normal(&error.to_string())),
                Ok(info) => {
                    assert_eq!(info.encode(), body, "one content has one encoding");
                    let kinds = info.fields.0.iter().map(|Data(field)| kind_of(field)).collect::<Vec<_>>().join(" ");
                    format!("{kinds}: {}", self.through_the_chain(info))
                }
            },
        };
        Shapes::from([shape])
    }

    fn renew(&mut self) {
        self.face = town::face();
    }
}

fn kind_of(field: &templar_chain::CommitmentField) -> String {
    let text = format!("{field:?}");
    text.chars().take_while(char::is_ascii_alphabetic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_are_taken() {
        let (mut target, mut dice) = (Commitments::new(), Dice::new(4));
        let mut shapes = Shapes::new();
        for _ in 0..200 {
            let input = target.generate(&mut dice);
            shapes.extend(target.run(&input));
        }
        for wanted in ["keyed", "a URL", "no URL", "stored: ", "Raw: stored: "] {
            assert!(shapes.iter().any(|shape| shape.starts_with(wanted)), "{wanted}: {shapes:?}");
        }
    }
}
