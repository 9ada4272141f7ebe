//! Who takes part: the validators that may publish a manifest, in the order of their slots, and the miners.

use crate::follow::Ending;
use templar_chain::Metagraph;
use templar_protocol::{AccountId, Uid};
use templar_store::BucketUrl;

/// A neuron as this node deals with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// Its stake, rao.
    pub stake: u64,
    /// Whether it may set weights.
    pub permit: bool,
    /// Its bucket, if it committed to one that can be read.
    pub bucket: Option<BucketUrl>,
}

/// Validators and miners of the subnet at one block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    /// Validators with a permit by falling stake (ties: rising uid); the first is the leader.
    pub validators: Vec<Member>,
    /// All that have no slot to publish in, by rising uid: a permit does not keep anybody from mining.
    pub miners: Vec<Member>,
    slots: usize,
}

impl Roster {
    /// Sorts a metagraph's neurons; the first `slots` validators may publish.
    pub fn new(metagraph: &Metagraph, slots: u32, bucket: impl Fn(&AccountId) -> Option<BucketUrl>) -> Self {
        let member = |neuron: &templar_chain::Neuron| Member {
            uid: neuron.uid,
            hotkey: neuron.hotkey,
            stake: neuron.total_stake,
            permit: neuron.permit,
            bucket: bucket(&neuron.hotkey),
        };
        let all: Vec<Member> = metagraph.neurons.iter().map(member).collect();
        let mut validators: Vec<Member> = all.iter().filter(|member| member.permit && member.stake > 0).cloned().collect();
        validators.sort_by_key(|member| (std::cmp::Reverse(member.stake), member.uid));
        let slots = slots as usize;
        let publishes = |member: &Member| validators.iter().take(slots).any(|validator| validator.uid == member.uid);
        let miners = all.into_iter().filter(|member| !publishes(member)).collect();
        Self { validators, miners, slots }
    }

    /// The leader, if there is a validator at all.
    pub fn leader(&self) -> Option<&Member> {
        self.validators.first()
    }

    /// The validator that may publish in `slot`.
    pub fn publisher(&self, slot: u32) -> Option<&Member> {
        self.validators.iter().take(self.slots).nth(slot as usize)
    }

    /// The slot of a validator.
    pub fn slot_of(&self, hotkey: &AccountId) -> Option<u32> {
        let slot = self.validators.iter().take(self.slots).position(|member| member.hotkey == *hotkey)?;
        u32::try_from(slot).ok()
    }

    /// Any member by its uid.
    pub fn member(&self, uid: Uid) -> Option<&Member> {
        self.validators.iter().chain(&self.miners).find(|member| member.uid == uid)
    }

    /// How a window ended whose successor began at `next_start_ms`, for the node with `hotkey`.
    pub fn ending(&self, next_start_ms: u64, hotkey: &AccountId) -> Ending {
        let slots = u32::try_from(self.validators.len().min(self.slots)).unwrap_or(u32::MAX);
        Ending { next_start_ms, slots: slots.max(1), own_slot: self.slot_of(hotkey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_chain::Neuron;
    use templar_protocol::{BlockNumber, Netuid};

    fn neuron(uid: u16, stake: u64, permit: bool) -> Neuron {
        Neuron {
            uid: Uid(uid),
            hotkey: AccountId([uid as u8; 32]),
            coldkey: AccountId::default(),
            active: true,
            permit,
            total_stake: stake,
            alpha_stake: stake,
            incentive: 0,
            dividends: 0,
            consensus: 0,
            validator_trust: 0,
            emission: 0,
            last_update: BlockNumber(0),
            registered_at: BlockNumber(0),
            axon: None,
        }
    }

    #[test]
    fn validators_stand_by_stake_then_uid() {
        let metagraph = Metagraph {
            netuid: Netuid(3),
            block: BlockNumber(0),
            tempo: 10,
            last_epoch_block: BlockNumber(0),
            owner_hotkey: None,
            neurons: vec![neuron(0, 0, false), neuron(1, 5, true), neuron(2, 9, true), neuron(3, 9, true), neuron(4, 100, false)],
        };
        let roster = Roster::new(&metagraph, 2, |_| None);
        let order: Vec<u16> = roster.validators.iter().map(|member| member.uid.0).collect();
        assert_eq!(order, [2, 3, 1]);
        assert_eq!(roster.miners.iter().map(|member| member.uid.0).collect::<Vec<_>>(), [0, 1, 4], "a validator without a slot may mine");
        assert_eq!(roster.slot_of(&AccountId([3; 32])), Some(1));
        assert_eq!(roster.slot_of(&AccountId([1; 32])), None, "only the first two may publish");
        assert_eq!(roster.ending(8000, &AccountId([2; 32])), Ending { next_start_ms: 8000, slots: 2, own_slot: Some(0) });
    }
}
