//! What an operator does with keys and money: actions that can be priced before they are done, and what an account has.
//!
//! What always holds: a [`Quote`] is read from one block and changes nothing; whether an action is done is for the caller to ask somebody.

use crate::{
    calls::{self, Identity},
    client::Subtensor,
    errors::lacks,
    runtime::{Call, Runtime},
    state::{SUBTENSOR, StateAt, account, subnet},
    values::{AccountInfo, StakeInfo, account_of, unsigned},
};
use parity_scale_codec::Encode as _;
use serde::Serialize;
use subxt::{
    dynamic::Value,
    ext::{scale_decode::DecodeAsType, scale_value::ValueDef},
};
use templar_chain::{At, BlockHash, ChainError, Result, TxReport, Wait, blake2_256};
use templar_protocol::{AccountId, BlockNumber, Netuid};
use templar_wallet::Signer;

/// Bytes by which a signed transaction exceeds its call: address, signature, extensions.
const ENVELOPE_BYTES: usize = 120;

/// Something that an account can do. Amounts are rao.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Moves balance; the account stays alive.
    Transfer {
        /// Who gets it.
        to: AccountId,
        /// How much.
        amount: u64,
    },
    /// Moves all balance that can be moved.
    TransferAll {
        /// Who gets it.
        to: AccountId,
        /// Whether the account stays alive.
        keep_alive: bool,
    },
    /// Turns balance into stake.
    AddStake {
        /// On which hotkey.
        hotkey: AccountId,
        /// On which subnet.
        netuid: Netuid,
        /// How much.
        amount: u64,
    },
    /// Turns stake into balance.
    RemoveStake {
        /// On which hotkey.
        hotkey: AccountId,
        /// On which subnet.
        netuid: Netuid,
        /// How much alpha.
        amount: u64,
    },
    /// Records the signer as the owner of a hotkey.
    AssociateHotkey {
        /// The hotkey.
        hotkey: AccountId,
    },
    /// Moves all that belongs to a hotkey to another.
    SwapHotkey {
        /// The hotkey.
        old: AccountId,
        /// The other.
        new: AccountId,
        /// On this subnet only.
        netuid: Option<Netuid>,
    },
    /// Begins the move of all that belongs to the signer to another coldkey, in the runtime's way: announced by that one's hash, or scheduled.
    SwapColdkey {
        /// The other coldkey.
        new: AccountId,
    },
    /// Does the move that was announced by a hash.
    FinishColdkeySwap {
        /// The other coldkey.
        new: AccountId,
    },
    /// Takes the announcement of a move back.
    ClearColdkeySwap,
    /// Freezes the signer's account, since the announcement is somebody else's doing. Only the chain's government ends that.
    DisputeColdkeySwap,
    /// Says who the signer is.
    SetIdentity {
        /// Who.
        identity: Identity,
    },
}

impl Action {
    /// The call, as this runtime has it.
    fn call(&self, runtime: &Runtime) -> Result<Call> {
        Ok(match self {
            Self::Transfer { to, amount } => calls::transfer(to, *amount),
            Self::TransferAll { to, keep_alive } => calls::transfer_all(to, *keep_alive),
            Self::AddStake { hotkey, netuid, amount } => calls::add_stake(hotkey, *netuid, *amount),
            Self::RemoveStake { hotkey, netuid, amount } => calls::remove_stake(hotkey, *netuid, *amount),
            Self::AssociateHotkey { hotkey } => calls::associate_hotkey(hotkey),
            Self::SwapHotkey { old, new, netuid } => calls::swap_hotkey(old, new, *netuid),
            // Runtimes that have both calls have the older one only to refuse it.
            Self::SwapColdkey { new } if runtime.has_call(SUBTENSOR, calls::ANNOUNCE_SWAP) => calls::announce_coldkey_swap(new),
            Self::SwapColdkey { new } if runtime.has_call(SUBTENSOR, calls::SCHEDULE_SWAP) => calls::schedule_swap_coldkey(new),
            Self::SwapColdkey { .. } => {
                let either = format!("{SUBTENSOR}.{} or {SUBTENSOR}.{}", calls::ANNOUNCE_SWAP, calls::SCHEDULE_SWAP);
                return Err(lacks(runtime, &format!("the call {either}")));
            }
            Self::FinishColdkeySwap { new } => calls::swap_coldkey_announced(new),
            Self::ClearColdkeySwap => calls::clear_coldkey_swap(),
            Self::DisputeColdkeySwap => calls::dispute_coldkey_swap(),
            Self::SetIdentity { identity } => calls::set_identity(identity),
        })
    }
}

/// What an action would cost. Amounts are rao.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quote {
    /// Free balance of the signer.
    pub balance: u64,
    /// What the action takes from it besides the fee.
    pub cost: u64,
    /// The chain's fee; `None` where it names none.
    pub fee: Option<u64>,
    /// The balance that is left.
    pub balance_after: u64,
}

/// One stake of a coldkey. Amounts are rao of alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stake {
    /// On which hotkey.
    pub hotkey: AccountId,
    /// On which subnet.
    pub netuid: Netuid,
    /// How much.
    pub amount: u64,
}

