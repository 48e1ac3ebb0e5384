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

/// Connections that were told to go and have not gone yet: no more than this for the newcomers of the user with the most, so that whoever comes next does not wait behind a line of them.
const LEAVING: usize = 16;

/// A user and a process of theirs, as the kernel tells them.
pub(super) type Who = (u32, i32);

/// So many places. Where all are taken, a connection of the user with the most gives up its own, and of that user's processes of one with the most, the newcomer counted: the one
/// on which nothing is asked for the longest time. Where on each of these something is asked, it is the longest such, and only for whoever has fewer.
pub(super) struct Places {
    free: Arc<Semaphore>,
    stays: Mutex<HashMap<u64, Arc<Stay>>>,
    next: AtomicU64,
    begun: Instant,
}

/// A place that is free, or soon will be. It counts as taken.
pub(super) struct Claim {
    entry: Entry,
    permit: Option<OwnedSemaphorePermit>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    entry: Entry,
    _permit: OwnedSemaphorePermit,
}

/// A line in the list of who is there, until it is dropped.
struct Entry {
    places: Arc<Places>,
    number: u64,
    stay: Arc<Stay>,
}

struct Stay {
    who: Who,
    /// A request is being answered.
    busy: AtomicBool,
    /// Since when one is, or none is, in milliseconds from the first place on.
    since: AtomicU64,
    told_to_go: AtomicBool,
    /// What is being answered is not waited for.
    at_once: AtomicBool,
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

