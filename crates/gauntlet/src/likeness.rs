//! Which objects resemble which: within a window, and with those of earlier windows.
//!
//! Honest objects of a window are alike too: all of them point down the same slope. What tells copies from independent work is what is left
//! without that. So the cosine of two updates is taken of what remains when the sum of all *other* updates of their windows is
//! projected out of both (a partial correlation). A sum of few updates tells only roughly what is common: with K others, of which two are alike by ρ,
//! independent work leaves ρ/(1 + Kρ), which is therefore taken for zero (ρ is the median of the window's own pairs). Then independent
//! work leaves cosines near zero, a copy leaves 1, a copy of which a part was replaced leaves about the share that was kept.
//!
//! Within a window nobody can aim at another's object: when objects become known, all commits are made. Two alike objects of a window therefore
//! have one trainer behind them, and no victim. Of two alike objects of different windows the later one is the copy.
//!
//! Bounds: [`OBJECTS_MAX`] objects of a window are kept and compared, for `memory_windows` windows, at 32 KiB each.

use crate::native::rules::LikenessRules;
use crate::observation::{ALIKE_MAX, Agreement, Background, Likeness, Survey};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use templar_codec::{SKETCH_LEN, Sketch, sketch::dot};
use templar_protocol::{AccountId, Uid, Window};

/// Most objects of a window that are kept and compared.
pub const OBJECTS_MAX: usize = 256;
/// Least squared share that must remain of an update beside what is common: below, the plain cosine stands.
const REMAINDER_MIN: f64 = 1e-3;

/// An object of a window, as a sketch.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Its miner.
    pub uid: Uid,
    /// Its miner's hotkey.
    pub hotkey: AccountId,
    /// What it looks like.
    pub sketch: Sketch,
}

/// A window's objects and their sum.
#[derive(Clone, Debug, PartialEq)]
struct Shelf {
    window: Window,
    sent: Vec<Sent>,
    sum: Vec<f32>,
    /// Of each object, in order.
    within: Vec<Within>,
}

/// Inner products of one object of a shelf with its shelf.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Within {
    /// With the sum of all.
    with_sum: f64,
    /// Of the sum with itself.
    sum_squared: f64,
}

impl Shelf {
    fn new(window: Window, mut sent: Vec<Sent>) -> Self {
        sent.retain(|sent| !sent.sketch.is_zero());
        sent.sort_by_key(|sent| sent.uid);
        sent.truncate(OBJECTS_MAX);
        let mut sum = vec![0.0f64; SKETCH_LEN];
        for entry in &sent {
            sum.iter_mut().zip(entry.sketch.values()).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let sum: Vec<f32> = sum.into_iter().map(|sum| sum as f32).collect();
        let sum_squared = dot(&sum, &sum);
        let within = sent.iter().map(|sent| Within { with_sum: dot(sent.sketch.values(), &sum), sum_squared }).collect();
        Self { window, sent, sum, within }
    }
}

/// An earlier shelf beside the newest, with what does not depend on the object that is compared.
struct Earlier<'a> {
    shelf: &'a Shelf,
    /// Inner product of both sums.
    sums: f64,
    /// Those of its objects with the newest sum.
    with_new_sum: Vec<f64>,
}

impl<'a> Earlier<'a> {
    fn new(shelf: &'a Shelf, newest: &Shelf) -> Self {
        let with_new_sum = shelf.sent.iter().map(|sent| dot(sent.sketch.values(), &newest.sum)).collect();
        Self { shelf, sums: dot(&newest.sum, &shelf.sum), with_new_sum }
    }
}

/// The objects of the last windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gallery {
    /// Shared, so that a copy of the gallery is cheap.
    shelves: VecDeque<Arc<Shelf>>,
}

impl Gallery {
    /// A gallery without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// The windows whose objects are kept, oldest first.
    pub fn windows(&self) -> Vec<Window> {
        self.shelves.iter().map(|shelf| shelf.window).collect()
    }

