//! Signed calls: what an account asks the development chain to do, and the bytes it signs.
//!
//! The signature covers a fixed label, the chain's genesis hash, the signer, the nonce and the call, so a call can neither be
//! replayed, nor moved to another chain, nor given other arguments.

use crate::{
    error::{ChainError, PoolCode, Result},
    header::blake2_256,
    state::Identity,
    types::{Axon, BlockHash, CommitmentField},
};
use parity_scale_codec::Encode as _;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use templar_protocol::{AccountId, Netuid, Uid};
use templar_wallet::{SUBSTRATE_CONTEXT, Signer, verify};

/// The most weights that one call may hold.
pub const WEIGHTS_MAX: usize = 4096;

const LABEL: &[u8] = b"templar development chain call 1";

/// One call, with the names of the real chain (spec chain-and-wallet §B.4). Amounts are rao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Replaces the signer's commitment.
    SetCommitment {
        /// The subnet.
        netuid: Netuid,
        /// At most three fields.
        fields: Vec<CommitmentField>,
    },
    /// Sets the signer's weights.
    SetWeights {
        /// The subnet.
        netuid: Netuid,
        /// Uids and their shares.
        weights: Vec<(Uid, u16)>,
        /// The version that the weights were computed under.
        version_key: u64,
    },
    /// Registers a hotkey, paid by the signer.
    Register {
        /// The subnet.
        netuid: Netuid,
        /// The new neuron's hotkey.
        hotkey: AccountId,
        /// The most that the signer pays.
        max_price: u64,
    },
    /// Announces the signer's address.
    ServeAxon {
        /// The subnet.
        netuid: Netuid,
        /// The address.
        axon: Axon,
    },
    /// Moves balance.
    Transfer {
        /// Who gets it.
        to: AccountId,
        /// How much.
        amount: u64,
    },
    /// Moves all balance.
    TransferAll {
        /// Who gets it.
        to: AccountId,
    },
    /// Balance to stake.
    AddStake {
        /// On which hotkey.
        hotkey: AccountId,
        /// The subnet.
        netuid: Netuid,
        /// How much.
        amount: u64,
    },
    /// Stake to balance.
    RemoveStake {
        /// On which hotkey.
        hotkey: AccountId,
        /// The subnet.
        netuid: Netuid,
        /// How much.
        amount: u64,
    },
    /// Commits to weights by their hash.
    CommitWeights {
        /// The subnet.
        netuid: Netuid,
        /// See [`weights_hash`].
        #[serde(with = "hex::serde")]
        hash: [u8; 32],
    },
    /// Shows the weights that were committed by their hash.
    RevealWeights {
        /// The subnet.
        netuid: Netuid,
        /// Uids and their shares.
        weights: Vec<(Uid, u16)>,
        /// What the hash was salted with.
        salt: Vec<u16>,
        /// The version that the weights were computed under.
        version_key: u64,
    },
    /// Commits to weights that a round of the beacon opens.
    CommitTimelockedWeights {
        /// The subnet.
        netuid: Netuid,
        /// The ciphertext.
        #[serde(with = "hex::serde")]
        commit: Vec<u8>,
        /// The round.
        round: u64,
        /// The version of the scheme: 4.
        version: u16,
    },
    /// Makes the signer the owner of a hotkey that has none.
    AssociateHotkey {
        /// The hotkey.
        hotkey: AccountId,
    },
    /// Tells who the signer is.
    SetIdentity {
        /// Who.
        identity: Identity,
    },
    /// Replaces a hotkey of the signer by a new one.
    SwapHotkey {
        /// The hotkey.
        hotkey: AccountId,
        /// The new one.
        new_hotkey: AccountId,
        /// The subnet; all of them when there is none.
        netuid: Option<Netuid>,
    },
    /// Announces the move of all that the signer has to another coldkey.
    ScheduleColdkeySwap {
        /// The other coldkey.
        new_coldkey: AccountId,
    },
    /// Announces the move of all that the signer has to another coldkey, by that one's hash.
    AnnounceColdkeySwap {
        /// BLAKE2-256 of the other coldkey.
        #[serde(with = "hex::serde")]
        hash: [u8; 32],
    },
    /// Does the move that was announced.
    SwapColdkeyAnnounced {
        /// The other coldkey.
        new_coldkey: AccountId,
    },
    /// Takes the announcement back.
    ClearColdkeySwap {},
    /// Freezes the signer's account, since the announcement is not its owner's.
    DisputeColdkeySwap {},
    /// Begins a subnet that the signer owns.
    RegisterNetwork {
        /// The owner's hotkey.
        hotkey: AccountId,
    },
    /// Does nothing, for all to see.
    Remark {
        /// The bytes.
        #[serde(with = "hex::serde")]
        remark: Vec<u8>,
    },
    /// A call that was refused before its arguments could become one of the others.
    Refused {
        /// The pallet that refuses.
        pallet: String,
        /// The chain's name of the reason.
        error: String,
        /// The reason in words.
        meaning: String,
    },
}

