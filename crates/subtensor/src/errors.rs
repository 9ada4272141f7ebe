//! From what a node answers to [`ChainError`]: JSON-RPC errors by their numbers and texts, dispatch errors by metadata.

use crate::runtime::Runtime;
use subxt::{error::DispatchError, ext::jsonrpsee::core::client::Error as ClientError, ext::jsonrpsee::types::ErrorObjectOwned};
use templar_chain::{BlockHash, ChainError, PoolCode, Result};
use templar_protocol::BlockNumber;

/// JSON-RPC: the method does not exist.
const METHOD_NOT_FOUND: i32 = -32601;
/// Substrate: the transaction is invalid; the reason is in the data.
const INVALID_TRANSACTION: i32 = 1010;
/// Substrate: the same transaction waits in the pool already.
pub(crate) const ALREADY_IMPORTED: i32 = 1013;
/// Substrate: the same transaction was in the pool a short while ago, and is not taken again so soon.
pub(crate) const TEMPORARILY_BANNED: i32 = 1012;
/// Substrate: another transaction with this nonce waits in the pool.
pub(crate) const PRIORITY_TOO_LOW: i32 = 1014;
/// Substrate: the state, or the block, is not known.
const UNKNOWN_BLOCK: i32 = 4003;
/// Longest text of a node that is shown, characters.
const TEXT_CHARS_MAX: usize = 400;

/// What a request that failed means. `block` is the block whose state was asked for, if any.
pub(crate) fn of_request(endpoint: &str, method: &str, block: Option<BlockNumber>, error: ClientError) -> ChainError {
    match error {
        ClientError::Call(answer) => of_answer(endpoint, method, block, &answer),
        ClientError::ParseError(why) => transport(endpoint, format!("its answer to {method} has another form: {why}"), false),
        ClientError::RequestTimeout => transport(endpoint, format!("no answer to {method} in time"), true),
        other => transport(endpoint, format!("{method}: {other}"), true),
    }
}

fn of_answer(endpoint: &str, method: &str, block: Option<BlockNumber>, answer: &ErrorObjectOwned) -> ChainError {
    let data = answer.data().map(|data| data.get().trim_matches('"').to_owned()).unwrap_or_default();
    let text = shown(&if data.is_empty() { answer.message().to_owned() } else { format!("{}: {data}", answer.message()) });
    match answer.code() {
        METHOD_NOT_FOUND => ChainError::Unsupported { what: format!("the method {method} (asked at {endpoint})") },
        INVALID_TRANSACTION => pool(code_of(&text), text),
        code @ 1000..=1999 => pool(PoolCode::Other(code), text),
        UNKNOWN_BLOCK if text.contains("discarded") => ChainError::StatePruned { block: block.unwrap_or_default() },
        UNKNOWN_BLOCK if text.contains("not found") => ChainError::NotFound { what: format!("such block ({text})") },
        code => transport(endpoint, format!("{method} failed there ({code}): {text}"), false),
    }
}

/// A text from a node, without control characters and not too long.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

fn code_of(text: &str) -> PoolCode {
    if let Some(rest) = text.split("Custom error:").nth(1) {
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        return digits.parse().map_or(PoolCode::Custom(255), PoolCode::Custom);
    }
    let text = text.to_ascii_lowercase();
    let says = |words: &str| text.contains(words);
    match () {
        () if says("outdated") => PoolCode::Stale,
        () if says("in the future") => PoolCode::Future,
        () if says("pay some fees") => PoolCode::Payment,
        () if says("bad signature") => PoolCode::BadProof,
        () if says("ancient birth block") => PoolCode::AncientBirthBlock,
        () => PoolCode::Other(INVALID_TRANSACTION),
    }
}

fn pool(code: PoolCode, text: String) -> ChainError {
    let meaning = match code {
        PoolCode::Custom(number) => meaning_of(number).to_owned(),
        _ => text,
    };
    ChainError::PoolRejected { code, meaning }
}

/// What a runtime's own reason to refuse a transaction means (spec chain-and-wallet §B.5).
pub fn meaning_of(number: u8) -> &'static str {
    match number {
        0 => "a swap of this coldkey is pending: wait until it is done",
        1 => "the stake is too low for this call",
        2 => "the balance is too low",
        3 => "there is no such subnet",
        4 => "the hotkey has no account: register it first",
        5 => "there is not enough stake to withdraw",
        6 => "a rate limit has not passed yet: wait some blocks",
        7 => "the subnet's pool has not enough liquidity",
        8 => "the price would slip too far",
        9 => "the subnet does not allow transfers of stake",
        10 => "the hotkey is not registered on this subnet",
        11 => "the IP address is not one that others can reach",
        12 => "the limit on announcing addresses has not passed yet",
        13 => "the port is not valid",
        14 => "the amount is zero",
        15 => "the beacon's round is not valid",
        16 => "there is no such commit of weights",
        17 => "the commit of weights cannot be revealed now",
        18 => "the lists differ in length",
        19 => "a uid does not exist on this subnet",
        20 => "the limit on associating EVM keys has not passed yet",
        21 => "the swap of this coldkey is disputed",
        25 => "the coldkey does not own this",
        26 => "the delegate take is too low",
        27 => "the delegate take is too high",
        _ => "the runtime gives no reason",
    }
}

