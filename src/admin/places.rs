//! How many connections there may be at once, and which of them makes room for another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a connection waits for the place of one that was told to go.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many places. Where all are taken, the connection on which nothing is asked for the longest time gives up its own.
pub(super) struct Places {
    free: Arc<Semaphore>,
    stays: Mutex<HashMap<u64, Arc<Stay>>>,
    next: AtomicU64,
    begun: Instant,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    stay: Arc<Stay>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Stay {
    /// A request is being answered.
    busy: AtomicBool,
    /// Since when none is, in milliseconds from the first place on.
    idle_since: AtomicU64,
    told_to_go: AtomicBool,
    go: Notify,
}

/// A request that is being answered, until it is dropped.
pub(super) struct Busy {
    places: Arc<Places>,
    stay: Arc<Stay>,
}

impl Places {
    pub(super) fn new(places: usize) -> Arc<Places> {
        let free = Arc::new(Semaphore::new(places));
        Arc::new(Places { free, stays: Mutex::default(), next: AtomicU64::new(0), begun: Instant::now() })
    }

    /// A place; none if all are taken, and on each of them a request is being answered. `displacing` is called if another has to go for it.
    pub(super) async fn take(self: &Arc<Places>, displacing: impl FnOnce()) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.displace()?;
                displacing();
                tokio::time::timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()?
            }
        };
        let stay = Arc::new(Stay { idle_since: AtomicU64::new(self.now()), ..Stay::default() });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.stays.lock().insert(number, Arc::clone(&stay));
        Some(Place { places: Arc::clone(self), number, stay, _permit: permit })
    }

    /// Tells the connection that is idle longest to go.
    fn displace(&self) -> Option<()> {
        let stays = self.stays.lock();
        let idle = stays.values().filter(|stay| !stay.busy.load(Ordering::Acquire) && !stay.told_to_go.load(Ordering::Relaxed));
        let stay = idle.min_by_key(|stay| stay.idle_since.load(Ordering::Relaxed))?;
        stay.told_to_go.store(true, Ordering::Relaxed);
        stay.go.notify_one();
        Some(())
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

impl Place {
    /// To be held while a request is answered.
    pub(super) fn busy(&self) -> Busy {
        self.stay.busy.store(true, Ordering::Release);
        Busy { places: Arc::clone(&self.places), stay: Arc::clone(&self.stay) }
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.stay.busy.load(Ordering::Acquire)
    }

    /// Waits until another needs the place more.
    pub(super) async fn told_to_go(&self) {
        self.stay.go.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.stays.lock().remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stay.idle_since.store(self.places.now(), Ordering::Relaxed);
        self.stay.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_idle_longest_goes_and_who_is_answered_stays() {
        let places = Places::new(3);
        let never = || panic!("there was room");
        let (first, second, third) =
            (places.take(never).await.unwrap(), places.take(never).await.unwrap(), places.take(never).await.unwrap());
        let busy = first.busy();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(second.busy());
        let leaves = tokio::spawn(async move {
            third.told_to_go().await;
            drop(third);
        });
        let fourth = places.take(|| ()).await.expect("the third's place");
        leaves.await.unwrap();
        let (_second, _fourth) = (second.busy(), fourth.busy());
        assert!(places.take(never).await.is_none(), "all are being answered");
        drop(busy);
    }
}
