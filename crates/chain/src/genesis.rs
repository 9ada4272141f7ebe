//! How a development chain begins: its subnet, its accounts and the neurons that are registered from block 0.

use crate::{
    error::{ChainError, Result},
    types::SubnetRules,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::Path};
use templar_protocol::{AccountId, Netuid};

/// A genesis file is at most this large.
const GENESIS_BYTES_MAX: u64 = 16 << 20;

/// A neuron that is registered from block 0. Its uid is its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisNeuron {
    /// Its hotkey.
    pub hotkey: AccountId,
    /// The coldkey that owns it.
    pub coldkey: AccountId,
    /// Alpha of the coldkey on the hotkey, rao.
    #[serde(default)]
    pub stake: u64,
    /// Whether it may set weights from the start. A stake that is not zero and reaches the threshold also gives the permit.
    #[serde(default)]
    pub permit: bool,
}

/// Who owns the subnet: the owner's cut of the emission goes to it, and its neuron is never replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetOwner {
    /// The owner's hotkey.
    pub hotkey: AccountId,
    /// The owner's coldkey.
    pub coldkey: AccountId,
}

/// When epochs are due (spec chain-and-wallet §B.6). Clients tell by the metadata which one a chain follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// As runtime 365: at every block `b` with `(b + netuid + 1) mod (tempo + 1) = 0`.
    Modular,
    /// As runtime 425: the chain remembers the last epoch and runs the next one `tempo` blocks later.
    #[default]
    Stateful,
}

/// How all that a coldkey has moves to another coldkey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColdkeySwaps {
    /// As runtimes 365 and 425: one call names the other coldkey, and the chain moves everything by itself later.
    #[default]
    Scheduled,
    /// As the main network from October 2026 on: the hash of the other coldkey is announced, and a second call does the move. Until then
    /// the announcement can be taken back or disputed, and the coldkey can do nothing else.
    Announced,
}

impl ColdkeySwaps {
    /// Whether this is the default, which is not written down.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the runtime behaves and shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeOptions {
    /// When epochs are due.
    pub scheduler: Scheduler,
    /// Whether the extension that takes fees is named as in runtime 425.
    pub fee_wrapper: bool,
    /// Epochs that run in one block at most; the rest wait for the next block.
    pub max_epochs_per_block: u8,
    /// Seconds from one round of the beacon to the next, at least 1.
    pub beacon_period_s: u32,
    /// How coldkeys are swapped.
    #[serde(skip_serializing_if = "ColdkeySwaps::is_default")]
    pub coldkey_swaps: ColdkeySwaps,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            scheduler: Scheduler::Stateful,
            fee_wrapper: false,
            max_epochs_per_block: 32,
            beacon_period_s: 3,
            coldkey_swaps: ColdkeySwaps::Scheduled,
        }
    }
}

/// The beginning of a development chain, read from a JSON file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisConfig {
    /// The subnet.
    pub netuid: Netuid,
    /// Its rules; what is left out has the development default.
    #[serde(default)]
    pub rules: SubnetRules,
    /// Its owner; without one the owner's cut is burned.
    #[serde(default)]
    pub owner: Option<SubnetOwner>,
    /// Accounts and their balances, rao.
    #[serde(default)]
    pub accounts: Vec<(AccountId, u64)>,
    /// Neurons registered from block 0, uid 0 first.
    #[serde(default)]
    pub neurons: Vec<GenesisNeuron>,
    /// The time of block 0 in virtual time, milliseconds since 1970. With the wall clock, block 0 is now.
    #[serde(default = "default_genesis_ms")]
    pub genesis_ms: u64,
    /// How the runtime behaves.
    #[serde(default)]
    pub runtime: RuntimeOptions,
}

fn default_genesis_ms() -> u64 {
    1_750_000_000_000
}

impl GenesisConfig {
    /// A chain with one subnet under the development rules, and nobody on it.
    pub fn new(netuid: Netuid) -> Self {
        Self {
            netuid,
            rules: SubnetRules::default(),
            owner: None,
            accounts: Vec::new(),
            neurons: Vec::new(),
            genesis_ms: default_genesis_ms(),
            runtime: RuntimeOptions::default(),
        }
    }

    /// Reads and checks a genesis file.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the file cannot be read, is not this kind of JSON, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::metadata(path).map_err(|e| ChainError::store(path, e))?.len();
        if bytes > GENESIS_BYTES_MAX {
            return Err(ChainError::store(
                path,
                format!("it has {bytes} bytes, more than the {GENESIS_BYTES_MAX} a genesis file may have"),
            ));
        }
        let text = std::fs::read(path).map_err(|e| ChainError::store(path, e))?;
        let config: Self = serde_json::from_slice(&text).map_err(|e| ChainError::store(path, format!("it is not a genesis file: {e}")))?;
        config.check().map_err(|why| ChainError::store(path, why))?;
        Ok(config)
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| ChainError::store(path, e))?;
        crate::log::write_atomically(path, &text)
    }

    /// Whether the configuration is free of contradictions; the sentence says what to change.
    pub fn check(&self) -> Result<(), String> {
        let rules = &self.rules;
        rules.check()?;
        if self.runtime.max_epochs_per_block == 0 || self.runtime.beacon_period_s == 0 {
            return Err("max_epochs_per_block and beacon_period_s must be at least 1".into());
        }
        if self.neurons.len() > usize::from(rules.max_allowed_uids) {
            return Err(format!("there are {} neurons for {} slots: raise max_allowed_uids", self.neurons.len(), rules.max_allowed_uids));
        }
        let hotkeys: BTreeSet<_> = self.neurons.iter().map(|neuron| neuron.hotkey).collect();
        if hotkeys.len() != self.neurons.len() {
            return Err("a hotkey is listed twice".into());
        }
        let amounts = self.accounts.iter().map(|(_, amount)| *amount).chain(self.neurons.iter().map(|neuron| neuron.stake));
        if amounts.map(u128::from).sum::<u128>() > u128::from(u64::MAX / 4) {
            return Err("all balances and stakes together exceed 2^62 rao: lower them".into());
        }
        Ok(())
    }
}
