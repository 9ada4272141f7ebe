//! Yuma consensus: from stake, weights and bonds to incentive, dividends and emission (spec chain-and-wallet §D.5).
//!
//! The order of operations is the chain's, so the results are equal to the bit. A pure function of its input.

use crate::fixed::{Fixed, normalize, sum};
use serde::Deserialize;

/// A sparse matrix: for each row, columns and values, columns rising.
type Rows = Vec<Vec<(u16, Fixed)>>;

/// Stored rows: for each uid, other uids and `u16` values.
pub type StoredRows = Vec<Vec<(u16, u16)>>;

/// The rules that consensus depends on; names as in [`SubnetRules`](crate::SubnetRules).
#[derive(Clone, Debug, Deserialize)]
pub struct YumaParams {
    /// Blocks without weights after which a neuron counts as inactive.
    #[serde(rename = "activity_cutoff_blocks")]
    pub activity_cutoff: u64,
    /// Share of old bonds that stays, of 1 000 000.
    pub bonds_moving_average: u64,
    /// How far bonds follow clipped weights, of 65535.
    pub bonds_penalty: u16,
    /// Majority, of 65535.
    pub kappa: u16,
    /// Number of permits.
    #[serde(rename = "max_validators")]
    pub max_allowed_validators: u16,
    /// The uid of the subnet owner's neuron.
    pub owner_uid: Option<u16>,
    /// Stake below this counts nothing.
    pub stake_threshold: u64,
    /// Blocks between epochs.
    pub tempo: u64,
    /// Whether bonds follow Yuma 3.
    pub yuma3: bool,
    /// Whether Yuma 3 lets the speed of each bond follow consensus.
    pub liquid_alpha: bool,
    /// The slowest speed of a bond, of 65535.
    pub alpha_low: u16,
    /// The fastest speed of a bond, of 65535.
    pub alpha_high: u16,
    /// Steepness of the curve between both, of 1000.
    pub alpha_sigmoid_steepness: i16,
}

/// What an epoch starts from. All lists have one entry for each uid.
#[derive(Clone, Debug, Deserialize)]
pub struct EpochInput {
    /// The present block.
    pub block: u64,
    /// Stakes, rao.
    pub stake: Vec<u64>,
    /// Stored weights.
    pub weights: StoredRows,
    /// Blocks of the last setting of weights.
    pub last_update: Vec<u64>,
    /// Blocks of registration.
    pub block_at_registration: Vec<u64>,
    /// Permits given by the epoch before.
    pub validator_permit: Vec<bool>,
    /// Stored bonds.
    pub bonds: StoredRows,
    /// Blocks of the oldest commits that are not yet revealed, where weights must be committed.
    #[serde(default)]
    pub oldest_commit: Vec<Option<u64>>,
    /// The block of the last epoch, 0 before the first.
    #[serde(rename = "last_mechanism_step_block")]
    pub last_epoch_block: u64,
    /// What is to be shared out, rao.
    pub emission: u64,
}

/// What an epoch gives. All lists have one entry for each uid; shares are of 65535.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EpochOutput {
    /// Whether the neuron set weights recently.
    pub active: Vec<bool>,
    /// Bonds to store.
    pub bonds: StoredRows,
    /// Consensus weights.
    pub consensus: Vec<u16>,
    /// Shares of the validators' emission.
    pub dividends: Vec<u16>,
    /// Shown emission, rao.
    pub emission: Vec<u64>,
    /// Shares of the miners' emission.
    pub incentive: Vec<u16>,
    /// Miner amounts, rao.
    pub server_emission: Vec<u64>,
    /// Stake shares.
    pub stake_weight: Vec<u16>,
    /// Validator amounts, rao.
    pub validator_emission: Vec<u64>,
    /// Permits from now on.
    pub validator_permit: Vec<bool>,
    /// Shares of each neuron's weights that are within consensus.
    pub validator_trust: Vec<u16>,
}

/// The fixed-point values behind an [`EpochOutput`].
#[derive(Clone, Debug)]
pub struct EpochBits {
    /// Active stake.
    pub active_stake: Vec<Fixed>,
    /// Consensus.
    pub consensus: Vec<Fixed>,
    /// Incentive.
    pub incentive: Vec<Fixed>,
    /// Dividends.
    pub dividends: Vec<Fixed>,
}

