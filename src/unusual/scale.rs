//! A scale on which the counts of one source deviate by about 1, whether they are few or many.

/// Anscombe's transformations (1948): for counts of independent requests, whose variance is their mean (Poisson), and for counts that scatter
/// more, whose variance is mean + excess × mean² (negative binomial). On either scale the standard deviation is about 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// 0 for Poisson.
    excess: f64,
}

/// The median absolute deviation of a normal distribution is this part of its standard deviation (Hampel 1974).
const MAD: f64 = 0.674_489_750_196_082;
/// No source that can be judged scatters more.
const MOST_EXCESS: f64 = 16.0;
/// Halvings of the range in which the excess is searched.
const HALVINGS: usize = 24;

impl Scale {
    pub(super) const POISSON: Scale = Scale { excess: 0.0 };

    /// The scale on which these pairs of a count and what was expected of it deviate by 1: by the median of the absolute deviations, so that
    /// up to half of them may be unusual.
    pub(super) fn fit(pairs: &[(f64, f64)]) -> Scale {
        let mut deviations = Vec::with_capacity(pairs.len());
        let mut deviation = |excess: f64| {
            let scale = Scale { excess };
            deviations.clear();
            deviations.extend(pairs.iter().map(|(count, expected)| (scale.at(*count) - scale.at(*expected)).abs()));
            median(&mut deviations) / MAD
        };
        if pairs.is_empty() || deviation(0.0) <= 1.0 {
            return Scale::POISSON;
        }
        let (mut low, mut high) = (0.0, MOST_EXCESS);
        for _ in 0..HALVINGS {
            // Most sources scatter little: the range is halved as to its root.
            let middle = f64::midpoint(f64::sqrt(low), f64::sqrt(high)).powi(2);
            if deviation(middle) > 1.0 { low = middle } else { high = middle }
        }
        Scale { excess: high }
    }

    /// Where a count is on the scale.
    pub(super) fn at(self, count: f64) -> f64 {
        let count = count + 3.0 / 8.0;
        if self.excess > 0.0 { 2.0 / self.excess.sqrt() * (self.excess * count).sqrt().asinh() } else { 2.0 * count.sqrt() }
    }

    /// How far these counts lie apart, at least 1: the median of the absolute deviations from their median, as a standard deviation.
    pub(super) fn spread(self, counts: &[f64]) -> f64 {
        let mut places: Vec<f64> = counts.iter().map(|count| self.at(*count)).collect();
        let middle = median(&mut places);
        places.iter_mut().for_each(|place| *place = (*place - middle).abs());
        (median(&mut places) / MAD).max(1.0)
    }
}

/// The median; 0 of nothing. Of an even number the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> f64 {
    let (half, is_odd) = (values.len() / 2, values.len() % 2 == 1);
    if values.is_empty() {
        return 0.0;
    }
    let (below, &mut middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    if is_odd { middle } else { f64::midpoint(below.iter().copied().fold(f64::NEG_INFINITY, f64::max), middle) }
}
