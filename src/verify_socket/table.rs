//! All open connections and who is behind them: who stays, who is cut, and who makes room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::peer::{Alarm, FREE_MISSES, Peer};
use super::users::Users;
use super::{End, Refusal};
use crate::clock::Rate;

/// How long a connection must have been idle to make room for another, in milliseconds.
const IDLE_MS: u64 = 100;
/// How long one must have been answered without an end: it does not take its answers.
const UNREAD_MS: u64 = 1_000;
/// Connections that were told to make room and have not ended yet: so many are open beyond the limit, for the moment that it takes; and at most twice as many, by newcomers whose
/// user has no other among them.
const LEAVING: usize = 64;
/// So many beyond the limit are open at most.
pub(super) const MOST_LEAVING: usize = 2 * LEAVING;
/// How many of them for the newcomers of one user: where it is another user's that makes room, where it is one of their own user, and where it is one of their own process.
const LEAVING_FOR_USER: usize = 32;
const LEAVING_OF_USER: usize = 16;
const LEAVING_OF_PROCESS: usize = 8;
/// Connections of all processes of a user of whose tokens no key has any: making a process for each connection gains nothing. What turns out to be another's is given back.
const OF_USER: Rate = Rate { at_once: FREE_MISSES, a_second: 1_000 };
/// How long a peer without connections is remembered, in milliseconds, so that it cannot make itself new by connecting anew; and how many of them.
const REMEMBERED_MS: u64 = 60_000;
const REMEMBERED: usize = 4_096;

/// A connection, as others see it.
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) peer: Arc<Peer>,
    /// Since when (milliseconds of uptime) it is at what: see [`Phase`]. Only who serves it writes.
    stamp: AtomicU64,
    /// Why it was cut: the number of an [`End`] and one, or 0.
    cut: AtomicU8,
    /// Wakes it where it is held back.
    pub(super) alarm: Alarm,
    /// The user for whose newcomer it was told to make room.
    makes_room_for: OnceLock<u32>,
    /// It counts among those of its user of whose tokens no key has any.
    is_counted: bool,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was asked that is not answered.
    Idle,
    /// It is in the middle of a frame, or has not shaken hands.
    Pending,
    /// It is being answered, or does not take its answers.
    Answering,
    /// Its answers are held back, since its peer only misses.
    HeldBack,
}

/// What the reaper cuts, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) stuck_ms: u64,
    pub(super) idle_ms: Option<u64>,
}

/// Open connections and their peers.
#[derive(Default)]
pub(super) struct Table {
    pub(super) users: Users,
    open: HashMap<u64, Arc<Connection>>,
    peers: HashMap<(u32, i32), Known>,
    leaving: usize,
    /// The same by the user of the newcomer.
    leaving_for: HashMap<u32, usize>,
    /// Until when the connections of a user are paid for, of whose processes' tokens no key has any: see [`OF_USER`].
    paid_until: HashMap<u32, u64>,
}

struct Known {
    peer: Arc<Peer>,
    connections: usize,
    /// When its last connection ended.
    left_at: u64,
}

impl Known {
    /// With its first connection, which counts like those that follow.
    fn new(peer: Peer, uptime: u64) -> Known {
        peer.connects_too_often(uptime * 1_000);
        Known { peer: Arc::new(peer), connections: 0, left_at: 0 }
    }
}

