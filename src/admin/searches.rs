//! Whose turn it is to read much of the store.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Searches of one user that run at once.
pub(super) const SEARCHES: usize = 2;

/// The turns of each user who searches, or waits.
#[derive(Default)]
pub(super) struct Searches(Mutex<HashMap<u32, Arc<Semaphore>>>);

impl Searches {
    /// Waits for this user's turn, which ends when it is dropped. Other users do not make it longer.
    pub(super) async fn turn(&self, uid: u32) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut users = self.0.lock();
            users.retain(|_, turns| Arc::strong_count(turns) > 1);
            Arc::clone(users.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(SEARCHES))))
        };
        turns.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether it is that user's turn at once.
    async fn is_next(searches: &Searches, uid: u32) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(Duration::from_millis(1), searches.turn(uid)).await.ok().flatten()
    }

    #[tokio::test]
    async fn a_user_waits_for_their_own_searches_alone() {
        let searches = Searches::default();
        let mut running = Vec::new();
        for _ in 0..SEARCHES {
            running.push(is_next(&searches, 7).await.expect("a turn"));
        }
        assert!(is_next(&searches, 7).await.is_none());
        assert!(is_next(&searches, 8).await.is_some());
        running.pop();
        assert!(is_next(&searches, 7).await.is_some());
        drop(running);
        assert!(is_next(&searches, 10).await.is_some());
        assert_eq!(searches.0.lock().len(), 1, "who does not search is forgotten");
    }
}
