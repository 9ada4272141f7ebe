//! Hysteresis: from values to raises and clears, each told once.

use super::rules::{Side, Thresholds};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to tell.
    #[default]
    Quiet,
    /// It works, but not for long.
    Warning,
    /// It costs something now.
    Critical,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The level has risen.
    Raised,
    /// All is well again.
    Cleared,
}

impl Level {
    /// The level after `value`. It rises at a threshold and falls only when the value has come back beyond it by the room; within the room it
    /// stays. A value that is not a number is as bad as can be.
    #[must_use]
    pub fn after(self, value: f64, side: Side, thresholds: &Thresholds) -> Self {
        let badness = |value: f64| match side {
            Side::Above => value,
            Side::Below => -value,
        };
        let (value, warn, critical) = (badness(value), badness(thresholds.warn), badness(thresholds.critical));
        let room = thresholds.room.max(0.0);
        let beyond = |threshold: f64, held: bool| value.is_nan() || if held { value > threshold - room } else { value > threshold };
        if beyond(critical, self == Self::Critical) && (self == Self::Critical || value.is_nan() || value > critical) {
            Self::Critical
        } else if beyond(warn, self >= Self::Warning) {
            Self::Warning
        } else {
            Self::Quiet
        }
    }

    /// What going from this level to `next` tells. That a critical alert is only a warning now is no news.
    pub fn event(self, next: Self) -> Option<Event> {
        match (self, next) {
            (_, Self::Quiet) if self > Self::Quiet => Some(Event::Cleared),
            _ if next > self => Some(Event::Raised),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BELOW: Thresholds = Thresholds { warn: 0.8, critical: 0.4, room: 0.05 };

    #[test]
    fn it_rises_at_once_and_falls_with_room() {
        let mut level = Level::Quiet;
        let mut told = Vec::new();
        for value in [0.9, 0.8, 0.79, 0.82, 0.79, 0.39, 0.42, 0.5, 0.84, 0.86, 0.3, f64::NAN, 1.0] {
            let next = level.after(value, Side::Below, &BELOW);
            told.extend(level.event(next).map(|event| (value.to_string(), event)));
            level = next;
        }
        let expected =
            [("0.79", Event::Raised), ("0.39", Event::Raised), ("0.86", Event::Cleared), ("0.3", Event::Raised), ("1", Event::Cleared)];
        assert_eq!(told, expected.map(|(value, event)| (value.to_owned(), event)));
    }

    proptest! {
        #[test]
        fn inside_the_room_nothing_is_ever_told(start in 0.0..1.0f64, values in prop::collection::vec(0.8..0.85f64, 1..50)) {
            let settled = Level::Quiet.after(start, Side::Below, &BELOW).after(values[0], Side::Below, &BELOW);
            let mut level = settled;
            for value in values {
                let next = level.after(value, Side::Below, &BELOW);
                prop_assert_eq!(level.event(next), None);
                level = next;
            }
        }

        #[test]
        fn between_two_clears_there_is_a_raise_and_each_level_is_told_once(values in prop::collection::vec(-1.0..2.0f64, 0..100)) {
            let (mut level, mut raised) = (Level::Quiet, 0);
            for value in values {
                let next = level.after(value, Side::Above, &Thresholds { warn: 0.5, critical: 1.0, room: 0.2 });
                match level.event(next) {
                    Some(Event::Raised) => raised += 1,
                    Some(Event::Cleared) => {
                        prop_assert!(raised >= 1);
                        raised = 0;
                    }
                    None => {}
                }
                prop_assert_eq!(raised > 0, next > Level::Quiet);
                level = next;
            }
        }
    }
}