/// The hash that weights are committed by: BLAKE2-256 over SCALE of hotkey, subnet, uids, shares, salt and version key.
pub fn weights_hash(hotkey: &AccountId, netuid: Netuid, weights: &[(Uid, u16)], salt: &[u16], version_key: u64) -> BlockHash {
    let uids: Vec<u16> = weights.iter().map(|(uid, _)| uid.0).collect();
    let values: Vec<u16> = weights.iter().map(|(_, value)| *value).collect();
    blake2_256(&(hotkey.0, netuid.0, uids, values, salt, version_key).encode())
}

impl Call {
    /// The canonical bytes: a tag, then the fields in order, integers little-endian, lists after their length; of calls that came later,
    /// their JSON.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::SetWeights { netuid, weights, version_key } => {
                out.push(1);
                out.extend(netuid.0.to_le_bytes());
                out.extend((weights.len() as u64).to_le_bytes());
                for (uid, weight) in weights {
                    out.extend(uid.0.to_le_bytes());
                    out.extend(weight.to_le_bytes());
                }
                out.extend(version_key.to_le_bytes());
            }
            Self::Register { netuid, hotkey, max_price } => {
                out.push(2);
                out.extend(netuid.0.to_le_bytes());
                out.extend(hotkey.0);
                out.extend(max_price.to_le_bytes());
            }
            Self::ServeAxon { netuid, axon } => {
                out.push(3);
                out.extend(netuid.0.to_le_bytes());
                out.extend(axon.version.to_le_bytes());
                match axon.ip {
                    std::net::IpAddr::V4(ip) => {
                        out.push(4);
                        out.extend(ip.octets());
                    }
                    std::net::IpAddr::V6(ip) => {
                        out.push(6);
                        out.extend(ip.octets());
                    }
                }
                out.extend(axon.port.to_le_bytes());
                out.push(axon.protocol);
            }
            Self::Transfer { to, amount } => {
                out.push(4);
                out.extend(to.0);
                out.extend(amount.to_le_bytes());
            }
            Self::AddStake { hotkey, netuid, amount } | Self::RemoveStake { hotkey, netuid, amount } => {
                out.push(if matches!(self, Self::AddStake { .. }) { 5 } else { 6 });
                out.extend(hotkey.0);
                out.extend(netuid.0.to_le_bytes());
                out.extend(amount.to_le_bytes());
            }
            other => {
                out.push(u8::MAX);
                out.extend(serde_json::to_vec(other).expect("a call has text keys only"));
            }
        }
    }
}

/// A call with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCall {
    /// Who asks.
    pub signer: AccountId,
    /// How many calls of the signer the chain has taken before.
    pub nonce: u64,
    /// What is asked.
    pub call: Call,
    /// sr25519 signature under the context `substrate`.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

fn signed_bytes(genesis: &BlockHash, signer: &AccountId, nonce: u64, call: &Call) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend(LABEL);
    out.extend(genesis.0);
    out.extend(signer.0);
    out.extend(nonce.to_le_bytes());
    call.write(&mut out);
    out
}

impl SignedCall {
    /// Signs `call` for the chain with this genesis hash.
    pub fn new(genesis: &BlockHash, signer: &dyn Signer, nonce: u64, call: Call) -> Self {
        let account = signer.account_id();
        let signature = signer.sign(SUBSTRATE_CONTEXT, &signed_bytes(genesis, &account, nonce, &call));
        Self { signer: account, nonce, call, signature }
    }