    /// Keeps the objects of `window`; what is older than the rules' memory goes. A window that is there already stays as it is.
    pub fn keep(&mut self, rules: &LikenessRules, window: Window, sent: Vec<Sent>) {
        let last = self.shelves.back().map(|shelf| shelf.window);
        if last.is_none_or(|last| last < window) {
            self.shelves.push_back(Arc::new(Shelf::new(window, sent)));
        }
        self.shelves.retain(|shelf| shelf.window.0.saturating_add(rules.memory_windows as u64) > window.0);
    }

    /// Compares the objects of `window` with each other and with those that are kept of earlier windows. Runs on the current rayon pool and
    /// gives the same bits on any. Sketches have no size, so how large the updates are is for the caller to fill in.
    pub fn survey(&self, rules: &LikenessRules, window: Window, sent: &[Sent]) -> Survey {
        let mut empty: Vec<Uid> = sent.iter().filter(|sent| sent.sketch.is_zero()).map(|sent| sent.uid).collect();
        empty.sort_unstable();
        let shelf = Shelf::new(window, sent.to_vec());
        let (pairs, background) = compare_within(&shelf);
        let mut alike: Vec<Likeness> = pairs.into_iter().filter(|pair| is_reported(rules, pair)).collect();
        let earlier: Vec<&Shelf> = self.shelves.iter().map(Arc::as_ref).filter(|other| other.window < window).collect();
        let (pairs, across) = compare_across(rules, &shelf, &earlier);
        alike.extend(pairs);
        // Earlier windows first among equals, so that a bound never hides a replay behind a large group.
        alike.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then((a.other_window, a.uid, a.other).cmp(&(b.other_window, b.uid, b.other))));
        alike.truncate(ALIKE_MAX);
        let agreements = shelf.sent.iter().zip(&shelf.within).map(|(sent, within)| Agreement { uid: sent.uid, cosine: agreement(within) });
        Survey { within: background, across, alike, agreements: agreements.collect(), empty, loudness: vec![] }
    }
}

fn is_reported(rules: &LikenessRules, pair: &Likeness) -> bool {
    pair.cosine >= rules.report_floor || pair.plain >= rules.few_floor
}

/// Cosine with the sum of all others; 0 when there are none.
fn agreement(within: &Within) -> f64 {
    let others = within.sum_squared - 2.0 * within.with_sum + 1.0;
    bounded((within.with_sum - 1.0) / others.max(0.0).sqrt(), others)
}

/// A cosine whose divisor is `remainder` squared or so; 0 when there is nothing to compare.
fn bounded(cosine: f64, remainder: f64) -> f64 {
    if remainder > 1e-9 && cosine.is_finite() { cosine.clamp(-1.0, 1.0) } else { 0.0 }
}

/// The cosine of a and b without the directions of up to two sums, given all inner products. `ac`, `bc`: with the sums; `c`: of the sums.
fn partial(ab: f64, ac: [f64; 2], bc: [f64; 2], c: [[f64; 2]; 2]) -> f64 {
    let (mut product, mut a_left, mut b_left) = (ab, 1.0, 1.0);
    let mut first: Option<(f64, f64, f64)> = None;
    for i in 0..2 {
        // Gram–Schmidt: the second sum without the first.
        let (mut a, mut b, mut norm) = (ac[i], bc[i], c[i][i]);
        if let (1, Some((a0, b0, c01))) = (i, first) {
            (a, b, norm) = (a - a0 * c01, b - b0 * c01, norm - c01 * c01);
        }
        if norm <= 1e-6 * c[i][i].max(1e-9) {
            continue;
        }
        let (a, b) = (a / norm.sqrt(), b / norm.sqrt());
        product -= a * b;
        a_left -= a * a;
        b_left -= b * b;
        if i == 0 {
            first = Some((a, b, c[0][1] / norm.sqrt()));
        }
    }
    if a_left.min(b_left) < REMAINDER_MIN {
        return ab.clamp(-1.0, 1.0);
    }
    bounded(product / (a_left * b_left).sqrt(), 1.0)
}