/// A move to another coldkey that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ColdkeySwap {
    /// The chain does it by itself.
    Scheduled {
        /// The block in which it is done.
        block: BlockNumber,
        /// The other coldkey.
        new_coldkey: AccountId,
    },
    /// It is announced, and a second call does it.
    Announced {
        /// The block from which on it may be done.
        block: BlockNumber,
        /// BLAKE2-256 of the other coldkey.
        new_coldkey_hash: BlockHash,
        /// The block in which it was disputed, which froze the account.
        disputed: Option<BlockNumber>,
    },
}

impl ColdkeySwap {
    /// Whether the announced hash is that of `coldkey`.
    pub fn announces(&self, coldkey: &AccountId) -> bool {
        matches!(self, Self::Announced { new_coldkey_hash, .. } if *new_coldkey_hash == blake2_256(&coldkey.0))
    }
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct FeeInfo {
    partial_fee: u64,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct StoredIdentity {
    name: Vec<u8>,
    url: Vec<u8>,
    github_repo: Vec<u8>,
    image: Vec<u8>,
    discord: Vec<u8>,
    description: Vec<u8>,
    additional: Vec<u8>,
}

impl Subtensor {
    /// What `action` would cost `who`, as of the newest block.
    ///
    /// # Errors
    /// `Unsupported` when the runtime lacks the call.
    pub async fn quote(&self, who: &AccountId, action: &Action) -> Result<Quote> {
        let state = self.inner.state(At::Best).await?;
        let call = state.runtime.call_data(&action.call(&state.runtime)?)?;
        let balance = state.stored::<AccountInfo>("System", "Account", vec![account(who)]).await?.unwrap_or_default().data.free;
        let fee = fee(&state, call).await?;
        let constant = |name| state.runtime.constant_u64(SUBTENSOR, name).unwrap_or(0);
        let cost = match action {
            Action::Transfer { amount, .. } | Action::AddStake { amount, .. } => *amount,
            Action::TransferAll { .. } => balance.saturating_sub(fee.unwrap_or(0)),
            Action::SwapHotkey { netuid: Some(_), .. } => constant("KeySwapOnSubnetCost"),
            // To announce another coldkey after the first costs nothing more.
            Action::SwapColdkey { .. } if announcement(&state, who).await?.is_some() => 0,
            Action::SwapHotkey { netuid: None, .. } | Action::SwapColdkey { .. } => constant("KeySwapCost"),
            Action::RemoveStake { .. } | Action::AssociateHotkey { .. } | Action::SetIdentity { .. } => 0,
            Action::FinishColdkeySwap { .. } | Action::ClearColdkeySwap | Action::DisputeColdkeySwap => 0,
        };
        let balance_after = balance.saturating_sub(cost).saturating_sub(fee.unwrap_or(0));
        Ok(Quote { balance, cost, fee, balance_after })
    }

    /// Does `action`, signed by `by`.
    ///
    /// # Errors
    /// Those of every write: see [`Chain`](templar_chain::Chain).
    pub async fn act(&self, by: &dyn Signer, action: &Action, wait: Wait) -> Result<TxReport> {
        let call = action.call(&self.inner.state(At::Best).await?.runtime)?;
        self.inner.report(by, &call, wait).await
    }

    /// What one alpha of the subnet is worth in TAO by the reserves of its pool: TAO for each alpha in it. None where there is no pool, as on the
    /// development chain, on which both trade one to one.
    ///
    /// # Errors
    /// The chain cannot be reached.
    pub async fn alpha_price(&self, netuid: Netuid) -> Result<Option<f64>> {
        let state = self.inner.state(At::Best).await?;
        let reserve = |entry: &'static str| state.read_or::<u64>(entry, vec![subnet(netuid)], 0);
        let (tao, alpha) = futures::try_join!(reserve("SubnetTAO"), reserve("SubnetAlphaIn"))?;
        Ok((tao > 0 && alpha > 0).then(|| tao as f64 / alpha as f64))
    }

    /// All stakes of a coldkey.
    ///
    /// # Errors
    /// `Unsupported` when the runtime has no such interface.
    pub async fn stakes(&self, coldkey: &AccountId) -> Result<Vec<Stake>> {
        let state = self.inner.state(At::Best).await?;
        let all: Vec<StakeInfo> = state.api("StakeInfoRuntimeApi", "get_stake_info_for_coldkey", vec![account(coldkey)]).await?;
        let stakes = all.into_iter().filter(|one| one.stake > 0);
        Ok(stakes.map(|one| Stake { hotkey: AccountId(one.hotkey), netuid: Netuid(one.netuid), amount: one.stake }).collect())
    }

    /// The hotkeys that a coldkey owns.
    ///
    /// # Errors
    /// `Unsupported` when the runtime does not keep them.
    pub async fn owned_hotkeys(&self, coldkey: &AccountId) -> Result<Vec<AccountId>> {
        let state = self.inner.state(At::Best).await?;
        let owned: Vec<[u8; 32]> = state.read(SUBTENSOR, "OwnedHotkeys", vec![account(coldkey)]).await?;
        Ok(owned.into_iter().map(AccountId).collect())
    }

    /// The coldkey that owns a hotkey.
    ///
    /// # Errors
    /// `Transport` only.
    pub async fn owner_of(&self, hotkey: &AccountId) -> Result<Option<AccountId>> {
        let state = self.inner.state(At::Best).await?;
        let owner: Option<[u8; 32]> = state.stored(SUBTENSOR, "Owner", vec![account(hotkey)]).await?;
        Ok(owner.map(AccountId))
    }

    /// What an account says about itself. Bytes that are no UTF-8 are shown as such.
    ///
    /// # Errors
    /// `Unsupported` when the runtime keeps no identities.
    pub async fn identity(&self, coldkey: &AccountId) -> Result<Option<Identity>> {
        let state = self.inner.state(At::Best).await?;
        let stored: Option<StoredIdentity> = state.stored(SUBTENSOR, "IdentitiesV2", vec![account(coldkey)]).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(stored.map(|stored| Identity {
            name: text(stored.name),
            url: text(stored.url),
            github_repo: text(stored.github_repo),
            image: text(stored.image),
            discord: text(stored.discord),
            description: text(stored.description),
            additional: text(stored.additional),
        }))
    }

    /// Whether a move to another coldkey is announced and then done by a second call, and not done by the chain itself.
    ///
    /// # Errors
    /// `Transport` only.
    pub async fn announces_coldkey_swaps(&self) -> Result<bool> {
        Ok(self.inner.state(At::Best).await?.runtime.has_call(SUBTENSOR, calls::ANNOUNCE_SWAP))
    }

    /// The move to another coldkey that is scheduled or announced for `coldkey`.
    ///
    /// # Errors
    /// `Unsupported` when the runtime keeps neither.
    pub async fn coldkey_swap(&self, coldkey: &AccountId) -> Result<Option<ColdkeySwap>> {
        let state = self.inner.state(At::Best).await?;
        if state.runtime.has_entry(SUBTENSOR, ANNOUNCEMENTS) {
            let Some((block, hash)) = announcement(&state, coldkey).await? else { return Ok(None) };
            let disputed: Option<u32> = match state.runtime.has_entry(SUBTENSOR, "ColdkeySwapDisputes") {
                true => state.stored(SUBTENSOR, "ColdkeySwapDisputes", vec![account(coldkey)]).await?,
                false => None,
            };
            let number = |block| BlockNumber(u64::from(block));
            let (block, disputed) = (number(block), disputed.map(number));
            return Ok(Some(ColdkeySwap::Announced { block, new_coldkey_hash: BlockHash(hash), disputed }));
        }
        if !state.runtime.has_entry(SUBTENSOR, "ColdkeySwapScheduled") {
            let entries = format!("swaps of coldkeys ({SUBTENSOR}.{ANNOUNCEMENTS} or {SUBTENSOR}.ColdkeySwapScheduled)");
            return Err(lacks(&state.runtime, &entries));
        }
        let stored: Option<Value> = state.stored(SUBTENSOR, "ColdkeySwapScheduled", vec![account(coldkey)]).await?;
        let Some(Value { value: ValueDef::Composite(parts), .. }) = stored else { return Ok(None) };
        let mut parts = parts.values();
        let block = parts.next().and_then(unsigned).and_then(|block| u64::try_from(block).ok());
        let new_coldkey = parts.next().and_then(account_of);
        match (block, new_coldkey) {
            (Some(block), Some(new_coldkey)) => Ok(Some(ColdkeySwap::Scheduled { block: BlockNumber(block), new_coldkey })),
            _ => Err(ChainError::Unsupported { what: "the form in which this runtime keeps scheduled swaps of coldkeys".into() }),
        }
    }
}

/// The entry with the announced moves.
const ANNOUNCEMENTS: &str = "ColdkeySwapAnnouncements";

/// The block and the hash that a coldkey has announced; `None` also where the runtime keeps no announcements.
async fn announcement(state: &StateAt, coldkey: &AccountId) -> Result<Option<(u32, [u8; 32])>> {
    match state.runtime.has_entry(SUBTENSOR, ANNOUNCEMENTS) {
        true => state.stored(SUBTENSOR, ANNOUNCEMENTS, vec![account(coldkey)]).await,
        false => Ok(None),
    }
}

/// The fee of a call, rao; `None` where the runtime names none.
async fn fee(state: &StateAt, call: Vec<u8>) -> Result<Option<u64>> {
    const INTERFACE: (&str, &str) = ("TransactionPaymentCallApi", "query_call_info");
    if !state.runtime.has_api(INTERFACE.0, INTERFACE.1) {
        return Ok(None);
    }
    let bytes = u32::try_from(call.len() + ENVELOPE_BYTES).unwrap_or(u32::MAX);
    let input = [call, bytes.encode()].concat();
    let name = format!("{}_{}", INTERFACE.0, INTERFACE.1);
    let answer = state.rpc.call(&name, &input, &state.hash, BlockNumber(state.number)).await?;
    let info: FeeInfo = state.runtime.api_output(INTERFACE.0, INTERFACE.1, &answer)?;
    Ok(Some(info.partial_fee))
}
