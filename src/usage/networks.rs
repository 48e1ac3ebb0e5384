use std::collections::HashMap;

use super::live::Live;
use crate::key::{KeyId, limits};

/// How many networks of each key have rows of their own in a table: no caller fills the table by coming from everywhere.
#[derive(Default)]
pub(super) struct Networks(HashMap<KeyId, usize, ahash::RandomState>);

impl Networks {
    /// As a table has them.
    pub(super) fn of(live: &Live) -> Networks {
        let mut networks = Networks::default();
        for row in live.taken().iter().map(|&place| live.row(place)).filter(|row| row.is_network()) {
            *networks.0.entry(row.key()).or_default() += 1;
        }
        networks
    }

    /// Counts one more, if the key may have it.
    pub(super) fn add(&mut self, key: KeyId) -> bool {
        let count = self.0.entry(key).or_default();
        let may = *count < limits::NETWORKS_REMEMBERED;
        *count += usize::from(may);
        may
    }
}
