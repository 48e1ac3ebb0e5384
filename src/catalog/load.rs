use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use parking_lot::Mutex;

use super::pepper::PepperNeeds;
use super::{CatalogError, Counts};
use crate::index::Index;
use crate::key::{Instant, Key, KeyId};
use crate::store::Store;

/// Bytes of records that are handed to a decoding thread at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait, which bounds the memory of a start.
const CHUNKS: usize = 8;
/// Threads beyond which publishing, one at a time, is what takes the time.
const MOST_THREADS: usize = 4;

/// What the keys of the store amount to.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) counts: Counts,
    pub(super) needs: PepperNeeds,
}

/// Records of keys, one behind the other.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Each key's id, and where its record ends.
    ends: Vec<(KeyId, usize)>,
}

/// Publishes every key of the store to the index: one thread reads, the others decode. The functions were published before.
pub(super) fn load(store: &Store, index: &Index, now: Instant) -> Result<Loaded, CatalogError> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
    let (chunks, waiting) = sync_channel::<Chunk>(CHUNKS);
    let waiting = Mutex::new(waiting);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| publish_chunks(&waiting, index, now, &failed))).collect();
        let mut chunk = Chunk::default();
        let read = store.each_key_record(|id, record| {
            chunk.bytes.extend_from_slice(record);
            chunk.ends.push((id, chunk.bytes.len()));
            if chunk.bytes.len() >= CHUNK_BYTES && chunks.send(std::mem::take(&mut chunk)).is_err() {
                return false;
            }
            !failed.load(Ordering::Relaxed)
        });
        let sent = chunks.send(chunk);
        drop(chunks);
        let mut loaded = Loaded::default();
        for worker in workers {
            let part = worker.join().map_err(|_| CatalogError::Panicked)??;
            loaded.counts.join(&part.counts);
            loaded.needs.join(part.needs);
        }
        read?;
        sent.map_err(|_| CatalogError::Panicked)?;
        Ok(loaded)
    })
}

fn publish_chunks(waiting: &Mutex<Receiver<Chunk>>, index: &Index, now: Instant, failed: &AtomicBool) -> Result<Loaded, CatalogError> {
    let mut loaded = Loaded::default();
    let mut outcome = Ok(());
    loop {
        let received = waiting.lock().recv();
        let Ok(chunk) = received else { break };
        // After a failure the chunks are still taken, so that the reader never waits for room.
        if outcome.is_ok() && !failed.load(Ordering::Relaxed) {
            outcome = publish_chunk(&chunk, index, now, &mut loaded);
            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        }
    }
    outcome.map(|()| loaded)
}

fn publish_chunk(chunk: &Chunk, index: &Index, now: Instant, loaded: &mut Loaded) -> Result<(), CatalogError> {
    let mut start = 0;
    for &(id, end) in &chunk.ends {
        let key: Key = Store::decode_key(id, &chunk.bytes[start..end])?;
        start = end;
        index.publish(&key).map_err(|holder| CatalogError::SharedToken { key: id, holder: holder.0 })?;
        loaded.counts.add(&key);
        loaded.needs.add(&key, now);
    }
    Ok(())
}
