//! Transactions: bytes in, a checked call out. Everything in them is hostile until the signature holds.
//!
//! What is signed is the call, the extensions as they are on the wire, and what each extension adds silently: version of the runtime and of
//! the transaction's layout, hash of the genesis and of the block from which the transaction lives.

use crate::{
    calls::convert,
    runtime::{
        Address, AnySignature, Extensions,
        frame_metadata_hash_extension::Mode,
        node_subtensor_runtime::RuntimeCall,
        primitive_types::H256,
        sp_core::crypto::AccountId32,
        sp_runtime::{MultiSignature, generic::era::Era, multiaddress::MultiAddress},
    },
    version::{TRANSACTION_VERSION, spec_version},
};
use parity_scale_codec::{Compact, Decode, DecodeLimit as _, Encode};
use std::sync::Arc;
use templar_chain::{ChainError, DevChain, PoolCode, Transaction, blake2_256};
use templar_protocol::{AccountId, BlockNumber};
use templar_wallet::{SUBSTRATE_CONTEXT, Signer, verify, verify_ed25519};

/// The longest transaction, bytes.
pub const EXTRINSIC_BYTES_MAX: usize = 128 << 10;
/// Version 4 with a signature.
const SIGNED: u8 = 0x84;
/// Version 4 without one.
const BARE: u8 = 0x04;
/// How deep a call may be nested.
const DEPTH_MAX: u32 = 16;

/// Why bytes are no transaction that the chain takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadExtrinsic {
    /// The bytes are no transaction.
    #[error("the transaction cannot be read: {0}")]
    Format(String),
    /// The transaction does not hold.
    #[error(transparent)]
    Invalid(#[from] ChainError),
}

fn format(why: impl std::fmt::Display) -> BadExtrinsic {
    BadExtrinsic::Format(why.to_string())
}

fn invalid<T>(code: PoolCode, meaning: impl Into<String>) -> Result<T, BadExtrinsic> {
    Err(BadExtrinsic::Invalid(ChainError::PoolRejected { code, meaning: meaning.into() }))
}

/// A transaction as its bytes say, before anything was checked.
struct Parsed<'a> {
    signer: AccountId,
    signature: AnySignature,
    extensions: Extensions,
    /// The call's own bytes, which are signed.
    call_bytes: &'a [u8],
    call: RuntimeCall,
}

fn parse(bytes: &[u8]) -> Result<Parsed<'_>, BadExtrinsic> {
    if bytes.len() > EXTRINSIC_BYTES_MAX {
        return Err(format(format!("it has {} bytes, more than {EXTRINSIC_BYTES_MAX}", bytes.len())));
    }
    let mut rest = bytes;
    let Compact(length) = Compact::<u32>::decode(&mut rest).map_err(format)?;
    if usize::try_from(length).ok() != Some(rest.len()) {
        return Err(format("its length is not that of its bytes"));
    }
    match u8::decode(&mut rest).map_err(format)? {
        SIGNED => {}
        BARE => return Err(format("it has no signature: only the chain itself sends such transactions")),
        other => return Err(format(format!("its version {other:#04x} is not the signed one of format 4, {SIGNED:#04x}"))),
    }
    let address = Address::decode(&mut rest).map_err(format)?;
    let signature = AnySignature::decode(&mut rest).map_err(format)?;
    let extensions = Extensions::decode(&mut rest).map_err(format)?;
    let call_bytes = rest;
    let call = RuntimeCall::decode_all_with_depth_limit(DEPTH_MAX, &mut rest).map_err(format)?;
    let signer = match address {
        MultiAddress::Id(AccountId32(id)) | MultiAddress::Address32(id) => AccountId(id),
        _ => return invalid(PoolCode::BadProof, "the signer is no account of this chain"),
    };
    Ok(Parsed { signer, signature, extensions, call_bytes, call })
}

/// What the extensions add to the signature.
fn silent(chain: &DevChain, birth: H256) -> Vec<u8> {
    let runtime = chain.runtime();
    (spec_version(&runtime), TRANSACTION_VERSION, H256(chain.genesis_hash().0), birth, None::<[u8; 32]>).encode()
}

