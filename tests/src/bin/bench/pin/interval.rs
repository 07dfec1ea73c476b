//! Confidence intervals.

/// Resamplings of the bootstrap.
const DRAWS: usize = 4000;

/// A median with its 95 % confidence interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfidenceInterval {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl ConfidenceInterval {
    /// Estimates the interval of these values' median by Efron's bootstrap: percentiles of medians
    /// of resampled values. It assumes no distribution, because disturbances make a measurement
    /// slower and never faster.
    pub(crate) fn of(values: &[f64]) -> Self {
        // A fixed seed, so that the same values have the same interval.
        let mut random = fastrand::Rng::with_seed(7);
        let mut medians: Vec<_> =
            (0..DRAWS).map(|_| median(values.iter().map(|_| values[random.usize(..values.len())]).collect())).collect();
        medians.sort_by(f64::total_cmp);
        let at = |part: f64| medians[((DRAWS - 1) as f64 * part) as usize];
        Self { low: at(0.025), median: median(values.to_vec()), high: at(0.975) }
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => (values[length / 2 - 1] + values[length / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_contains_its_median_and_narrows_with_more_values() {
        let few: Vec<_> = (0..10).map(|n| f64::from(n % 10)).collect();
        let many: Vec<_> = (0..1000).map(|n| f64::from(n % 10)).collect();
        let (few, many) = (ConfidenceInterval::of(&few), ConfidenceInterval::of(&many));
        assert!(few.low <= 4.5 && 4.5 <= few.high, "{few:?}");
        assert_eq!(many.median, 4.5);
        assert!(many.high - many.low < few.high - few.low, "{few:?} {many:?}");
    }

    #[test]
    fn equal_values_have_an_interval_of_no_width() {
        let ConfidenceInterval { low, median, high } = ConfidenceInterval::of(&[2.0; 5]);
        assert_eq!((low, median, high), (2.0, 2.0, 2.0));
    }
}