impl Connection {
    /// Notes what it is at, since when.
    #[inline]
    pub(super) fn mark(&self, since: u64, phase: Phase) {
        self.stamp.store(since << 2 | phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> (u64, Phase) {
        let stamp = self.stamp.load(Ordering::Relaxed);
        let phase = [Phase::Idle, Phase::Pending, Phase::Answering, Phase::HeldBack][(stamp & 3) as usize];
        (stamp >> 2, phase)
    }

    /// Why it was cut, if it was.
    pub(super) fn cut_for(&self) -> Option<End> {
        End::ALL.get(usize::from(self.cut.load(Ordering::Relaxed)).wrapping_sub(1)).copied()
    }

    /// Cuts it for this reason, if it was not before. Who serves it finds that out and ends it.
    fn cut(&self, end: End) -> bool {
        if self.cut.compare_exchange(0, end as u8 + 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        // Of one that owes nothing only the reading side: what has arrived this very moment is still answered. One that is answered makes room only if it takes no answers.
        let owes_nothing = matches!(end, End::Idle | End::Stopping) || end == End::Displaced && self.phase().1 != Phase::Answering;
        let _ = self.stream.shutdown(if owes_nothing { Shutdown::Read } else { Shutdown::Both });
        self.peer.wake(&self.alarm);
        true
    }
}

impl Table {
    pub(super) fn new(users: Users) -> Table {
        Table { users, ..Table::default() }
    }

    /// Names other users, and cuts those who are not named any more.
    pub(super) fn name_users(&mut self, named: Vec<u32>) {
        self.users.name(named);
        let forbidden = self.open.values().filter(|connection| !self.users.may_ask(connection.peer.uid));
        forbidden.for_each(|connection| _ = connection.cut(End::Forbidden));
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a connection in, where there are fewer than `limit`, or another makes room, and its peer does not flood. Else it is given back.
    pub(super) fn admit(
        &mut self,
        number: u64,
        stream: UnixStream,
        (uid, pid): (u32, i32),
        uptime: u64,
        limit: usize,
    ) -> Result<Arc<Connection>, (UnixStream, Refusal)> {
        if self.peers.get(&(uid, pid)).is_some_and(|known| known.peer.connects_too_often(uptime * 1_000)) {
            return Err((stream, Refusal::Throttled));
        }
        let is_counted = !self.peers.get(&(uid, pid)).is_some_and(|known| known.peer.has_hit());
        let paid_until = is_counted.then(|| OF_USER.one_more(self.paid_until.get(&uid).copied(), uptime * 1_000));
        if paid_until == Some(None) {
            return Err((stream, Refusal::Throttled));
        }
        if self.open.len() - self.leaving >= limit && !self.make_room((uid, pid), uptime) {
            return Err((stream, Refusal::Limit));
        }
        if let Some(Some(until)) = paid_until {
            self.paid_until.insert(uid, until);
        }
        let known = self.peers.entry((uid, pid)).or_insert_with(|| Known::new(Peer::new(uid, pid), uptime));
        known.connections += 1;
        let peer = Arc::clone(&known.peer);
        let (stamp, cut, alarm, makes_room_for) = (AtomicU64::new(0), AtomicU8::new(0), Alarm::default(), OnceLock::new());
        let connection = Connection { stream, peer, stamp, cut, alarm, makes_room_for, is_counted };
        connection.mark(uptime, Phase::Pending);
        let connection = Arc::new(connection);
        self.open.insert(number, Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection has ended.
    pub(super) fn remove(&mut self, number: u64, uptime: u64) {
        let Some(connection) = self.open.remove(&number) else { return };
        if let Some(newcomer) = connection.makes_room_for.get() {
            self.leaving -= 1;
            if let Entry::Occupied(mut count) = self.leaving_for.entry(*newcomer) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if connection.is_counted
            && connection.peer.has_hit()
            && let Some(until) = self.paid_until.get_mut(&connection.peer.uid)
        {
            *until = until.saturating_sub(OF_USER.price_us());
        }
        if let Some(known) = self.peers.get_mut(&(connection.peer.uid, connection.peer.pid)) {
            known.connections -= 1;
            known.left_at = uptime;
        }
    }

    /// Cuts everyone for this reason.
    pub(super) fn cut_all(&self, end: End) {
        self.open.values().for_each(|connection| _ = connection.cut(end));
    }

    /// Lets nobody read or write any more, whatever was said before.
    pub(super) fn shut_all(&self) {
        self.open.values().for_each(|connection| drop(connection.stream.shutdown(Shutdown::Both)));
    }

    /// Cuts who is stuck or idle for too long, and forgets peers that are gone.
    pub(super) fn reap(&mut self, uptime: u64, patience: Patience) {
        for connection in self.open.values() {
            let (since, phase) = connection.phase();
            let lasted = uptime.saturating_sub(since);
            let end = match phase {
                Phase::Pending => (lasted >= patience.stuck_ms).then_some(End::Stuck),
                Phase::Answering => (lasted >= patience.stuck_ms).then_some(End::Unread),
                Phase::HeldBack => None,
                Phase::Idle => patience.idle_ms.is_some_and(|most| lasted >= most).then_some(End::Idle),
            };
            end.map(|end| connection.cut(end));
        }
        self.paid_until.retain(|_, until| *until > uptime * 1_000);
        self.peers.retain(|_, known| known.connections > 0 || uptime.saturating_sub(known.left_at) < REMEMBERED_MS);
        if self.peers.len() > REMEMBERED {
            self.peers.retain(|_, known| known.connections > 0);
        }
    }

    /// Cuts a connection for the newcomer's, unless too many for its like have not ended yet. Whether one was cut.
    fn make_room(&mut self, newcomer: (u32, i32), uptime: u64) -> bool {
        let for_user = self.leaving_for.get(&newcomer.0).copied().unwrap_or(0);
        if self.leaving >= if for_user == 0 { MOST_LEAVING } else { LEAVING } || for_user >= LEAVING_FOR_USER {
            return false;
        }
        let Some(connection) = self.who_makes_room(newcomer, uptime) else { return false };
        let most = match (connection.peer.uid == newcomer.0, connection.peer.pid == newcomer.1) {
            (true, true) => LEAVING_OF_PROCESS,
            (true, false) => LEAVING_OF_USER,
            _ => LEAVING_FOR_USER,
        };
        if for_user >= most || !connection.cut(End::Displaced) {
            return false;
        }
        let _ = connection.makes_room_for.set(newcomer.0);
        self.leaving += 1;
        *self.leaving_for.entry(newcomer.0).or_default() += 1;
        true
    }

    /// Of the user with the most connections the process with the most, the newcomer counted: the one of these that is in the middle of a frame for the
    /// longest, held back, or does not take its answers, else the one that is idle for the longest. One that was used a moment ago only where the newcomer's process
    /// has few, and one that came a moment ago only where its user has.
    fn who_makes_room(&self, newcomer: (u32, i32), uptime: u64) -> Option<&Connection> {
        let here = self.peers.iter().filter(|(_, known)| known.connections > 0);
        let mut of_process: HashMap<(u32, i32), usize> = here.map(|(who, known)| (*who, known.connections)).collect();
        *of_process.entry(newcomer).or_default() += 1;
        let mut of_user: HashMap<u32, usize> = HashMap::new();
        of_process.iter().for_each(|((uid, _), connections)| *of_user.entry(*uid).or_default() += connections);
        let (user, of_heaviest) = of_user.iter().max_by_key(|(uid, connections)| (**connections, **uid == newcomer.0))?;
        let of_this_user = of_process.iter().filter(|((uid, _), _)| uid == user);
        let (heaviest, most) = of_this_user.max_by_key(|(who, connections)| (**connections, **who == newcomer))?;
        let idle_ms = if of_process[&newcomer] * 2 <= *most { 0 } else { IDLE_MS };
        let pending_ms = if of_user[&newcomer.0] * 2 <= *of_heaviest { 0 } else { IDLE_MS };
        let theirs = self.open.values().filter(|connection| (connection.peer.uid, connection.peer.pid) == *heaviest);
        let candidates = theirs.filter(|connection| connection.cut_for().is_none()).filter_map(|connection| {
            let (since, phase) = connection.phase();
            let least_ms = match phase {
                Phase::Idle | Phase::HeldBack => idle_ms,
                Phase::Pending => pending_ms,
                Phase::Answering => UNREAD_MS,
            };
            (since + least_ms <= uptime).then_some((phase == Phase::Idle, since, connection))
        });
        candidates.min_by_key(|(is_idle, since, _)| (*is_idle, *since)).map(|(_, _, connection)| &**connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 4;

    /// A full table: two connections of the process 1, of another user's process 2 one, and one of its process 3. All idle, since 10, 20, 30, 40.
    fn full() -> Table {
        let mut table = Table::default();
        for (number, who) in [(1, (5, 1)), (2, (5, 1)), (3, (6, 2)), (4, (6, 3))] {
            let connection = table.admit(number, stream(), who, 0, LIMIT).ok().unwrap();
            connection.mark(number * 10, Phase::Idle);
        }
        table
    }

    fn stream() -> UnixStream {
        UnixStream::pair().unwrap().0
    }

    fn cut(table: &Table) -> Vec<(u64, End)> {
        let mut cut: Vec<_> = table.open.iter().filter_map(|(number, connection)| Some((*number, connection.cut_for()?))).collect();
        cut.sort_by_key(|(number, _)| *number);
        cut
    }

    #[test]
    fn the_process_with_the_most_makes_room_with_what_it_needs_least() {
        // Who comes counts: user 5 has most by then, or 6; of that user the process with most, or whoever comes.
        for (newcomer, number) in [((5, 1), 1), ((6, 2), 3), ((6, 3), 4)] {
            let mut table = full();
            assert!(table.admit(9, stream(), newcomer, 1_000, LIMIT).is_ok());
            assert_eq!(cut(&table), [(number, End::Displaced)], "{newcomer:?}");
            assert_eq!(table.len(), LIMIT + 1);
            table.remove(number, 1_000);
            assert_eq!((table.len(), table.leaving), (LIMIT, 0));
        }
        // In the middle of a frame goes before idle, and who is being answered never.
        let mut table = full();
        table.open[&2].mark(500, Phase::Pending);
        assert!(table.admit(9, stream(), (5, 1), 1_000, LIMIT).is_ok());
        assert_eq!(cut(&table), [(2, End::Displaced)]);
        let mut table = full();
        table.open[&2].mark(500, Phase::HeldBack);
        assert!(table.admit(9, stream(), (5, 9), 1_000, LIMIT).is_ok());
        assert_eq!(cut(&table), [(2, End::Displaced)]);
        let mut table = full();
        table.open[&1].mark(900, Phase::Answering);
        table.open[&2].mark(900, Phase::Answering);
        assert!(table.admit(9, stream(), (5, 1), 1_000, LIMIT).is_err());
        assert!(cut(&table).is_empty());
    }

    #[test]
    fn who_was_used_a_moment_ago_makes_room_only_for_who_has_few() {
        let mut table = Table::default();
        for number in 0..4 {
            table.admit(number, stream(), (5, 1), 0, LIMIT).ok().unwrap().mark(1_000 + number, Phase::Idle);
        }
        assert!(table.admit(9, stream(), (5, 1), 1_050, LIMIT).is_err());
        assert!(table.admit(9, stream(), (5, 2), 1_050, LIMIT).is_ok());
        assert_eq!(cut(&table), [(0, End::Displaced)]);
    }

    /// Newcomers of one process that kept a full table to itself took all the room for those that have not left yet, so that no other came in.
    #[test]
    fn who_floods_a_full_table_takes_only_a_part_of_the_room_to_leave() {
        let limit = 300;
        let mut table = Table::default();
        for number in 0..limit as u64 {
            table.admit(number, stream(), (5, 1), 0, limit).ok().unwrap().mark(1, Phase::HeldBack);
        }
        let mut number = limit as u64;
        let mut taken = |table: &mut Table, who| {
            (0..100)
                .filter(|_| {
                    number += 1;
                    table.admit(number, stream(), who, 1_000, limit).is_ok()
                })
                .count()
        };
        assert_eq!(taken(&mut table, (5, 1)), LEAVING_OF_PROCESS);
        assert_eq!(taken(&mut table, (5, 2)), LEAVING_OF_USER - LEAVING_OF_PROCESS);
        assert_eq!(taken(&mut table, (5, 3)), 0);
        assert_eq!(taken(&mut table, (6, 4)), LEAVING_FOR_USER);
        assert_eq!(taken(&mut table, (7, 5)), LEAVING - LEAVING_OF_USER - LEAVING_FOR_USER);
        for uid in 100..100 + LEAVING as u32 {
            assert_eq!(taken(&mut table, (uid, 6)), 1, "one for each user");
        }
        assert_eq!(taken(&mut table, (999, 7)), 0);
        assert_eq!(table.leaving, 2 * LEAVING);
        let gone: Vec<u64> = cut(&table).into_iter().map(|(number, _)| number).collect();
        gone.into_iter().for_each(|number| table.remove(number, 1_000));
        assert_eq!((table.leaving, table.leaving_for.len(), table.len()), (0, 0, limit));
        assert_eq!(taken(&mut table, (5, 1)), LEAVING_OF_PROCESS);
    }

    /// A process for each connection has no rate of its own to be held to.
    #[test]
    fn a_user_whose_processes_only_connect_is_held_to_a_rate_and_whose_tokens_are_keys_is_not() {
        let mut table = Table::default();
        let mut taken = |uid: u32, hits: bool| {
            let taken = (0..15_000).filter(|pid| {
                let Ok(connection) = table.admit(1, stream(), (uid, *pid), 1_000, LIMIT) else { return false };
                if hits {
                    connection.peer.hit();
                }
                table.remove(1, 1_000);
                true
            });
            taken.count() as u64
        };
        assert_eq!(taken(5, false), OF_USER.at_once);
        assert_eq!(taken(6, true), 15_000);
        assert_eq!(taken(5, false), 0);
    }

    /// Those of a user who fills the table anew each tenth of a second, or who lets all wait with answers, left nobody who makes room.
    #[test]
    fn who_came_a_moment_ago_or_takes_no_answers_makes_room_for_another_user() {
        let mut table = Table::default();
        for number in 0..4 {
            table.admit(number, stream(), (5, number as i32), 1_000, LIMIT).ok().unwrap();
        }
        assert!(table.admit(8, stream(), (5, 8), 1_000, LIMIT).is_err());
        assert!(table.admit(9, stream(), (6, 1), 1_000, LIMIT).is_ok());
        let mut table = full();
        (1..=4).for_each(|number| table.open[&number].mark(1_000, Phase::Answering));
        assert!(table.admit(9, stream(), (5, 1), 1_000 + UNREAD_MS - 1, LIMIT).is_err());
        assert!(table.admit(9, stream(), (5, 1), 1_000 + UNREAD_MS, LIMIT).is_ok());
        assert_eq!(cut(&table).len(), 1);
    }

    #[test]
    fn the_reaper_cuts_who_is_stuck_and_only_where_it_is_told_who_is_idle() {
        let mut table = full();
        table.open[&2].mark(20, Phase::Pending);
        table.open[&3].mark(30, Phase::Answering);
        let patience = Patience { stuck_ms: 1_000, idle_ms: None };
        table.reap(1_019, patience);
        assert!(cut(&table).is_empty());
        table.reap(1_030, patience);
        assert_eq!(cut(&table), [(2, End::Stuck), (3, End::Unread)]);
        table.reap(9_000, Patience { idle_ms: Some(8_970), ..patience });
        assert_eq!(cut(&table), [(1, End::Idle), (2, End::Stuck), (3, End::Unread)]);
    }

    #[test]
    fn who_is_not_named_any_more_is_cut() {
        let mut table = full();
        table.name_users(vec![5]);
        assert_eq!(cut(&table), [(3, End::Forbidden), (4, End::Forbidden)]);
        assert!(table.users.may_ask(5) && !table.users.may_ask(6));
        table.name_users(vec![]);
        assert!(table.users.may_ask(6));
    }

    #[test]
    fn a_peer_is_remembered_for_a_minute() {
        let mut table = full();
        let patience = Patience { stuck_ms: 1_000, idle_ms: None };
        (1..=4).for_each(|number| table.remove(number, 5_000));
        table.reap(5_000 + REMEMBERED_MS - 1, patience);
        assert_eq!(table.peers.len(), 3);
        table.reap(5_000 + REMEMBERED_MS, patience);
        assert!(table.peers.is_empty());
        for pid in 0..REMEMBERED as i32 + 1 {
            table.admit(7, stream(), (5, pid), 0, LIMIT).ok().unwrap();
            table.remove(7, 0);
        }
        table.reap(0, patience);
        assert!(table.peers.is_empty(), "too many to remember");
    }
}