    /// A place, or that of another, who has to go for it: then `displacing` is called. None if all are taken, and nobody has to go.
    pub(super) fn claim(self: &Arc<Places>, who: Who, displacing: impl FnOnce()) -> Option<Claim> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok();
        if permit.is_none() {
            self.displace(who)?;
            displacing();
        }
        let since = AtomicU64::new(self.now());
        let (busy, told_to_go, at_once) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let stay = Arc::new(Stay { who, busy, since, told_to_go, at_once, go: Notify::new() });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.stays.lock().insert(number, Arc::clone(&stay));
        Some(Claim { entry: Entry { places: Arc::clone(self), number, stay }, permit })
    }

    /// Tells one connection to go.
    fn displace(&self, newcomer: Who) -> Option<()> {
        let stays = self.stays.lock();
        let staying = || stays.values().filter(|stay| !stay.told_to_go.load(Ordering::Relaxed));
        let (mut of_user, mut of_process) = (HashMap::from([(newcomer.0, 1)]), HashMap::from([(newcomer, 1)]));
        for stay in staying() {
            *of_user.entry(stay.who.0).or_insert(0) += 1;
            *of_process.entry(stay.who).or_insert(0) += 1;
        }
        let (user, _) = of_user.iter().max_by_key(|(user, count)| (**count, **user == newcomer.0))?;
        if *user == newcomer.0 && stays.len() - staying().count() >= LEAVING {
            return None;
        }
        let most = of_process.iter().filter(|((of, _), _)| of == user).map(|(_, count)| *count).max()?;
        let has_fewer = of_user[&newcomer.0] < of_user[user] || of_process[&newcomer] < most;
        let theirs = staying().filter(|stay| stay.who.0 == *user && of_process[&stay.who] == most);
        let candidates = theirs.map(|stay| (stay.busy.load(Ordering::Acquire), stay.since.load(Ordering::Relaxed), stay));
        let (is_busy, _, stay) = candidates.min_by_key(|(is_busy, since, _)| (*is_busy, *since))?;
        if is_busy {
            if !has_fewer {
                return None;
            }
            stay.at_once.store(true, Ordering::Relaxed);
        }
        stay.told_to_go.store(true, Ordering::Relaxed);
        stay.go.notify_one();
        Some(())
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

impl Claim {
    /// The place, once it is free. None if that takes too long, or another is to have it: else those of one user, who tell each other to go, would make a line of a thousand
    /// before whoever comes next.
    pub(super) async fn place(self) -> Option<Place> {
        let Claim { entry, permit } = self;
        let free = Arc::clone(&entry.places.free);
        let _permit = match permit {
            Some(permit) => permit,
            None => tokio::select! {
                permit = free.acquire_owned() => permit.ok()?,
                () = entry.stay.go.notified() => return None,
                () = tokio::time::sleep(PATIENCE) => return None,
            },
        };
        Some(Place { entry, _permit })
    }
}

impl Place {
    /// To be held while a request is answered.
    pub(super) fn busy(&self) -> Busy {
        let Entry { places, stay, .. } = &self.entry;
        stay.since.store(places.now(), Ordering::Relaxed);
        stay.busy.store(true, Ordering::Release);
        Busy { places: Arc::clone(places), stay: Arc::clone(stay) }
    }

    /// Whether the request that is being answered is to be answered to its end.
    pub(super) fn may_finish(&self) -> bool {
        self.entry.stay.busy.load(Ordering::Acquire) && !self.entry.stay.at_once.load(Ordering::Relaxed)
    }

    /// Waits until another needs the place more.
    pub(super) async fn told_to_go(&self) {
        self.entry.stay.go.notified().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.places.stays.lock().remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stay.since.store(self.places.now(), Ordering::Relaxed);
        self.stay.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOMEBODY: Who = (5, 50);

    async fn take(places: &Arc<Places>, who: Who) -> Place {
        places.claim(who, || panic!("there is room")).unwrap().place().await.unwrap()
    }

    #[tokio::test]
    async fn who_is_idle_longest_goes_and_who_is_answered_stays() {
        let places = Places::new(3);
        let (first, second, third) = (take(&places, SOMEBODY).await, take(&places, SOMEBODY).await, take(&places, SOMEBODY).await);
        let busy = first.busy();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(second.busy());
        let leaves = tokio::spawn(async move {
            third.told_to_go().await;
            assert!(!third.may_finish());
            drop(third);
        });
        let fourth = places.claim(SOMEBODY, || ()).unwrap().place().await.expect("the third's place");
        leaves.await.unwrap();
        let (_second, _fourth) = (second.busy(), fourth.busy());
        assert!(places.claim(SOMEBODY, || panic!("nobody goes")).is_none(), "all are being answered, and all of one process");
        drop(busy);
    }

    #[tokio::test]
    async fn a_user_with_the_most_makes_no_line_of_those_who_leave() {
        let places = Places::new(40);
        let stays: Vec<Place> = take_all(&places, 40).await;
        let claimed: Vec<Claim> = (0..100).filter_map(|_| places.claim(SOMEBODY, || ())).collect();
        assert_eq!(claimed.len(), LEAVING);
        assert!(places.claim((6, 60), || ()).is_some(), "another user finds room");
        drop(stays);
    }

    async fn take_all(places: &Arc<Places>, count: usize) -> Vec<Place> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(take(places, SOMEBODY).await);
        }
        taken
    }

    /// They waited for a second each, a thousand of them, and whoever came next behind them.
    #[tokio::test]
    async fn who_waits_for_a_place_and_is_told_to_go_waits_no_longer() {
        let places = Places::new(1);
        let stays = take(&places, SOMEBODY).await;
        let first = tokio::spawn(places.claim(SOMEBODY, || ()).unwrap().place());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let second = places.claim(SOMEBODY, || ()).expect("the first makes room, which has only waited");
        let begun = Instant::now();
        assert!(first.await.unwrap().is_none());
        assert!(begun.elapsed() < PATIENCE / 2 && !stays.may_finish());
        drop(stays);
        assert!(second.place().await.is_some());
    }

    /// The user with the most of all, and of that user the process with the most, whoever is answered there for the longest; for whoever has fewer.
    #[tokio::test]
    async fn where_all_are_being_answered_who_has_most_makes_room_for_who_has_fewer() {
        let places = Places::new(4);
        let mut stays = Vec::new();
        for who in [(5, 50), (5, 51), (5, 51), (6, 60)] {
            let place = take(&places, who).await;
            let busy = place.busy();
            stays.push((place, busy));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let refused = |who: Who| places.claim(who, || ()).is_none();
        let told = |number: usize| stays[number].0.entry.stay.told_to_go.load(Ordering::Relaxed);
        assert!(refused((5, 51)), "it has the most itself");
        assert!(!refused((7, 70)));
        assert!(told(1) && !stays[1].0.may_finish() && [0, 2, 3].iter().all(|number| !told(*number)));
        // Now each process of user 5 has one that stays, as has user 6.
        assert!(refused((5, 50)) && refused((6, 60)));
        assert!(refused((6, 61)), "user 6 would have as many as user 5 has");
        assert!(!refused((8, 80)) && [0, 2].iter().filter(|number| told(**number)).count() == 1);
    }
}
