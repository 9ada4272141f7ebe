//! Figures of evaluations by which the convex learner is compared with the real one.

use templar_gauntlet::{Measurement, Sent};

/// Sums over evaluations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauge {
    /// Evaluations.
    pub count: f64,
    /// Σ relative gain on random data.
    pub random: f64,
    /// Σ relative gain on own data.
    pub own: f64,
    /// Σ standard deviation of a sequence's relative gain.
    pub spread: f64,
    /// Σ share of the pairs (own, random) in which the own sequence gained more.
    pub advantage: f64,
    /// Pairs of updates of one window, and Σ of their cosines.
    pub within: (f64, f64),
    /// Pairs of updates of a miner and another in successive windows, and Σ of their cosines.
    pub across: (f64, f64),
    /// Pairs of updates of one miner in successive windows, and Σ of their cosines.
    pub same: (f64, f64),
}

/// Objects of a window that are compared with each other.
const COMPARED: usize = 6;

impl Gauge {
    /// Compares updates with each other, and with those of the window before.
    pub fn compare(&mut self, present: &[Sent], before: &[Sent]) {
        let add = |(count, sum): &mut (f64, f64), a: &Sent, b: &Sent| {
            *count += 1.0;
            *sum += a.sketch.cosine(&b.sketch);
        };
        for (place, a) in present.iter().take(COMPARED).enumerate() {
            present.iter().take(place).for_each(|b| add(&mut self.within, a, b));
            for b in before.iter().take(COMPARED) {
                add(if a.uid == b.uid { &mut self.same } else { &mut self.across }, a, b);
            }
        }
    }

    /// Takes in an evaluation.
    pub fn add(&mut self, measurement: &Measurement) {
        let (Ok(random), Ok(own)) = (measurement.random.gradient_score(), measurement.own.gradient_score()) else { return };
        self.count += 1.0;
        self.random += random.value;
        self.own += own.value;
        self.spread += random.standard_error * (random.sequences as f64).sqrt();
        let gains = |losses: &templar_gauntlet::Losses| losses.before.iter().zip(&losses.after).map(|(a, b)| a - b).collect::<Vec<f64>>();
        let (own, random) = (gains(&measurement.own), gains(&measurement.random));
        let wins = own.iter().flat_map(|own| random.iter().map(move |random| f64::from(u8::from(own > random)))).sum::<f64>();
        self.advantage += wins / (own.len() * random.len()).max(1) as f64;
    }
}
