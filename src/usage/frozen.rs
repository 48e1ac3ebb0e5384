use std::net::IpAddr;

use super::live::Live;
use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};

/// A table in which nothing is counted any more, on its way to the store. Its rows have an order, by key first, that is the same for whoever finds
/// it after a kill; so what is written of it is one number.
pub struct Frozen {
    pub(super) live: Live,
    /// Keys and places, in the order in which rows are written.
    order: Vec<(u128, u32)>,
    written: usize,
}

/// How much of what was counted is in the store. To be written there together with the rows that it tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// The table, by its generation: all before it are written whole.
    pub generation: u64,
    /// Rows of it, in their order.
    pub rows: u64,
}

/// Verifies of one kind within one minute.
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
}

impl Frozen {
    /// `written` rows are in the store.
    pub(super) fn new(live: Live, written: usize) -> Frozen {
        Frozen { live, order: Vec::new(), written }
    }

    /// Puts the rows into their order.
    pub(super) fn sort(&mut self) {
        let taken = self.live.taken().iter();
        self.order = taken.map(|&place| (u128::from_be_bytes(self.live.row(place).key().0), place)).collect();
        let live = &self.live;
        self.order.sort_unstable_by(|(a, at), (b, bt)| a.cmp(b).then_with(|| live.row(*at).order().cmp(&live.row(*bt).order())));
    }

    /// Rows that are not written yet.
    pub fn left(&self) -> usize {
        self.order.len() - self.written.min(self.order.len())
    }

    /// The next rows to write, by key.
    pub fn next(&self, most: usize) -> impl Iterator<Item = Row> {
        let next = &self.order[self.written.min(self.order.len())..];
        next.iter().take(most).map(|&(_, place)| {
            let slot = self.live.row(place);
            Row {
                key: slot.key(),
                minute: slot.minute(),
                version: slot.version(),
                function: slot.function(),
                verdict: slot.verdict(),
                country: slot.country(),
                count: slot.count,
                last_at: slot.last_at(),
                last_address: slot.address(),
            }
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
