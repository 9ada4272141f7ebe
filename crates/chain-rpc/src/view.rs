//! One block as a client reads it: its state, what happened in it, and the hashes of the blocks before.

use templar_chain::{
    At, Block, BlockHash, DevChain, Result,
    state::{State, Subnet},
};
use templar_protocol::{AccountId, BlockNumber, Netuid};

/// A block of the chain and all that can be read at it.
#[derive(Clone, Debug)]
pub struct View {
    /// The block.
    pub block: Block,
    chain: DevChain,
}

impl View {
    /// The block of this hash, or the newest. `StatePruned` when its state is no longer kept, `NotFound` when there is none.
    pub fn at(chain: &DevChain, hash: Option<&BlockHash>) -> Result<Self> {
        let at = match hash {
            None => At::Best,
            Some(hash) => match chain.number_of(hash) {
                Some(number) => At::Number(number),
                None => return Err(templar_chain::ChainError::NotFound { what: format!("block {hash}") }),
            },
        };
        Ok(Self { block: chain.block(at)?, chain: chain.clone() })
    }

    /// The state after the block.
    pub fn state(&self) -> &State {
        &self.block.state
    }

    /// The block's number.
    pub fn number(&self) -> u64 {
        self.block.header.block.number.0
    }

    /// The hash of an older block, while it is kept.
    pub fn hash_of(&self, number: u64) -> Option<BlockHash> {
        let older = number < self.number();
        older.then(|| self.chain.hash_of(BlockNumber(number))).flatten()
    }

    /// A subnet.
    pub fn subnet(&self, netuid: u16) -> Option<&Subnet> {
        self.state().body.subnets.get(&Netuid(netuid))
    }

    /// The coldkey of a hotkey; zero when it is unknown.
    pub fn coldkey(&self, hotkey: &AccountId) -> AccountId {
        self.state().body.owners.get(hotkey).copied().unwrap_or_default()
    }

    /// The transactions of the account that the chain has taken, those that wait in the block being built included when this is the
    /// newest block.
    pub fn nonce(&self, who: &AccountId) -> u64 {
        if self.chain.best().number.0 == self.number() {
            return self.chain.next_nonce(who);
        }
        self.state().next_nonce(who)
    }

    /// The chain that the block is of.
    pub fn chain(&self) -> &DevChain {
        &self.chain
    }
}
