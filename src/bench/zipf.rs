//! Which key is asked for, when some are asked for far more often than others.

use super::population::Draw;

/// Draws ranks with the frequencies of Zipf's law: rank `r`, counted from 1, in proportion to `1 / r^exponent`.
///
/// By rejection-inversion (Hörmann and Derflinger, 'Rejection-inversion to generate variates from monotone discrete distributions', 1996): exact, in
/// constant time and memory whatever the number of keys. Ranks are spread over the keys, so that those asked most are not neighbours in memory.
pub struct Zipf {
    exponent: f64,
    keys: u64,
    spread: u64,
    /// The integral at the left end of rank 1, and at the right end of the last rank.
    first: f64,
    last: f64,
    /// Up to this far from a rank it is taken without a look at the curve.
    surely: f64,
}

impl Zipf {
    /// Over so many keys, at least one. The exponent is above 0 and not 1.
    pub fn new(keys: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { exponent, keys, spread: spread(keys), first: 0.0, last: 0.0, surely: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(keys as f64 + 0.5);
        zipf.surely = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// The number of a key, from 0.
    pub fn key(&self, draw: &mut Draw) -> u64 {
        let place = u128::from(self.rank(draw) - 1) * u128::from(self.spread);
        (place % u128::from(self.keys)) as u64
    }

    fn rank(&self, draw: &mut Draw) -> u64 {
        loop {
            let under = self.last + draw.unit() * (self.first - self.last);
            let x = self.inverse(under);
            let rank = (x + 0.5).floor().clamp(1.0, self.keys as f64);
            if rank - x <= self.surely || under >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u64;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// Of the density, up to a constant.
    fn integral(&self, x: f64) -> f64 {
        x.powf(1.0 - self.exponent) / (1.0 - self.exponent)
    }

    fn inverse(&self, y: f64) -> f64 {
        (y * (1.0 - self.exponent)).powf(1.0 / (1.0 - self.exponent))
    }
}

/// A step near the golden section of the keys that has no factor in common with their number: stepping by it visits each once, and far apart.
fn spread(keys: u64) -> u64 {
    let near = (keys as f64 * 0.618_033_988_749_895) as u64;
    (near.max(1)..).find(|&step| common_factor(step, keys) == 1).unwrap_or(1)
}

fn common_factor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_factor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        const KEYS: u64 = 1_000;
        const DRAWS: usize = 400_000;
        let zipf = Zipf::new(KEYS, 0.99);
        let mut draw = Draw::new(1);
        let mut counts = [0u32; KEYS as usize];
        (0..DRAWS).for_each(|_| counts[zipf.rank(&mut draw) as usize - 1] += 1);
        let total: f64 = (1..=KEYS).map(|rank| (rank as f64).powf(-0.99)).sum();
        // Chi-square over every rank: 999 degrees of freedom, of which 1,150 is exceeded by chance in one of two thousand seeds.
        let chi_square: f64 = (1..=KEYS)
            .map(|rank| {
                let expected = DRAWS as f64 * (rank as f64).powf(-0.99) / total;
                (f64::from(counts[rank as usize - 1]) - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_square < 1_150.0, "{chi_square}");
    }

    #[test]
    fn every_rank_has_a_key_of_its_own_and_neighbours_are_apart() {
        for keys in [1, 2, 7, 1_000, 4_096] {
            let step = spread(keys);
            let mut seen: Vec<u64> = (0..keys).map(|rank| (u128::from(rank) * u128::from(step) % u128::from(keys)) as u64).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len() as u64, keys);
        }
        assert!(spread(1_000_000) > 1_000);
    }
}
