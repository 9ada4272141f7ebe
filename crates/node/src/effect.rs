//! Events, effects and their ids: how a state machine without I/O speaks with its driver.
//!
//! A machine has at most one effect under way whose outcome it waits for. The outcome carries the effect's id; one with another id
//! is stale (the machine has moved on, for example by a resync) and is dropped.

/// Names one effect of one machine. Ids rise and are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectId(pub u64);

/// Something that the driver must do in the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect<A> {
    /// Its id; the outcome comes back under it.
    pub id: EffectId,
    /// What to do.
    pub action: A,
}

/// Hands out ids and remembers which outcome is awaited.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    last: u64,
    awaited: Option<EffectId>,
}

impl Pending {
    /// An effect whose outcome the machine waits for; any earlier one becomes stale.
    pub fn issue<A>(&mut self, action: A) -> Effect<A> {
        let effect = self.note(action);
        self.awaited = Some(effect.id);
        effect
    }

    /// An effect whose outcome does not matter.
    pub fn note<A>(&mut self, action: A) -> Effect<A> {
        self.last += 1;
        Effect { id: EffectId(self.last), action }
    }

    /// Whether `id` is awaited; if so, it no longer is.
    pub fn accept(&mut self, id: EffectId) -> bool {
        let expected = self.awaited == Some(id);
        if expected {
            self.awaited = None;
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_outcomes_are_dropped() {
        let mut pending = Pending::default();
        let first = pending.issue("train");
        let second = pending.issue("resync");
        assert!(!pending.accept(first.id));
        assert!(pending.accept(second.id));
        assert!(!pending.accept(second.id), "an outcome counts once");
    }
}
