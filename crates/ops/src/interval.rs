//! Confidence intervals of means.

/// 97.5 % points of Student's t for 1 to 30 degrees of freedom (any table of the distribution).
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The 95 % interval of a mean over `count` values with this standard error; none for a single value, which shows no spread.
pub(crate) fn interval(mean: f64, standard_error: f64, count: usize) -> Option<[f64; 2]> {
    let freedom = count.checked_sub(2)?;
    let reach = T_975.get(freedom).copied().unwrap_or(1.96) * standard_error;
    Some([mean - reach, mean + reach])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_make_a_wide_interval() {
        assert_eq!(interval(1.0, 0.1, 1), None);
        assert_eq!(interval(1.0, 0.1, 2), Some([1.0 - 1.2706, 1.0 + 1.2706]));
        let [low, high] = interval(0.0, 1.0, 31).unwrap();
        assert_eq!((low, high), (-2.042, 2.042));
        assert_eq!(interval(0.0, 1.0, 1000), Some([-1.96, 1.96]));
    }
}