    /// Checks the signature. `PoolRejected` with `BadProof` when it does not hold.
    pub fn check(&self, genesis: &BlockHash) -> Result<()> {
        if verify(SUBSTRATE_CONTEXT, &self.signer, &signed_bytes(genesis, &self.signer, self.nonce, &self.call), &self.signature) {
            return Ok(());
        }
        Err(ChainError::pool(
            PoolCode::BadProof,
            format!("the signature is not by {} over this call on the chain {genesis}: check the key and the genesis hash", self.signer),
        ))
    }

    /// Hash of the call with its signature.
    pub fn hash(&self, genesis: &BlockHash) -> BlockHash {
        let mut bytes = signed_bytes(genesis, &self.signer, self.nonce, &self.call);
        bytes.extend(self.signature);
        blake2_256(&bytes)
    }
}

/// A transaction in the chain's own form, whose signature another face of the chain has checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Who asks.
    pub signer: AccountId,
    /// How many transactions of the signer the chain has taken before.
    pub nonce: u64,
    /// What is asked.
    pub call: Call,
    /// The bytes as they were sent; their BLAKE2-256 is the transaction's hash.
    #[serde(with = "shared_hex")]
    pub raw: Arc<[u8]>,
}

impl Transaction {
    /// BLAKE2-256 of the bytes.
    pub fn hash(&self) -> BlockHash {
        blake2_256(&self.raw)
    }
}

mod shared_hex {
    use super::Arc;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        hex::serde::serialize(bytes, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        hex::serde::deserialize::<_, Vec<u8>>(deserializer).map(Arc::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_wallet::Keypair;

    #[test]
    fn a_signature_holds_for_its_call_alone() {
        let key = Keypair::from_seed([1; 32]);
        let genesis = BlockHash([7; 32]);
        let call = Call::Transfer { to: AccountId([2; 32]), amount: 5 };
        let signed = SignedCall::new(&genesis, &key, 3, call);
        signed.check(&genesis).unwrap();
        let refused = |other: &SignedCall, genesis: &BlockHash| {
            assert!(matches!(other.check(genesis), Err(ChainError::PoolRejected { code: PoolCode::BadProof, .. })));
        };
        refused(&signed, &BlockHash([8; 32]));
        refused(&SignedCall { nonce: 4, ..signed.clone() }, &genesis);
        refused(&SignedCall { call: Call::Transfer { to: AccountId([2; 32]), amount: 6 }, ..signed.clone() }, &genesis);
        refused(&SignedCall { signer: AccountId([3; 32]), ..signed.clone() }, &genesis);
    }

    #[test]
    fn weights_are_committed_by_the_chains_hash() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
        let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = all["weights_commit_hash"].as_array().unwrap();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let list = |key: &str| -> Vec<u16> { serde_json::from_value(case[key].clone()).unwrap() };
            let weights: Vec<(Uid, u16)> = list("uids").into_iter().map(Uid).zip(list("values")).collect();
            let netuid = Netuid(case["netuid_index"].as_u64().unwrap() as u16);
            let hotkey = case["hotkey"].as_str().unwrap().parse().unwrap();
            let hash = weights_hash(&hotkey, netuid, &weights, &list("salt"), case["version_key"].as_u64().unwrap());
            assert_eq!(format!("0x{hash}"), case["commit_hash"].as_str().unwrap());
        }
    }

    #[test]
    fn calls_survive_json() {
        let key = Keypair::from_seed([1; 32]);
        for call in [
            Call::SetCommitment { netuid: Netuid(3), fields: vec![CommitmentField::Raw(b"t1 http://x".to_vec()), CommitmentField::None] },
            Call::SetWeights { netuid: Netuid(3), weights: vec![(Uid(1), 65535)], version_key: 0 },
            Call::Register { netuid: Netuid(3), hotkey: AccountId([1; 32]), max_price: u64::MAX },
            Call::ServeAxon { netuid: Netuid(3), axon: Axon { version: 1, ip: "10.0.0.1".parse().unwrap(), port: 80, protocol: 4 } },
            Call::AddStake { hotkey: AccountId([1; 32]), netuid: Netuid(3), amount: 1 },
            Call::RemoveStake { hotkey: AccountId([1; 32]), netuid: Netuid(3), amount: 1 },
        ] {
            let signed = SignedCall::new(&BlockHash::default(), &key, u64::MAX, call);
            let back: SignedCall = serde_json::from_str(&serde_json::to_string(&signed).unwrap()).unwrap();
            assert_eq!(back, signed);
            back.check(&BlockHash::default()).unwrap();
        }
    }
}
