//! Signed fixed point with 32 integer and 32 fraction bits, as the chain computes consensus (spec chain-and-wallet §D.5).
//!
//! Multiplication and division truncate; sums saturate; division by zero gives zero. Plain integers, so every machine agrees.

/// A number `x` as `x · 2³²`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fixed(pub i64);

impl Fixed {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(1 << 32);

    /// A whole number.
    pub fn whole(value: u16) -> Self {
        Self(i64::from(value) << 32)
    }

    /// A whole number that may be negative.
    pub fn signed(value: i16) -> Self {
        Self(i64::from(value) << 32)
    }

    /// A share of 65535.
    pub fn share(value: u16) -> Self {
        Self::whole(value).div(Self::whole(u16::MAX))
    }

    /// `n / d`, computed with 64 fraction bits and then narrowed. 0 when `d` is 0 or the quotient does not fit.
    pub fn ratio(n: u64, d: u64) -> Self {
        let Some(quotient) = (u128::from(n) << 64).checked_div(u128::from(d)) else { return Self::ZERO };
        Self(i64::try_from(quotient >> 32).unwrap_or(0))
    }

    /// Sum, saturating.
    pub fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference, saturating.
    pub fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Product, truncated.
    pub fn mul(self, other: Self) -> Self {
        Self(narrow((i128::from(self.0) * i128::from(other.0)) >> 32))
    }

    /// Quotient, truncated; 0 when `other` is 0.
    pub fn div(self, other: Self) -> Self {
        if other.0 == 0 {
            return Self::ZERO;
        }
        Self(narrow((i128::from(self.0) << 32) / i128::from(other.0)))
    }

    /// `e^x` for `x` clamped to ±20, by the chain's own series: 30 terms, each truncated; for a negative `x` the inverse of `e^-x`.
    pub fn exp(self) -> Self {
        /// e with 23 fraction bits, which the chain takes for `x = 1`.
        const E: Fixed = Fixed(0x0002_b7e1_5000);
        let limit = Self::whole(20);
        let x = self.clamp(Self::ZERO.sub(limit), limit);
        if x == Self::ZERO {
            return Self::ONE;
        }
        if x == Self::ONE {
            return E;
        }
        let size = Self(x.0.abs());
        let (mut term, mut sum) = (size, size.add(Self::ONE));
        for i in 2..32 {
            term = term.mul(size).div(Self::whole(i));
            sum = sum.add(term);
        }
        if x < Self::ZERO { Self::ONE.div(sum) } else { sum }
    }

    /// `⌊x · 65535⌋`, within `u16`.
    pub fn to_share(self) -> u16 {
        clamp_u16(self.mul(Self::whole(u16::MAX)).0 >> 32)
    }

    /// `⌊x · amount⌋` for `x` in [0, 1].
    pub fn of_amount(self, amount: u64) -> u64 {
        u64::try_from((i128::from(self.0.max(0)) * i128::from(amount)) >> 32).unwrap_or(u64::MAX)
    }

    /// The nearest whole number within `u16`, halves away from zero.
    pub fn round_u16(self) -> u16 {
        clamp_u16(self.0.saturating_add(1 << 31) >> 32)
    }
}

fn narrow(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

fn clamp_u16(value: i64) -> u16 {
    u16::try_from(value.clamp(0, i64::from(u16::MAX))).unwrap_or(u16::MAX)
}

/// The sum of `values`.
pub fn sum(values: impl IntoIterator<Item = Fixed>) -> Fixed {
    values.into_iter().fold(Fixed::ZERO, Fixed::add)
}

/// Divides by the sum; all zero stays all zero.
pub fn normalize(values: &mut [Fixed]) {
    let total = sum(values.iter().copied());
    if total != Fixed::ZERO {
        for value in values {
            *value = value.div(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn products_and_quotients_truncate() {
        assert_eq!(Fixed(1).mul(Fixed(1)), Fixed::ZERO);
        assert_eq!(Fixed::ONE.div(Fixed::whole(3)), Fixed(0x5555_5555));
        assert_eq!(Fixed::ONE.div(Fixed::ZERO), Fixed::ZERO);
        assert_eq!(Fixed::share(u16::MAX), Fixed::ONE);
        assert_eq!(Fixed::ratio(1, 10).to_share(), 6553);
        assert_eq!(Fixed::ONE.of_amount(1_000_000_000), 1_000_000_000);
    }

    #[test]
    fn powers_of_e_are_near_the_true_ones() {
        for x in [-20.0, -7.5, -1.0, -0.01, 0.0, 0.3, 1.0, 2.5, 9.0, 20.0, 31.0f64] {
            let power = Fixed((x * 4_294_967_296.0) as i64).exp().0 as f64 / 4_294_967_296.0;
            let expected = x.clamp(-20.0, 20.0).exp();
            // The series is cut and every term truncated: near 20 the last of them are still felt.
            assert!((power - expected).abs() <= 3e-7 + expected * 0.02, "{x}: {power} for {expected}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(a: i64, b: i64, n: u64, d: u64) {
            let (x, y) = (Fixed(a), Fixed(b));
            let _ = (x.add(y), x.sub(y), x.mul(y), x.div(y), x.to_share(), x.of_amount(n), x.round_u16(), x.exp(), Fixed::ratio(n, d));
        }

        #[test]
        fn normalised_sums_do_not_exceed_one(raw in proptest::collection::vec(0u32.., 1..50)) {
            let mut values: Vec<_> = raw.iter().map(|&v| Fixed(i64::from(v))).collect();
            normalize(&mut values);
            prop_assert!(sum(values) <= Fixed::ONE);
        }
    }
}
