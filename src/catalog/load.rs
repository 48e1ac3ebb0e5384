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
    fn new(pepper: PepperId, time: Time) -> Loaded {
        Loaded { counts: Counts::default(), census: Census::new(pepper, time.now), needs: PepperNeeds::default(), revisions: 0 }
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
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| ranges.publish(index, pepper, time))).collect();
        let mut loaded = Loaded::new(pepper, time);
        for worker in workers {
            let part = worker.join().map_err(|_| CatalogError::Panicked)??;
            loaded.counts.join(&part.counts);
            loaded.census.join(part.census);
            loaded.needs.join(part.needs);
            loaded.revisions += part.revisions;
        }
        Ok(loaded)
    })
}

impl Ranges<'_> {
    /// Publishes ranges until none is left, or another thread has failed.
    fn publish(&self, index: &Index, pepper: PepperId, time: Time) -> Result<Loaded, CatalogError> {
        let mut loaded = Loaded::new(pepper, time);
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
    let keys: Vec<Key> = keys.take(PUBLISHED_AT_ONCE).collect::<Result<_, _>>()?;
    index.publish_all(&keys).map_err(|(key, holder)| CatalogError::SharedToken { key, holder: holder.0 })?;
    for key in &keys {
        loaded.counts.add(key);
        loaded.census.add(key);
        loaded.needs.add(key, time);
        loaded.revisions = loaded.revisions.saturating_add(key.revision);
    }
    Ok(keys.len())
}