/// Runs one epoch. Lists shorter than `input.stake` count as zero, false and empty; columns beyond it are ignored.
pub fn epoch(params: &YumaParams, input: &EpochInput) -> (EpochOutput, EpochBits) {
    let n = input.stake.len();
    let flag = |list: &[bool], i: usize| list.get(i).copied().unwrap_or(false);
    let number = |list: &[u64], i: usize| list.get(i).copied().unwrap_or(0);
    let is_owner = |i: usize| params.owner_uid.is_some_and(|owner| usize::from(owner) == i);
    let permitted: Vec<bool> = (0..n).map(|i| flag(&input.validator_permit, i)).collect();

    // Steps 1 to 4: who counts, and how much.
    let active: Vec<bool> = (0..n).map(|i| number(&input.last_update, i).saturating_add(params.activity_cutoff) >= input.block).collect();
    let stake = stake_shares(params, &input.stake, &is_owner);
    let new_permits = permits(params, &stake, &is_owner);
    let mut active_stake: Vec<Fixed> =
        (0..n).map(|i| if active[i] && (permitted[i] || is_owner(i)) { stake[i] } else { Fixed::ZERO }).collect();
    normalize(&mut active_stake);

    // Step 5: the weights that count.
    let mut weights = read_rows(&input.weights, n, Fixed::whole);
    for (i, row) in weights.iter_mut().enumerate() {
        let updated = number(&input.last_update, i);
        if !(permitted[i] || is_owner(i)) {
            row.clear();
        }
        let committed = input.oldest_commit.get(i).copied().flatten();
        row.retain(|&(j, _)| {
            let registered = number(&input.block_at_registration, usize::from(j));
            (usize::from(j) != i || is_owner(i)) && updated > registered && committed.is_none_or(|block| block >= registered)
        });
    }
    normalize_rows(&mut weights);

    // Steps 6 to 8: consensus, clipping, incentive.
    let consensus = consensus_of(&active_stake, &weights, n, Fixed::share(params.kappa));
    let clipped = clip_columns(&weights, &consensus);
    let trust: Vec<Fixed> = clipped.iter().map(|row| sum(row.iter().map(|&(_, w)| w))).collect();
    let mut incentive = weighted_columns(&active_stake, &clipped, n);
    normalize(&mut incentive);

    // Steps 9 to 11: bonds and dividends.
    let bond_weights = interpolate(&weights, &clipped, params.bonds_penalty);
    let first_new = if input.last_epoch_block == 0 { input.block.saturating_sub(params.tempo) } else { input.last_epoch_block + 1 };
    let scale: fn(u16) -> Fixed = if params.yuma3 { Fixed::share } else { Fixed::whole };
    let mut old = read_rows(&input.bonds, n, scale);
    for row in &mut old {
        row.retain(|&(j, _)| number(&input.block_at_registration, usize::from(j)) < first_new);
    }
    let alpha = Fixed::ONE.sub(Fixed::ratio(params.bonds_moving_average, 1_000_000));
    let (mut bonds, dividends) = if params.yuma3 {
        let bonds = if params.liquid_alpha && consensus.iter().any(|&c| c != Fixed::ZERO) {
            liquid_bonds(params, &bond_weights, &old, &consensus)
        } else {
            moving_average(&bond_weights, &old, alpha, n)
        };
        let dividends = dividends_yuma3(&bonds, &active_stake, &incentive, n);
        (bonds, dividends)
    } else {
        bonds_classic(&bond_weights, old, &active_stake, &incentive, alpha, n)
    };
    if !params.yuma3 {
        upscale_columns(&mut bonds, n);
    }
    let bonds = (0..n)
        .map(|i| {
            let row = if new_permits[i] { bonds[i].as_slice() } else { &[] };
            row.iter().map(|&(j, b)| (j, b.to_share())).collect()
        })
        .collect();

    // Steps 12 and 13.
    let (server, validator, shown) = emission(&incentive, &dividends, &active_stake, &stake, input.emission);
    let shares = |list: &[Fixed]| list.iter().map(|x| x.to_share()).collect();
    let output = EpochOutput {
        active,
        bonds,
        consensus: shares(&consensus),
        dividends: shares(&dividends),
        emission: shown,
        incentive: shares(&incentive),
        server_emission: server,
        stake_weight: shares(&stake),
        validator_emission: validator,
        validator_permit: new_permits,
        validator_trust: shares(&trust),
    };
    (output, EpochBits { active_stake, consensus, incentive, dividends })
}