/// The bytes that are signed: longer ones by their hash.
fn payload(call: &[u8], extensions: &Extensions, silent: &[u8]) -> Vec<u8> {
    let bytes = [call, &extensions.encode(), silent].concat();
    if bytes.len() > 256 { blake2_256(&bytes).0.to_vec() } else { bytes }
}

/// The hash of the block from which a transaction of this era lives. `None` when it is over, or the block is no longer kept.
fn birth_hash(chain: &DevChain, era: Era) -> Option<H256> {
    let number = match era {
        Era::Immortal => return Some(H256(chain.genesis_hash().0)),
        // The block being built counts, since the transaction will be in it.
        Era::Mortal { .. } => era.birth(chain.best().number.0 + 1),
    };
    chain.header(BlockNumber(number)).ok().map(|header| H256(header.block.hash.0))
}

/// Reads and checks a transaction.
///
/// # Errors
/// [`BadExtrinsic::Format`] when it is none; [`BadExtrinsic::Invalid`] when its signature does not hold, its life is over, or its call is
/// one that only the chain itself makes.
pub fn check(chain: &DevChain, bytes: &[u8]) -> Result<Transaction, BadExtrinsic> {
    let parsed = parse(bytes)?;
    if parsed.extensions.11.mode != Mode::Disabled {
        return invalid(PoolCode::BadProof, "the signature covers a hash of the metadata, which this chain does not compute: leave it out");
    }
    let era = parsed.extensions.era();
    let Some(birth) = birth_hash(chain, era) else {
        return invalid(
            PoolCode::AncientBirthBlock,
            format!("the transaction lives from a block that the chain does not keep ({era:?}): sign anew"),
        );
    };
    let message = payload(parsed.call_bytes, &parsed.extensions, &silent(chain, birth));
    let holds = match &parsed.signature {
        MultiSignature::Sr25519(signature) => verify(SUBSTRATE_CONTEXT, &parsed.signer, &message, signature),
        MultiSignature::Ed25519(signature) => verify_ed25519(&parsed.signer, &message, signature),
        MultiSignature::Ecdsa(_) => {
            return invalid(PoolCode::BadProof, "ECDSA signatures are not checked on this chain: use an sr25519 or ed25519 key");
        }
    };
    if !holds {
        return invalid(PoolCode::BadProof, format!("the signature is not by {} over this call on this chain", parsed.signer));
    }
    let Some(call) = convert(parsed.call) else { return invalid(PoolCode::BadProof, "only the chain itself makes this call") };
    Ok(Transaction { signer: parsed.signer, nonce: u64::from(parsed.extensions.nonce()), call, raw: Arc::from(bytes) })
}

/// Signs a call for `chain`, as a client does that has its metadata. `None` when the era's first block is no longer kept.
pub fn sign(chain: &DevChain, signer: &dyn Signer, nonce: u32, era: Era, call: &RuntimeCall) -> Option<Vec<u8>> {
    let signature = |message: &[u8]| MultiSignature::Sr25519(signer.sign(SUBSTRATE_CONTEXT, message));
    sign_with(chain, &signer.account_id(), nonce, era, call, signature)
}

/// [`sign`] with another kind of signature.
pub fn sign_with(
    chain: &DevChain,
    who: &AccountId,
    nonce: u32,
    era: Era,
    call: &RuntimeCall,
    signature: impl FnOnce(&[u8]) -> MultiSignature,
) -> Option<Vec<u8>> {
    let extensions = Extensions::new(era, nonce);
    let call = call.encode();
    let message = payload(&call, &extensions, &silent(chain, birth_hash(chain, era)?));
    let address: Address = MultiAddress::Id((*who).into());
    let mut body = vec![SIGNED];
    (address, signature(&message), extensions).encode_to(&mut body);
    body.extend(call);
    Some(body.encode())
}

/// The transaction by which the chain sets its time, the first of each block.
pub fn timestamp(time_ms: u64) -> Vec<u8> {
    let call = RuntimeCall::Timestamp(crate::runtime::pallet_timestamp::pallet::Call::set { now: time_ms });
    let mut body = vec![BARE];
    call.encode_to(&mut body);
    body.encode()
}
