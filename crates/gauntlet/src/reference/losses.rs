//! From losses to the gradient score and the indicator (spec validator §2.6).

/// Summed losses over the same sequences before and after an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSums {
    /// Before the update.
    pub before: f64,
    /// After it.
    pub after: f64,
}

impl LossSums {
    /// (before − after) / before; 0 when `before` is not positive. Not finite when a loss is not.
    pub fn improvement(&self) -> f64 {
        if self.before > 0.0 { (self.before - self.after) / self.before } else { 0.0 }
    }

    /// Whether the loss before the update is one that a working model has.
    pub fn is_sound(&self) -> bool {
        self.before.is_finite() && self.before > 0.0
    }
}

/// The gradient score: the improvement on random data, in float32. None when it is no number.
///
/// The reference lets NaN into the match, where it is a barrier in the sort. It is left out here: such an update is an invalid one.
pub fn gradient_score(random: &LossSums) -> Option<f32> {
    let improvement = random.improvement();
    (!improvement.is_nan()).then(|| improvement.clamp(f32::MIN.into(), f32::MAX.into()) as f32)
}

/// Whether the update helped more on the peer's own data than on random data: the indicator is then +1, otherwise −1.
pub fn indicator(own: &LossSums, random: &LossSums) -> bool {
    own.improvement() > random.improvement()
}
