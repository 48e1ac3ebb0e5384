use crate::key::Country;

/// An address as a number, in two halves: the top 16 bits choose a bucket.
pub(super) trait Number: Copy + Ord {
    const ZERO: Self;
    fn bucket(self) -> usize;
    fn first_of(bucket: u16) -> Self;
    /// The number after this one; none after the last.
    fn next(self) -> Option<Self>;
}

impl Number for u32 {
    const ZERO: u32 = 0;
    fn bucket(self) -> usize {
        (self >> 16) as usize
    }
    fn first_of(bucket: u16) -> u32 {
        u32::from(bucket) << 16
    }
    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    const ZERO: u128 = 0;
    fn bucket(self) -> usize {
        (self >> 112) as usize
    }
    fn first_of(bucket: u16) -> u128 {
        u128::from(bucket) << 112
    }
    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }
}

/// Every address of one family, cut into ranges of one country each. A range reaches to the start of the next.
pub(super) struct Ranges<N> {
    /// Ascending; the first is zero.
    starts: Box<[N]>,
    /// Of the range at the same place; none where the database places nothing.
    countries: Box<[Option<Country>]>,
    /// For each bucket, the place of the range that holds its first address.
    buckets: Box<[u32]>,
}

impl<N: Number> Ranges<N> {
    /// The country of an address.
    pub(super) fn of(&self, address: N) -> Option<Country> {
        let bucket = address.bucket();
        let first = self.buckets[bucket] as usize;
        let last = self.buckets.get(bucket + 1).map_or(self.starts.len() - 1, |&next| next as usize);
        // The range at `first` begins at or before the bucket, so only those behind it are in question.
        let behind = self.starts[first + 1..=last].partition_point(|start| *start <= address);
        self.countries[first + behind]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }
}

/// Takes ranges in ascending order and makes the whole of a family of them.
pub(super) struct Builder<N> {
    starts: Vec<N>,
    countries: Vec<Option<Country>>,
    /// The first address that no range has covered yet; none when all are covered.
    next: Option<N>,
}

impl<N: Number> Builder<N> {
    pub(super) fn new() -> Builder<N> {
        Builder { starts: Vec::new(), countries: Vec::new(), next: Some(N::ZERO) }
    }

    /// Adds a range. `None` if it does not lie behind those added before.
    pub(super) fn push(&mut self, first: N, last: N, country: Option<Country>) -> Option<()> {
        let next = self.next.filter(|next| *next <= first && first <= last)?;
        if next < first {
            self.begin(next, None);
        }
        self.begin(first, country);
        self.next = last.next();
        Some(())
    }

    /// Whether a range names a country.
    pub(super) fn names_a_country(&self) -> bool {
        self.countries.iter().any(Option::is_some)
    }

    pub(super) fn build(mut self) -> Ranges<N> {
        if let Some(next) = self.next {
            self.begin(next, None);
        }
        let bucket = |bucket| (self.starts.partition_point(|start| *start <= N::first_of(bucket)) - 1) as u32;
        let buckets = (0..=u16::MAX).map(bucket).collect();
        Ranges { starts: self.starts.into(), countries: self.countries.into(), buckets }
    }

    /// Neighbours of one country become one range.
    fn begin(&mut self, start: N, country: Option<Country>) {
        if self.countries.last() != Some(&country) {
            self.starts.push(start);
            self.countries.push(country);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DE: Option<Country> = Some(Country(*b"DE"));
    const FR: Option<Country> = Some(Country(*b"FR"));

    #[test]
    fn every_edge_of_a_range_is_found() {
        let mut builder = Builder::<u32>::new();
        for (first, last, country) in [(0x0001_0005, 0x0001_0009, DE), (0x0001_000a, 0x0003_ffff, FR), (0xffff_fffe, 0xffff_ffff, DE)] {
            builder.push(first, last, country).unwrap();
        }
        let ranges = builder.build();
        for (address, country) in [
            (0, None),
            (0x0001_0004, None),
            (0x0001_0005, DE),
            (0x0001_0009, DE),
            (0x0001_000a, FR),
            (0x0002_8000, FR),
            (0x0003_ffff, FR),
            (0x0004_0000, None),
            (0xffff_fffd, None),
            (0xffff_fffe, DE),
            (0xffff_ffff, DE),
        ] {
            assert_eq!(ranges.of(address), country, "{address:x}");
        }
    }

    #[test]
    fn ranges_out_of_order_are_refused_and_neighbours_are_joined() {
        let mut builder = Builder::<u128>::new();
        builder.push(0, 9, DE).unwrap();
        builder.push(10, u128::MAX, DE).unwrap();
        assert!(builder.push(5, 6, FR).is_none());
        let ranges = builder.build();
        assert_eq!((ranges.len(), ranges.of(u128::MAX)), (1, DE));
    }

    #[test]
    fn no_range_at_all_places_nothing() {
        let ranges = Builder::<u32>::new().build();
        assert_eq!((ranges.len(), ranges.of(0), ranges.of(u32::MAX)), (1, None, None));
    }
}