/// The name that the same refusal has when the runtime gives it while it runs the call, as far as there is one that fits: the pool
/// runs some checks earlier, so one rule shows in two ways.
pub fn dispatch_name_of(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "NotEnoughStakeToSetWeights",
        2 => "NotEnoughBalanceToStake",
        3 => "SubnetNotExists",
        4 => "HotKeyAccountNotExists",
        5 => "NotEnoughStakeToWithdraw",
        10 => "HotKeyNotRegisteredInSubNet",
        11 => "InvalidIpAddress",
        12 => "ServingRateLimitExceeded",
        13 => "InvalidPort",
        14 => "AmountTooLow",
        16 => "NoWeightsCommitFound",
        18 => "InputLengthsUnequal",
        19 => "UidVecContainInvalidOne",
        _ => return None,
    })
}

/// The chain could not be reached, or answered what it should not.
pub(crate) fn transport(endpoint: &str, why: impl Into<String>, retryable: bool) -> ChainError {
    ChainError::Transport { endpoint: endpoint.to_owned(), why: shown(&why.into()), retryable }
}

/// The runtime lacks something; `what` names it.
pub(crate) fn lacks(runtime: &Runtime, what: &str) -> ChainError {
    ChainError::Unsupported { what: format!("{what}: its runtime {} {} has none", runtime.spec_name(), runtime.spec_version()) }
}

/// What the runtime says of a call that it ran and refused.
pub(crate) fn of_dispatch(error: &DispatchError) -> ChainError {
    let DispatchError::Module(module) = error else {
        let (pallet, error) = match error {
            DispatchError::Token(token) => ("Token", format!("{token:?}")),
            DispatchError::Arithmetic(arithmetic) => ("Arithmetic", format!("{arithmetic:?}")),
            other => ("System", format!("{other:?}")),
        };
        return ChainError::Dispatch { pallet: pallet.into(), meaning: format!("the runtime answered {error}"), error };
    };
    match module.details() {
        Ok(details) => {
            let docs = details.variant.docs.join(" ");
            let meaning = if docs.trim().is_empty() { "the runtime says no more".to_owned() } else { shown(docs.trim()) };
            ChainError::Dispatch { pallet: details.pallet.name().into(), error: details.variant.name.clone(), meaning }
        }
        Err(why) => ChainError::Dispatch {
            pallet: format!("pallet {}", module.pallet_index()),
            error: format!("error {}", module.error_index()),
            meaning: format!("its metadata does not name it: {why}"),
        },
    }
}

/// A hash as a node writes it.
pub(crate) fn hex0x(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A hash as a node wrote it.
///
/// # Errors
/// `Transport` when it is none.
pub(crate) fn parse_hash(endpoint: &str, text: &str) -> Result<BlockHash> {
    text.strip_prefix("0x")
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| transport(endpoint, format!("`{text}` is no hash of a block"), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32, message: &str, data: &str) -> ChainError {
        of_answer("ws://x", "author_submitExtrinsic", Some(BlockNumber(7)), &ErrorObjectOwned::owned(code, message, Some(data)))
    }

    #[test]
    fn refusals_of_the_pool_are_told_apart() {
        let code = |data: &str| match refused(1010, "Invalid Transaction", data) {
            ChainError::PoolRejected { code, .. } => code,
            other => panic!("{other}"),
        };
        assert_eq!(code("Custom error: 6"), PoolCode::Custom(6));
        assert_eq!(code("Custom error: 600"), PoolCode::Custom(255));
        assert_eq!(code("Transaction is outdated"), PoolCode::Stale);
        assert_eq!(code("Transaction will be valid in the future"), PoolCode::Future);
        assert_eq!(code("Inability to pay some fees (e.g. account balance too low)"), PoolCode::Payment);
        assert_eq!(code("Transaction has a bad signature"), PoolCode::BadProof);
        assert_eq!(code("Transaction has an ancient birth block"), PoolCode::AncientBirthBlock);
        let ChainError::PoolRejected { code, .. } = refused(1014, "Priority is too low", "") else { panic!() };
        assert_eq!(code, PoolCode::Other(1014));
        let ChainError::PoolRejected { meaning, .. } = refused(1010, "Invalid Transaction", "Custom error: 6") else { panic!() };
        assert!(meaning.contains("rate limit"));
    }

    #[test]
    fn old_states_and_missing_methods_are_told_apart() {
        let pruned = refused(4003, "Client error", "UnknownBlock: State already discarded for 0x12");
        assert!(matches!(pruned, ChainError::StatePruned { block: BlockNumber(7) }));
        assert!(matches!(refused(4003, "UnknownBlock: Header was not found in the database", ""), ChainError::NotFound { .. }));
        assert!(matches!(refused(-32601, "Method not found", ""), ChainError::Unsupported { .. }));
        assert!(matches!(refused(-32603, "x\u{7}y", ""), ChainError::Transport { retryable: false, why, .. } if !why.contains('\u{7}')));
    }
}