/// Step 2: stakes that reach the threshold, as shares of their sum.
fn stake_shares(params: &YumaParams, stake: &[u64], is_owner: &impl Fn(usize) -> bool) -> Vec<Fixed> {
    let counted: Vec<u64> =
        stake.iter().enumerate().map(|(i, &s)| if s >= params.stake_threshold || is_owner(i) { s } else { 0 }).collect();
    let total = counted.iter().fold(0u64, |total, &s| total.saturating_add(s));
    counted.into_iter().map(|s| Fixed::ratio(s, total)).collect()
}

/// Step 3: permits for the largest shares; ties at the border keep the higher uid.
fn permits(params: &YumaParams, stake: &[Fixed], is_owner: &impl Fn(usize) -> bool) -> Vec<bool> {
    let mut order: Vec<usize> = (0..stake.len()).collect();
    order.sort_by_key(|&i| stake[i]);
    let dropped = stake.len().saturating_sub(usize::from(params.max_allowed_validators));
    let mut permits: Vec<bool> = (0..stake.len()).map(|i| is_owner(i) || stake[i] > Fixed::ZERO).collect();
    for &i in order.iter().take(dropped) {
        permits[i] = is_owner(i);
    }
    permits
}

fn read_rows(stored: &StoredRows, n: usize, scale: fn(u16) -> Fixed) -> Rows {
    let mut rows: Rows = stored
        .iter()
        .take(n)
        .map(|row| row.iter().filter(|&&(j, _)| usize::from(j) < n).map(|&(j, value)| (j, scale(value))).collect())
        .collect();
    rows.resize(n, Vec::new());
    rows
}

fn normalize_rows(rows: &mut Rows) {
    for row in rows {
        let total = sum(row.iter().map(|&(_, w)| w));
        for (_, w) in row {
            *w = w.div(total);
        }
    }
}

fn column_fold(rows: &Rows, n: usize, fold: fn(Fixed, Fixed) -> Fixed) -> Vec<Fixed> {
    let mut columns = vec![Fixed::ZERO; n];
    for &(j, value) in rows.iter().flatten() {
        let column = &mut columns[usize::from(j)];
        *column = fold(*column, value);
    }
    columns
}

fn divide_columns(rows: &mut Rows, by: &[Fixed]) {
    for (j, value) in rows.iter_mut().flatten() {
        let divisor = by[usize::from(*j)];
        if divisor != Fixed::ZERO {
            *value = value.div(divisor);
        }
    }
}

fn normalize_columns(rows: &mut Rows, n: usize) {
    let totals = column_fold(rows, n, Fixed::add);
    divide_columns(rows, &totals);
}

fn upscale_columns(rows: &mut Rows, n: usize) {
    let largest = column_fold(rows, n, |a, b| a.max(b));
    divide_columns(rows, &largest);
}

/// Step 6: for each column the stake-weighted median over the rows with stake.
fn consensus_of(stake: &[Fixed], weights: &Rows, n: usize, majority: Fixed) -> Vec<Fixed> {
    let voters: Vec<usize> = (0..stake.len()).filter(|&i| stake[i] > Fixed::ZERO).collect();
    let mut votes: Vec<Fixed> = voters.iter().map(|&i| stake[i]).collect();
    normalize(&mut votes);
    let mut columns = vec![vec![Fixed::ZERO; voters.len()]; n];
    for (k, &i) in voters.iter().enumerate() {
        for &(j, w) in &weights[i] {
            columns[usize::from(j)][k] = w;
        }
    }
    columns.iter().map(|scores| weighted_median(&votes, scores, majority)).collect()
}

