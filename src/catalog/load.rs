use std::sync::atomic::{AtomicUsize, Ordering};

use super::ledger::Census;
use super::pepper::PepperNeeds;
use super::{CatalogError, Counts, Time};
use crate::index::Index;
use crate::key::{Key, PepperId};
use crate::store::{KeyRange, Keys, Store};

/// Threads beyond which publishing, one at a time, is what takes the time.
const MOST_THREADS: usize = 4;

/// Keys that are published at once: few enough that the slots they ask for are still in the cache when they are looked at.
const PUBLISHED_AT_ONCE: usize = 256;

/// What the keys of the store amount to.
pub(super) struct Loaded {
    pub(super) counts: Counts,
    pub(super) census: Census,
    pub(super) needs: PepperNeeds,
    /// The sum of all revisions: as many as there are entries of keys in the history.
    pub(super) revisions: u64,
}

impl Loaded {
    fn new(pepper: PepperId, time: Time, about_keys: usize) -> Loaded {
        let census = Census::new(pepper, time.now, about_keys);
        Loaded { counts: Counts::default(), census, needs: PepperNeeds::default(), revisions: 0 }
    }

    fn add(&mut self, key: &Key, time: Time) {
        self.counts.add(key);
        self.census.add(key);
        self.needs.add(key, time);
        self.revisions = self.revisions.saturating_add(key.revision);
    }

    fn join(mut self, other: Loaded) -> Loaded {
        self.counts.join(&other.counts);
        self.census.join(other.census);
        self.needs.join(other.needs);
        self.revisions += other.revisions;
        self
    }
}

/// Ranges of keys, of which each thread takes the next that nobody has taken.
struct Ranges<'s> {
    store: &'s Store,
    ranges: Vec<KeyRange>,
    taken: AtomicUsize,
}

/// Publishes every key of the store to the index: each thread reads, decodes and publishes a range at a time. The functions were published before.
pub(super) fn load(store: &Store, index: &Index, pepper: PepperId, time: Time) -> Result<Loaded, CatalogError> {
    index.reserve(store.about_keys());
    let ranges = Ranges { store, ranges: store.key_ranges()?, taken: AtomicUsize::new(0) };
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS)).min(ranges.ranges.len());
    let loaded = || Loaded::new(pepper, time, store.about_keys());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(|| ranges.publish(index, time, loaded()))).collect();
        let mut all = ranges.publish(index, time, loaded())?;
        for worker in workers {
            all = all.join(worker.join().map_err(|_| CatalogError::Panicked)??);
        }
        Ok(all)
    })
}

impl Ranges<'_> {
    /// Publishes ranges until none is left, or another thread has failed.
    fn publish(&self, index: &Index, time: Time, mut loaded: Loaded) -> Result<Loaded, CatalogError> {
        while let Some(range) = self.ranges.get(self.taken.fetch_add(1, Ordering::Relaxed)) {
            let mut keys = self.store.keys_in(range);
            loop {
                let published = publish(&mut keys, index, time, &mut loaded);
                if published.is_err() {
                    self.taken.store(self.ranges.len(), Ordering::Relaxed);
                }
                if published? == 0 {
                    break;
                }
            }
        }
        Ok(loaded)
    }
}

/// Publishes the next keys, and tells how many there were.
fn publish(keys: &mut Keys, index: &Index, time: Time, loaded: &mut Loaded) -> Result<usize, CatalogError> {
    let (mut count, mut failed) = (0, None);
    // One key at a time, of which nothing but what the index takes is kept: a piece of memory that was just given back is the next one that is asked for.
    let next = keys.take(PUBLISHED_AT_ONCE).map_while(|key| key.map_err(|error| failed = Some(error)).ok());
    let counted = next.inspect(|key| {
        count += 1;
        loaded.add(key, time);
    });
    index.publish_all(counted).map_err(|(key, holder)| CatalogError::SharedToken { key, holder: holder.0 })?;
    failed.map_or(Ok(count), |error| Err(error.into()))
}