/// All pairs of a window.
fn compare_within(shelf: &Shelf) -> (Vec<Likeness>, Background) {
    let (count, within) = (shelf.sent.len(), &shelf.within);
    let rows: Vec<Vec<Likeness>> = (0..count)
        .into_par_iter()
        .map(|i| {
            let row = (i + 1..count).map(|j| {
                let (a, b) = (&shelf.sent[i], &shelf.sent[j]);
                let plain = a.sketch.cosine(&b.sketch);
                // The sum without both: s − a − b.
                let others_squared = within[i].sum_squared + 2.0 + 2.0 * plain - 2.0 * within[i].with_sum - 2.0 * within[j].with_sum;
                let with_others = |within: &Within| within.with_sum - 1.0 - plain;
                let (ac, bc) = ([with_others(&within[i]), 0.0], [with_others(&within[j]), 0.0]);
                let cosine = partial(plain, ac, bc, [[others_squared, 0.0], [0.0, 0.0]]);
                Likeness { uid: a.uid, other: b.uid, other_hotkey: b.hotkey, other_window: shelf.window, cosine, plain }
            });
            row.collect()
        })
        .collect();
    let mut pairs: Vec<Likeness> = rows.into_iter().flatten().collect();
    let common = background(pairs.iter().map(|pair| pair.plain).collect()).median.clamp(0.0, 0.99);
    let usual = common / (1.0 + count.saturating_sub(2) as f64 * common);
    pairs.iter_mut().for_each(|pair| pair.cosine = ((pair.cosine - usual) / (1.0 - usual)).clamp(-1.0, 1.0));
    let background = background(pairs.iter().map(|pair| pair.cosine).collect());
    (pairs, background)
}

/// The reported pairs of a window's objects with those of earlier windows, and what all pairs are like.
fn compare_across(rules: &LikenessRules, shelf: &Shelf, earlier: &[&Shelf]) -> (Vec<Likeness>, Background) {
    let earlier: Vec<Earlier> = earlier.par_iter().map(|other| Earlier::new(other, shelf)).collect();
    let rows: Vec<(Vec<f64>, Vec<Likeness>)> = (0..shelf.sent.len())
        .into_par_iter()
        .map(|i| {
            let (mut cosines, mut reported) = (Vec::new(), Vec::new());
            for other in &earlier {
                let (compared, found) = compare_with_shelf(rules, shelf, i, other);
                cosines.extend(compared);
                reported.extend(found);
            }
            (cosines, reported)
        })
        .collect();
    let (cosines, reported): (Vec<Vec<f64>>, Vec<Vec<Likeness>>) = rows.into_iter().unzip();
    (reported.into_iter().flatten().collect(), background(cosines.into_iter().flatten().collect()))
}

fn compare_with_shelf(rules: &LikenessRules, shelf: &Shelf, i: usize, other: &Earlier) -> (Vec<f64>, Vec<Likeness>) {
    let (a, within) = (&shelf.sent[i], &shelf.within[i]);
    let a_with_old_sum = dot(a.sketch.values(), &other.shelf.sum);
    let (mut cosines, mut reported) = (Vec::new(), Vec::new());
    for ((b, old), &b_with_sum) in other.shelf.sent.iter().zip(&other.shelf.within).zip(&other.with_new_sum) {
        let plain = a.sketch.cosine(&b.sketch);
        // Sums without a and without b: s − a and t − b.
        let new_squared = within.sum_squared - 2.0 * within.with_sum + 1.0;
        let old_squared = old.sum_squared - 2.0 * old.with_sum + 1.0;
        let between = other.sums - a_with_old_sum - b_with_sum + plain;
        let ac = [within.with_sum - 1.0, a_with_old_sum - plain];
        let bc = [b_with_sum - plain, old.with_sum - 1.0];
        let cosine = partial(plain, ac, bc, [[new_squared, between], [between, old_squared]]);
        cosines.push(cosine);
        let pair = Likeness { uid: a.uid, other: b.uid, other_hotkey: b.hotkey, other_window: other.shelf.window, cosine, plain };
        if is_reported(rules, &pair) {
            reported.push(pair);
        }
    }
    (cosines, reported)
}

/// Median and robust deviation.
fn background(mut values: Vec<f64>) -> Background {
    let pairs = values.len() as u64;
    let middle = |values: &mut [f64]| {
        values.sort_by(f64::total_cmp);
        values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    };
    let median = middle(&mut values);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    Background { pairs, median, deviation: 1.4826 * middle(&mut distances) }
}

#[cfg(test)]
#[path = "likeness_tests.rs"]
mod tests;
