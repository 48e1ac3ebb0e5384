use std::net::IpAddr;

use super::live::Live;
use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};

/// A table in which nothing is counted any more, on its way to the store. Its rows have an order that is the same for whoever finds it after a kill;
/// so what is written of it is one number.
pub struct Frozen {
    pub(super) live: Live,
    /// The rows in the order in which they are written: by bucket, by ten minutes, by key, then by the rest.
    order: Vec<Ordered>,
    written: usize,
}

/// What the order of a row is told by nearly always, beside its place.
#[derive(Clone, Copy, Default)]
pub(super) struct Ordered {
    /// The id as a number of the same order.
    key: u128,
    /// Of [`MINUTES_TOGETHER`] minutes.
    period: u32,
    place: u32,
}

/// Minutes whose rows stand together. The store's rows span as many.
pub const MINUTES_TOGETHER: u32 = 10;
/// Buckets of keys.
const BUCKETS: usize = 1 << u8::BITS;

/// How much of what was counted is in the store. To be written there together with the rows that it tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// The table, by its generation: all before it are written whole.
    pub generation: u64,
    /// Rows of it, in their order.
    pub rows: u64,
}

/// Verifies of one kind within one minute; or, with a count of 0, only that a key was used from a network, in the ten minutes that begin with that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The key; [`KeyId::NONE`] for tokens that no key has.
    pub key: KeyId,
    /// Minutes since 1970-01-01T00:00:00Z.
    pub minute: u32,
    /// The version of its secret.
    pub version: u16,
    /// The function.
    pub function: FunctionId,
    /// The verdict.
    pub verdict: Verdict,
    /// The country.
    pub country: Option<Country>,
    /// How many.
    pub count: u64,
    /// When the last of them was.
    pub last_at: Instant,
    /// From where the last of them came.
    pub last_address: Option<IpAddr>,
    /// Whether some came from other networks that no row tells of, since there was no room.
    pub missed_networks: bool,
}

impl From<Ordered> for u32 {
    fn from(row: Ordered) -> u32 {
        row.place
    }
}

impl Frozen {
    /// `written` rows are in the store.
    pub(super) fn new(live: Live, written: usize) -> Frozen {
        Frozen { live, order: Vec::new(), written }
    }

    /// The table, and memory for the order of the next.
    pub(super) fn into_parts(self) -> (Live, Vec<Ordered>) {
        (self.live, self.order)
    }

    /// Puts the rows into their order: first into their buckets, which then are sorted each for itself, in the processor's cache. What stands in `memory` is overwritten.
    pub(super) fn sort(&mut self, memory: Vec<Ordered>) {
        self.order = memory;
        let Frozen { live, order, .. } = self;
        let places = live.taken();
        let buckets: Vec<u8> = live.rows_of(places).map(|row| row.key().bucket()).collect();
        let mut ends = [0; BUCKETS];
        for &bucket in &buckets {
            ends[usize::from(bucket)] += 1;
        }
        let (mut begins, mut begin) = ([0; BUCKETS], 0);
        for (first, end) in begins.iter_mut().zip(&mut ends) {
            *first = begin;
            begin += *end;
            *end = begin;
        }
        let mut next = begins;
        order.resize(places.len(), Ordered::default());
        for ((row, &place), bucket) in live.rows_of(places).zip(places).zip(buckets) {
            let next = &mut next[usize::from(bucket)];
            order[*next] = Ordered { key: u128::from_be_bytes(row.key().0), period: row.minute() / MINUTES_TOGETHER, place };
            *next += 1;
        }
        for (begin, end) in begins.into_iter().zip(ends) {
            order[begin..end].sort_unstable_by(|a, b| {
                let first = (a.period, a.key).cmp(&(b.period, b.key));
                first.then_with(|| live.row(a.place).order().cmp(&live.row(b.place).order()))
            });
        }
    }

    /// Rows that are not written yet.
    pub fn left(&self) -> usize {
        self.order.len() - self.written.min(self.order.len())
    }

    /// So many rows, or some fewer, so that what is to be written as one is not cut: if that leaves half of them.
    pub fn whole(&self, most: usize) -> usize {
        let next = &self.order[self.written.min(self.order.len())..];
        let Some(beyond) = next.get(most) else { return next.len() };
        let bucket = |row: &Ordered| KeyId(row.key.to_be_bytes()).bucket();
        let together = |row: &&Ordered| row.period == beyond.period && bucket(row) == bucket(beyond);
        let cut = next[..most].iter().rev().take_while(together).count();
        if most - cut >= most / 2 { most - cut } else { most }
    }

    /// The next rows to write.
    pub fn next(&self, most: usize) -> impl Iterator<Item = Row> {
        let next = &self.order[self.written.min(self.order.len())..];
        self.live.rows_of(next).take(most).map(|slot| {
            let row = Row {
                key: slot.key(),
                minute: slot.minute(),
                version: slot.version(),
                function: slot.function(),
                verdict: slot.verdict(),
                country: slot.country(),
                count: slot.count,
                last_at: slot.last_at(),
                last_address: slot.address(),
                missed_networks: slot.has_missed(),
            };
            // A network stands there in the place of what a count is of.
            if slot.is_network() { Row { version: 0, function: FunctionId::OTHER, country: None, count: 0, ..row } } else { row }
        })
    }

    /// What the store has to know once so many more rows are in it.
    pub fn after(&self, rows: usize) -> Written {
        Written { generation: self.live.generation(), rows: (self.written + rows) as u64 }
    }

    /// Notes that the store has so many more rows.
    pub fn were_written(&mut self, rows: usize) {
        self.written += rows;
    }
}
