use std::net::IpAddr;

use ahash::AHashMap;

use super::table::Slot;
use crate::key::{Country, FunctionId, Instant, KeyId, Network, Verdict};

/// What was counted between two drains.
#[derive(Debug, Default)]
pub struct Drained {
    /// Verifies by key, secret, function and verdict.
    pub counts: AHashMap<Count, u64>,
    /// Verifies by key and country; none where the country is not known.
    pub countries: AHashMap<(KeyId, Option<Country>), u64>,
    /// The last use of each secret: key and version.
    pub last_uses: AHashMap<(KeyId, u16), LastUse>,
    /// When each key was last used from which network. Of the addresses that one row of the counters saw, only the last is known.
    pub networks: AHashMap<(KeyId, Network), Instant>,
    /// Verifies in `counts` under [`FunctionId::OTHER`], and in `countries` under none, because the counters were full.
    pub folded: u64,
    /// Verifies that found no room, here or in the counters.
    pub lost: u64,
}

/// What a count is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count {
    /// The key; [`KeyId::NONE`] for tokens that no key has.
    pub key: KeyId,
    /// The version of its secret.
    pub version: u16,
    /// The function.
    pub function: FunctionId,
    /// The verdict.
    pub verdict: Verdict,
}

/// The last use of a secret, whatever the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub at: Instant,
    /// From where.
    pub address: Option<IpAddr>,
    /// And from which country.
    pub country: Option<Country>,
}

impl Drained {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Adds a row of a table.
    pub(super) fn take(&mut self, slot: &Slot) {
        let count = Count { key: slot.key(), version: slot.version(), function: slot.function(), verdict: slot.verdict() };
        *self.counts.entry(count).or_default() += slot.count;
        *self.countries.entry((count.key, slot.country())).or_default() += slot.count;
        if count.key == KeyId::NONE {
            return;
        }
        let last = LastUse { at: slot.last_at(), address: slot.address(), country: slot.country() };
        self.use_last((count.key, count.version), last);
        if let Some(address) = last.address {
            self.use_network((count.key, Network::around(address)), last.at);
        }
    }

    /// Adds what was drained later.
    pub fn absorb(&mut self, later: Drained) {
        self.absorb_within(later, usize::MAX);
    }

    /// Adds what was drained later, but takes no new row once there are `rows`: what that leaves out is lost.
    pub fn absorb_within(&mut self, later: Drained, rows: usize) {
        self.folded += later.folded;
        self.lost += later.lost;
        for (count, number) in later.counts {
            let full = self.counts.len() >= rows;
            match self.counts.get_mut(&count) {
                Some(sum) => *sum += number,
                None if full => self.lost += number,
                None => drop(self.counts.insert(count, number)),
            }
        }
        let full = self.counts.len() >= rows;
        for (country, number) in later.countries {
            if !full || self.countries.contains_key(&country) {
                *self.countries.entry(country).or_default() += number;
            }
        }
        for (secret, last) in later.last_uses {
            if !full || self.last_uses.contains_key(&secret) {
                self.use_last(secret, last);
            }
        }
        for (network, at) in later.networks {
            if !full || self.networks.contains_key(&network) {
                self.use_network(network, at);
            }
        }
    }

    fn use_last(&mut self, secret: (KeyId, u16), last: LastUse) {
        let known = self.last_uses.entry(secret).or_insert(last);
        if last.at > known.at {
            *known = last;
        }
    }

    fn use_network(&mut self, network: (KeyId, Network), at: Instant) {
        let known = self.networks.entry(network).or_insert(at);
        *known = at.max(*known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_a_limit_and_the_rest_is_known_to_be_lost() {
        let row = |function| Count { key: KeyId([1; 16]), version: 1, function: FunctionId(function), verdict: Verdict::Ok };
        let drained = |functions: [u16; 2]| Drained { counts: functions.map(|function| (row(function), 5)).into(), ..Drained::default() };
        let mut kept = drained([2, 3]);
        kept.absorb_within(drained([3, 4]), 2);
        assert_eq!((kept.counts[&row(2)], kept.counts[&row(3)], kept.counts.len(), kept.lost), (5, 10, 2, 5));
    }
}