/// The largest score that voters with at least `majority` of the stake reach, found by the chain's own partition.
fn weighted_median(stake: &[Fixed], scores: &[Fixed], majority: Fixed) -> Fixed {
    let total = sum(stake.iter().copied());
    let minority = total.sub(majority);
    let (mut low, mut high) = (Fixed::ZERO, total);
    let mut remaining: Vec<usize> = (0..stake.len()).collect();
    // Each round removes at least the pivot, so there are at most as many rounds as voters.
    loop {
        let Some(&middle) = remaining.get(remaining.len() / 2) else { return Fixed::ZERO };
        let pivot = scores[middle];
        if remaining.len() == 1 {
            return pivot;
        }
        let lower: Vec<usize> = remaining.iter().copied().filter(|&i| scores[i] < pivot).collect();
        let upper: Vec<usize> = remaining.iter().copied().filter(|&i| scores[i] > pivot).collect();
        let below = low.add(sum(lower.iter().map(|&i| stake[i])));
        let above = high.sub(sum(upper.iter().map(|&i| stake[i])));
        if below > minority {
            (remaining, high) = (lower, below);
        } else if above <= minority {
            (remaining, low) = (upper, above);
        } else {
            return pivot;
        }
    }
}

/// Step 7: no weight above consensus; what is clipped to zero is dropped.
fn clip_columns(weights: &Rows, consensus: &[Fixed]) -> Rows {
    let clip = |&(j, w): &(u16, Fixed)| (j, w.min(consensus[usize::from(j)]));
    let changed = |&(j, w): &(u16, Fixed)| w > consensus[usize::from(j)] && consensus[usize::from(j)] <= Fixed::ZERO;
    weights.iter().map(|row| row.iter().filter(|entry| !changed(entry)).map(clip).collect()).collect()
}

/// `Σ_i a_i m_ij` for each column.
fn weighted_columns(vector: &[Fixed], rows: &Rows, n: usize) -> Vec<Fixed> {
    let mut columns = vec![Fixed::ZERO; n];
    for (a, row) in vector.iter().zip(rows) {
        for &(j, value) in row {
            let column = &mut columns[usize::from(j)];
            *column = column.add(a.mul(value));
        }
    }
    columns
}

/// Step 9: `w + β (w̄ − w)`, taken exactly at both ends.
fn interpolate(weights: &Rows, clipped: &Rows, penalty: u16) -> Rows {
    match penalty {
        0 => return weights.clone(),
        u16::MAX => return clipped.clone(),
        _ => {}
    }
    let ratio = Fixed::share(penalty);
    let mix = |row: &[(u16, Fixed)], other: &[(u16, Fixed)]| {
        let at = |j: u16| other.iter().find(|&&(k, _)| k == j).map_or(Fixed::ZERO, |&(_, w)| w);
        row.iter().map(|&(j, w)| (j, w.add(ratio.mul(at(j).sub(w))))).filter(|&(_, w)| w > Fixed::ZERO).collect()
    };
    weights.iter().zip(clipped).map(|(row, other)| mix(row, other)).collect()
}

fn moving_average(new: &Rows, old: &Rows, alpha: Fixed, n: usize) -> Rows {
    let rest = Fixed::ONE.sub(alpha);
    let mix = |new: &[(u16, Fixed)], old: &[(u16, Fixed)]| {
        let mut dense = vec![Fixed::ZERO; n];
        for &(j, value) in new {
            dense[usize::from(j)] = dense[usize::from(j)].add(alpha.mul(value));
        }
        for &(j, value) in old {
            dense[usize::from(j)] = dense[usize::from(j)].add(rest.mul(value));
        }
        (0u16..).zip(dense).filter(|&(_, value)| value > Fixed::ZERO).collect()
    };
    new.iter().zip(old).map(|(new, old)| mix(new, old)).collect()
}

fn row_products(rows: &Rows, vector: &[Fixed]) -> Vec<Fixed> {
    rows.iter().map(|row| sum(row.iter().map(|&(j, value)| value.mul(vector[usize::from(j)])))).collect()
}

