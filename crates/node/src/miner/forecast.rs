//! Whether the next upload will be in time, going by those before. Pure.
//!
//! An upload that comes too late is worth nothing, and the validators see it first. So before an object is put, the time that it will take is
//! foreseen from the last uploads, as is that of the one after: their pace (ms per byte) and the rate at which it grows. What always holds: nothing is
//! said on fewer than two uploads, and no growth beyond a doubling from window to window is believed.

use std::collections::VecDeque;

/// Uploads that are remembered.
const REMEMBERED: usize = 6;
/// The share of the upload window below which a foreseen margin is close.
const CLOSE_SHARE: f64 = 0.1;
/// A pace of nothing, ms per byte: so that it has a logarithm.
const PACE_LEAST: f64 = 1e-12;

/// An upload that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Size of the object.
    pub bytes: u64,
    /// How long it took, ms; for one that was given up, how long it was tried.
    pub took_ms: u64,
    /// How much time there was for it, ms.
    pub left_ms: u64,
    /// Whether the object was up at its end.
    pub done: bool,
}

/// What is foreseen of an upload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Size of the object.
    pub bytes: u64,
    /// How long it will take, ms.
    pub took_ms: f64,
    /// How long one of this size will take in the window after, ms.
    pub then_ms: f64,
    /// How much time there will be, ms.
    pub left_ms: f64,
    /// Length of the whole upload window, ms.
    pub window_ms: u64,
}

impl Forecast {
    /// Time to spare, ms; negative: it will be late.
    pub fn margin_ms(&self) -> f64 {
        self.left_ms - self.took_ms
    }

    /// Whether it will be late.
    pub fn is_late(&self) -> bool {
        self.margin_ms() < 0.0
    }

    /// What an operator should know of it before; nothing where there is time to spare. Begins in the middle of a sentence about the object.
    pub fn warning(&self) -> Option<String> {
        let (took, left) = (self.took_ms / 1e3, self.left_ms / 1e3);
        let foreseen = format!("({} bytes) is foreseen to take {took:.1} s of the {left:.1} s that there are for it", self.bytes);
        if self.is_late() {
            return Some(format!("{foreseen}: it will be late. Free the link, raise --max-up, or use a nearer store"));
        }
        if self.then_ms > self.left_ms {
            return Some(format!("{foreseen}, and uploads take longer from window to window: the next one will be late"));
        }
        let close = self.margin_ms() < CLOSE_SHARE * self.window_ms as f64;
        close.then(|| format!("{foreseen}: it will be close"))
    }
}

/// The last uploads of a miner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uploads {
    window_ms: u64,
    last: VecDeque<Upload>,
}

impl Uploads {
    /// None yet, in a run whose upload window has this length.
    pub fn new(window_ms: u64) -> Self {
        Self { window_ms, last: VecDeque::new() }
    }

    /// Takes in one that has ended.
    pub fn note(&mut self, upload: Upload) {
        self.last.push_back(upload);
        while self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
    }

    /// What is foreseen of an upload of `bytes`; none on fewer than two uploads.
    pub fn forecast(&self, bytes: u64) -> Option<Forecast> {
        if self.last.len() < 2 || bytes == 0 {
            return None;
        }
        let paces: Vec<f64> = self.last.iter().map(pace).collect();
        let left_ms = self.last.iter().map(|upload| upload.left_ms).min()? as f64;
        let [took_ms, then_ms] = next_two(&paces).map(|pace| pace * bytes as f64);
        Some(Forecast { bytes, took_ms, then_ms, left_ms, window_ms: self.window_ms })
    }
}

/// Milliseconds for a byte. One that was given up would have taken longer than it was tried: by how much is not known, so twice that.
fn pace(upload: &Upload) -> f64 {
    let took = upload.took_ms as f64 * if upload.done { 1.0 } else { 2.0 };
    took / upload.bytes.max(1) as f64
}

/// The next two values of a series of paces: on the line of least squares through their logarithms where that rises, else their geometric mean.
fn next_two(paces: &[f64]) -> [f64; 2] {
    let logs: Vec<f64> = paces.iter().map(|pace| pace.max(PACE_LEAST).ln()).collect();
    let n = logs.len() as f64;
    let (mean, middle) = (logs.iter().sum::<f64>() / n, (n - 1.0) / 2.0);
    let rise = |(at, log): (usize, &f64)| (at as f64 - middle) * (log - mean);
    let spread: f64 = (0..logs.len()).map(|at| (at as f64 - middle).powi(2)).sum();
    let growth = (logs.iter().enumerate().map(rise).sum::<f64>() / spread).clamp(0.0, std::f64::consts::LN_2);
    [n, n + 1.0].map(|at| (mean + growth * (at - middle)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MB: u64 = 1_000_000;

    fn upload(bytes: u64, took_ms: u64) -> Upload {
        Upload { bytes, took_ms, left_ms: 70_000, done: took_ms <= 70_000 }
    }

    fn after(took: &[u64]) -> Uploads {
        let mut uploads = Uploads::new(70_000);
        took.iter().for_each(|took| uploads.note(upload(100 * MB, *took)));
        uploads
    }

    #[test]
    fn a_link_that_slows_down_is_seen_a_window_before_the_miss() {
        // Each window takes a quarter longer than the one before; the seventh is the first that is late.
        let mut took = 20_000.0;
        let (mut uploads, mut warned, mut missed) = (Uploads::new(70_000), None, None);
        for window in 0..12 {
            if warned.is_none() && uploads.forecast(100 * MB).is_some_and(|forecast| forecast.warning().is_some()) {
                warned = Some(window);
            }
            if missed.is_none() && took > 70_000.0 {
                missed = Some(window);
            }
            uploads.note(upload(100 * MB, took as u64));
            took *= 1.25;
        }
        assert_eq!(missed, Some(6));
        assert_eq!(warned, Some(5), "before the last object that is in time is put");
    }

    #[test]
    fn a_steady_link_warns_of_nothing_and_a_larger_object_is_seen() {
        let uploads = after(&[30_000, 31_000, 29_000, 30_000]);
        assert_eq!(uploads.forecast(100 * MB).unwrap().warning(), None);
        let larger = uploads.forecast(250 * MB).unwrap();
        assert!(larger.is_late() && larger.warning().unwrap().contains("will be late"), "{larger:?}");
        assert!(uploads.forecast(220 * MB).unwrap().warning().unwrap().ends_with("will be close"));
    }

    #[test]
    fn one_upload_says_nothing_and_a_link_that_recovers_is_forgiven() {
        assert_eq!(after(&[60_000]).forecast(MB), None);
        assert_eq!(after(&[60_000, 50_000, 40_000, 20_000, 20_000, 20_000]).forecast(100 * MB).unwrap().warning(), None);
    }

    #[test]
    fn what_was_given_up_counts_as_late() {
        let mut uploads = Uploads::new(70_000);
        uploads.note(upload(100 * MB, 69_000));
        uploads.note(Upload { bytes: 100 * MB, took_ms: 70_000, left_ms: 70_000, done: false });
        assert!(uploads.forecast(100 * MB).unwrap().is_late());
    }

    proptest! {
        #[test]
        fn forecasts_are_finite_and_grow_with_size(took in proptest::collection::vec(0u64..1_000_000, 2..20), bytes in 1u64..1 << 40) {
            let uploads = after(&took);
            let (one, two) = (uploads.forecast(bytes).unwrap(), uploads.forecast(2 * bytes).unwrap());
            prop_assert!(one.took_ms.is_finite() && one.took_ms >= 0.0 && two.took_ms >= one.took_ms);
        }
    }
}
