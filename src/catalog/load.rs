use std::sync::atomic::{AtomicUsize, Ordering};

use super::pepper::PepperNeeds;
use super::{CatalogError, Counts};
use crate::index::Index;
use crate::key::{Instant, Key};
use crate::store::{KeyRange, Store};

/// Threads beyond which publishing, one at a time, is what takes the time.
const MOST_THREADS: usize = 4;

/// What the keys of the store amount to.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) counts: Counts,
    pub(super) needs: PepperNeeds,
}

/// Ranges of keys, of which each thread takes the next that nobody has taken.
struct Ranges<'s> {
    store: &'s Store,
    ranges: Vec<KeyRange>,
    taken: AtomicUsize,
}

/// Publishes every key of the store to the index: each thread reads, decodes and publishes a range at a time. The functions were published before.
pub(super) fn load(store: &Store, index: &Index, now: Instant) -> Result<Loaded, CatalogError> {
    let ranges = Ranges { store, ranges: store.key_ranges()?, taken: AtomicUsize::new(0) };
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS)).min(ranges.ranges.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| ranges.publish(index, now))).collect();
        let mut loaded = Loaded::default();
        for worker in workers {
            let part = worker.join().map_err(|_| CatalogError::Panicked)??;
            loaded.counts.join(&part.counts);
            loaded.needs.join(part.needs);
        }
        Ok(loaded)
    })
}

impl Ranges<'_> {
    /// Publishes ranges until none is left, or another thread has failed.
    fn publish(&self, index: &Index, now: Instant) -> Result<Loaded, CatalogError> {
        let mut loaded = Loaded::default();
        while let Some(range) = self.ranges.get(self.taken.fetch_add(1, Ordering::Relaxed)) {
            for key in self.store.keys_in(range) {
                let published = key.map_err(CatalogError::from).and_then(|key| publish(&key, index, now, &mut loaded));
                if published.is_err() {
                    self.taken.store(self.ranges.len(), Ordering::Relaxed);
                    published?;
                }
            }
        }
        Ok(loaded)
    }
}

fn publish(key: &Key, index: &Index, now: Instant, loaded: &mut Loaded) -> Result<(), CatalogError> {
    index.publish(key).map_err(|holder| CatalogError::SharedToken { key: key.id, holder: holder.0 })?;
    loaded.counts.add(key);
    loaded.needs.add(key, now);
    Ok(())
}