/// Step 10.
fn bonds_classic(weights: &Rows, mut old: Rows, stake: &[Fixed], incentive: &[Fixed], alpha: Fixed, n: usize) -> (Rows, Vec<Fixed>) {
    normalize_columns(&mut old, n);
    let mut delta: Rows = weights.iter().zip(stake).map(|(row, a)| row.iter().map(|&(j, w)| (j, a.mul(w))).collect()).collect();
    normalize_columns(&mut delta, n);
    let mut bonds = moving_average(&delta, &old, alpha, n);
    normalize_columns(&mut bonds, n);
    let mut dividends = row_products(&bonds, incentive);
    normalize(&mut dividends);
    (bonds, dividends)
}

/// Step 11: dividends from bonds that are shares.
fn dividends_yuma3(bonds: &Rows, stake: &[Fixed], incentive: &[Fixed], n: usize) -> Vec<Fixed> {
    let mut shares = bonds.clone();
    normalize_columns(&mut shares, n);
    let mut dividends: Vec<Fixed> = row_products(&shares, incentive).iter().zip(stake).map(|(t, a)| t.mul(*a)).collect();
    normalize(&mut dividends);
    dividends
}

/// Step 11 with liquid alpha: each bond moves at its own speed, which grows with the distance to consensus. Only bonds that weights speak
/// of stay.
fn liquid_bonds(params: &YumaParams, weights: &Rows, old: &Rows, consensus: &[Fixed]) -> Rows {
    let (low, high) = (Fixed::share(params.alpha_low), Fixed::share(params.alpha_high));
    let steepness = Fixed::signed(params.alpha_sigmoid_steepness).div(Fixed::whole(100));
    let bond = |j: u16, weight: Fixed, old: Fixed| {
        let distance = if weight >= old { weight.sub(consensus[usize::from(j)]) } else { old.sub(weight) };
        let alpha = alpha_sigmoid(distance.clamp(Fixed::ZERO, Fixed::ONE), steepness, low, high);
        let kept = Fixed::ONE.sub(alpha).mul(old);
        alpha.mul(weight).add(kept).min(Fixed::ONE)
    };
    let mix = |row: &[(u16, Fixed)], old: &[(u16, Fixed)]| {
        let at = |j: u16| old.iter().find(|&&(k, _)| k == j).map_or(Fixed::ZERO, |&(_, value)| value);
        row.iter().map(|&(j, w)| (j, bond(j, w, at(j)))).filter(|&(_, value)| value > Fixed::ZERO).collect()
    };
    weights.iter().zip(old).map(|(row, old)| mix(row, old)).collect()
}

/// A speed between `low` and `high`, by a logistic curve around one half.
fn alpha_sigmoid(distance: Fixed, steepness: Fixed, low: Fixed, high: Fixed) -> Fixed {
    let half = Fixed::ONE.div(Fixed::whole(2));
    let exponent = Fixed::ZERO.sub(steepness).mul(distance.sub(half));
    let sigmoid = Fixed::ONE.div(Fixed::ONE.add(exponent.exp()));
    low.add(sigmoid.mul(high.sub(low))).clamp(low, high)
}

/// Step 12: miner amounts, validator amounts and shown emission, rao.
fn emission(incentive: &[Fixed], dividends: &[Fixed], active: &[Fixed], stake: &[Fixed], amount: u64) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let both: Vec<Fixed> = incentive.iter().zip(dividends).map(|(i, d)| i.add(*d)).collect();
    let total = sum(both.iter().copied());
    let pay = |list: &[Fixed], by: Fixed| -> Vec<u64> { list.iter().map(|x| x.div(by).of_amount(amount)).collect() };
    if total != Fixed::ZERO {
        return (pay(incentive, total), pay(dividends, total), pay(&both, total));
    }
    let fallback = if sum(active.iter().copied()) == Fixed::ZERO { stake } else { active };
    let amounts: Vec<u64> = fallback.iter().map(|x| x.of_amount(amount)).collect();
    (vec![0; incentive.len()], amounts.clone(), amounts)
}

#[cfg(test)]
#[path = "yuma_tests.rs"]
mod tests;
