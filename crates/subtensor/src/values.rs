//! What is read of the chain's types: only the fields that are used, whatever surrounds them (spec chain-and-wallet §B.1.2).

use subxt::{
    dynamic::Value,
    ext::{
        scale_decode::DecodeAsType,
        scale_value::{Composite, Primitive, ValueDef, Variant},
    },
};
use templar_chain::{Axon, Commitment};
use templar_protocol::{AccountId, BlockNumber};

/// An announced address; all zero where there is none.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct StoredAxon {
    pub version: u32,
    pub ip: u128,
    pub port: u16,
    pub ip_type: u8,
    pub protocol: u8,
}

impl StoredAxon {
    /// The address, unless there is none.
    pub fn into_axon(self) -> Option<Axon> {
        if self.port == 0 || self.ip == 0 {
            return None;
        }
        let ip = match self.ip_type {
            6 => std::net::Ipv6Addr::from(self.ip).into(),
            _ => std::net::Ipv4Addr::from(u32::try_from(self.ip).ok()?).into(),
        };
        Some(Axon { version: self.version, ip, port: self.port, protocol: self.protocol })
    }
}

/// `System.Account`.
#[derive(Debug, Default, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct AccountInfo {
    pub data: AccountData,
}

#[derive(Debug, Default, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct AccountData {
    pub free: u64,
}

/// `StakeInfoRuntimeApi`'s answer for one stake.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct StakeInfo {
    pub hotkey: [u8; 32],
    pub netuid: u16,
    pub stake: u64,
}

/// `Drand.BeaconConfig`.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct BeaconConfig {
    pub public_key: Vec<u8>,
    pub period: u32,
    pub genesis_time: u32,
}

/// `Commitments.CommitmentOf`.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct StoredCommitment {
    pub block: u32,
    pub info: CommitmentInfo,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct CommitmentInfo {
    pub fields: Vec<Value>,
}

impl StoredCommitment {
    /// The commitment, where its first field is of raw bytes.
    pub fn into_commitment(self) -> Option<Commitment> {
        let field = self.info.fields.into_iter().next()?;
        let ValueDef::Variant(Variant { name, values }) = field.value else { return None };
        if !name.starts_with("Raw") && name != "BigRaw" {
            return None;
        }
        let data = raw_bytes(values)?;
        Some(Commitment { block: BlockNumber(u64::from(self.block)), data })
    }
}

/// The bytes of a `RawN`: its one field is an array, or a list in a wrapper.
fn raw_bytes(values: Composite<()>) -> Option<Vec<u8>> {
    let mut values: Vec<Value> = values.into_values().collect();
    // Wrappers around the array have one field that is no number.
    while let [Value { value: ValueDef::Composite(inner), .. }] = &mut values[..] {
        let inner = std::mem::replace(inner, Composite::Unnamed(Vec::new()));
        values = inner.into_values().collect();
    }
    values.into_iter().map(|value| u8::try_from(unsigned(&value)?).ok()).collect()
}

/// The number in a value, through wrappers of one field.
pub(crate) fn unsigned(value: &Value) -> Option<u128> {
    match &value.value {
        ValueDef::Primitive(Primitive::U128(number)) => Some(*number),
        ValueDef::Composite(inner) if inner.len() == 1 => unsigned(inner.values().next()?),
        _ => None,
    }
}

/// The account in a value, through wrappers of one field.
pub(crate) fn account_of(value: &Value) -> Option<AccountId> {
    let ValueDef::Composite(inner) = &value.value else { return None };
    if inner.len() == 1 {
        return account_of(inner.values().next()?);
    }
    let bytes: Option<Vec<u8>> = inner.values().map(|byte| u8::try_from(unsigned(byte)?).ok()).collect();
    Some(AccountId(bytes?.try_into().ok()?))
}
