//! Commitments: at most three fields for each hotkey, within a space for each epoch.

use super::refuse_in;
use crate::{
    error::Result,
    event::Event,
    state::{REVEALED_KEPT, State, StoredCommitment},
    types::CommitmentField,
};
use templar_protocol::{AccountId, Netuid};

/// Commitment space of one hotkey in one epoch, bytes; each commitment costs at least [`SPACE_MIN`].
pub const SPACE_PER_EPOCH: u64 = 3100;
const SPACE_MIN: u64 = 100;
/// Fields of one commitment.
const FIELDS_MAX: usize = 3;

fn refuse<T>(error: &str, meaning: impl Into<String>) -> Result<T> {
    refuse_in("Commitments", error, meaning)
}

impl State {
    pub(super) fn set_commitment(
        &mut self,
        who: AccountId,
        netuid: Netuid,
        fields: &[CommitmentField],
        events: &mut Vec<Event>,
    ) -> Result<()> {
        let block = self.number;
        let epoch = self.current_epoch(netuid);
        let subnet = self.subnet_mut(netuid)?;
        if subnet.uid_of(&who).is_none() {
            return refuse("AccountNotAllowedCommit", format!("{who} is not registered on this subnet: register it first"));
        }
        if fields.len() > FIELDS_MAX {
            return refuse("TooManyFieldsInCommitmentInfo", format!("there are {} fields: at most {FIELDS_MAX}", fields.len()));
        }
        if let Some(field) = fields.iter().find(|field| field.len() > field.bytes_max()) {
            return refuse("TooLong", format!("a field of the commitment has {} bytes: at most {}", field.len(), field.bytes_max()));
        }
        let used = subnet.space_used.entry(who).or_default();
        if used.0 != epoch {
            *used = (epoch, 0);
        }
        let cost = SPACE_MIN.max(fields.iter().map(|field| field.len() as u64).sum());
        if used.1 + cost > SPACE_PER_EPOCH {
            return refuse("SpaceLimitExceeded", format!("{who} has used its {SPACE_PER_EPOCH} bytes of this epoch: wait for the next"));
        }
        used.1 += cost;
        subnet.commitments.insert(who, StoredCommitment { block, fields: fields.to_vec() });
        let round = fields.iter().find_map(|field| match field {
            CommitmentField::Timelocked { round, .. } => Some(*round),
            _ => None,
        });
        events.push(match round {
            Some(round) => Event::TimelockCommitment { netuid, who, round },
            None => Event::Commitment { netuid, who },
        });
        Ok(())
    }

    /// Opens the timelocked fields whose round is signed.
    pub(crate) fn reveal_commitments(&mut self, netuid: Netuid, events: &mut Vec<Event>) {
        let (newest, block) = (self.body.beacon.round_at(self.time_ms), self.number);
        let ripe = |field: &CommitmentField| matches!(field, CommitmentField::Timelocked { round, .. } if *round <= newest);
        let Some(subnet) = self.body.subnets.get(&netuid) else { return };
        let due: Vec<AccountId> = subnet.commitments.iter().filter(|(_, c)| c.fields.iter().any(ripe)).map(|(who, _)| *who).collect();
        let beacon = self.body.beacon.clone();
        for who in due {
            let Some(subnet) = self.body_mut().subnets.get_mut(&netuid) else { return };
            let Some(commitment) = subnet.commitments.get_mut(&who) else { continue };
            let (open, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut commitment.fields).into_iter().partition(ripe);
            commitment.fields = kept;
            let revealed = subnet.revealed.entry(who).or_default();
            for field in open {
                if let CommitmentField::Timelocked { data, round } = field
                    && let Some(text) = beacon.open(&data, round)
                {
                    revealed.push((text, block));
                }
            }
            let surplus = revealed.len().saturating_sub(REVEALED_KEPT);
            revealed.drain(..surplus);
            events.push(Event::CommitmentRevealed { netuid, who });
        }
    }
}
