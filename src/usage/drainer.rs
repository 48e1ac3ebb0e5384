use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

use super::frozen::{Frozen, MINUTES_TOGETHER};
use super::guesses::Hours;
use super::live::{self, Found, Live};
use super::log::{LANES, Log, Owner, RING, Run};
use super::networks::Networks;
use super::slot::Slot;
use crate::key::KeyId;

/// Events whose rows are asked for before they are needed, so that a miss of one overlaps with those of the others.
const AHEAD: u64 = 32;
/// Places from which a larger table is made before it is needed. A smaller one is there within a few milliseconds.
const PREPARED: usize = live::FEWEST * 4;
/// How long no other try is made after a table could not grow.
const GROW_AGAIN: Duration = Duration::from_secs(1);
/// Tables written one after the other, each four times too large, before one is exchanged for a smaller: a load that comes and goes finds its table.
pub(super) const ROOMY: u32 = 60;

/// Moves events from the rings into rows. There is one, behind a lock.
pub(super) struct Drainer {
    /// The table that is counted in.
    pub(super) live: Live,
    /// The next one, empty; none while it is being written.
    pub(super) spare: Option<Live>,
    /// What a killed process had frozen and not written whole.
    pub(super) left: Option<Frozen>,
    /// An empty table that the next to grow will grow into.
    larger: Option<JoinHandle<io::Result<Live>>>,
    directory: Option<PathBuf>,
    owner: Owner,
    /// Places that a table may have at most.
    pub(super) most: usize,
    /// The minute of the first row of the table.
    base: u32,
    folded: u64,
    lost: u64,
    grow_again_at: Option<Instant>,
    /// Tables written since neither of the two was much too large.
    roomy: u32,
    /// Tokens that nobody has, by network.
    pub(super) guesses: Hours,
    /// How many networks of each key have rows in the table.
    networks: Networks,
    /// Called at each step that a kill could come before.
    #[cfg(test)]
    pub(super) at_step: Option<Box<dyn FnMut() + Send>>,
}

/// How an event was counted.
enum Room {
    Exact(Slot, u32),
    Folded(Slot, u32),
    None,
}

impl Drainer {
    /// A drainer of the table that is counted in, its spare, and what is left to write.
    pub(super) fn new(
        directory: Option<&Path>,
        owner: Owner,
        (live, spare, left): (Live, Option<Live>, Option<Frozen>),
        most: usize,
    ) -> Drainer {
        let base = live.taken().iter().map(|&place| live.row(place)).find(|row| !row.is_network()).map_or(0, Slot::minute);
        let networks = Networks::of(&live);
        Drainer {
            live,
            spare,
            left,
            larger: None,
            directory: directory.map(Path::to_owned),
            owner,
            most,
            base,
            folded: 0,
            lost: 0,
            grow_again_at: None,
            roomy: 0,
            guesses: Hours::default(),
            networks,
            #[cfg(test)]
            at_step: None,
        }
    }

    /// Rows, and places for rows, of the table that is counted in.
    pub(super) fn rows(&self) -> (usize, usize) {
        (self.live.rows(), self.live.places())
    }

    /// Events counted in another row than theirs, and in none.
    pub(super) fn inexact(&self) -> (u64, u64) {
        (self.folded, self.lost)
    }

    /// Whether more than five eighths of the places that there may be are taken, so that the rows should be written without delay.
    pub(super) fn is_crowded(&self) -> bool {
        let places = if self.grow_again_at.is_some() { self.live.places() } else { self.most };
        self.live.rows() > places / 8 * 5
    }

    /// Moves all events that are there.
    pub(super) fn drain(&mut self, log: &Log) {
        for lane in 0..LANES {
            let end = log.end(lane).load(Ordering::Acquire);
            self.drain_lane(log, lane, end);
            self.prepare();
        }
    }

    fn drain_lane(&mut self, log: &Log, lane: usize, end: u64) {
        let ring = log.ring(lane);
        // SAFETY: positions from `drained` to `end` are whole, and nobody writes to them until they are drained.
        let event = |position: u64| unsafe { (*ring.add(position as usize % RING)).as_row() };
        let mut hashes = [0; AHEAD as usize];
        let mut position = log.drained(lane).load(Ordering::Relaxed);
        let mut asked = position;
        while position < end {
            asked = asked.max(position);
            while asked < end.min(position + AHEAD) {
                let hash = event(asked).hash();
                self.live.prefetch(hash);
                hashes[(asked % AHEAD) as usize] = hash;
                asked += 1;
            }
            let mut row = event(position);
            self.guesses.count(&row);
            let mut events = 1;
            while position + events < end {
                let next = event(position + events);
                if !next.same_row(&row) || !next.same_network(&row) && row.key() != KeyId::NONE {
                    break;
                }
                self.guesses.count(&next);
                row.add(&next);
                events += 1;
            }
            let run = Run { lane, from: position, events: events as u32 };
            match self.room(&row, hashes[(position % AHEAD) as usize]) {
                Room::None => {
                    self.lost += events;
                    log.drained(lane).store(position + events, Ordering::Release);
                }
                Room::Exact(becomes, place) => self.set(log, &becomes, place, run),
                Room::Folded(becomes, place) => {
                    self.folded += events;
                    self.set(log, &becomes, place, run);
                }
            }
            position += events;
        }
    }

    /// What becomes of which place by this row.
    #[inline]
    fn room(&mut self, row: &Slot, hash: u64) -> Room {
        match self.live.find(row, hash) {
            Found::Row(place) if self.live.row(place).same_network(row) => return Room::Exact(self.sum(row, place), place),
            Found::Row(place) => return self.room_elsewhere(row, hash, place),
            Found::Free(place) if self.has_room() => return Room::Exact(*row, place),
            _ => {}
        }
        self.room_when_full(row, hash)
    }

    fn has_room(&self) -> bool {
        self.live.rows() < self.live.places() / 8 * 5
    }

    /// What becomes of a row whose last use was from another network: the network that it tells of no more gets a row of its own, before it is gone.
    /// To have that twice changes nothing, so a kill in between may come.
    #[cold]
    fn room_elsewhere(&mut self, row: &Slot, hash: u64, place: u32) -> Room {
        let mut sum = *self.live.row(place);
        let gone = sum.add_elsewhere(row);
        let Some(network) = gone.network(MINUTES_TOGETHER).filter(|_| row.key() != KeyId::NONE) else { return Room::Exact(sum, place) };
        if !self.note(&network) {
            sum.miss();
        }
        self.step();
        // The table may have grown.
        match self.live.find(row, hash) {
            Found::Row(place) => Room::Exact(sum, place),
            _ => Room::None,
        }
    }

    /// Notes a network, if there is room for it.
    fn note(&mut self, network: &Slot) -> bool {
        let hash = network.hash();
        if !self.has_room() && matches!(self.live.find(network, hash), Found::Free(_)) {
            self.grow();
        }
        match self.live.find(network, hash) {
            Found::Row(place) => self.live.seen_at(place, network),
            Found::Free(place) if self.has_room() && self.networks.add(network.key()) => self.live.put(place, network),
            _ => return false,
        }
        true
    }

    #[cold]
    fn room_when_full(&mut self, row: &Slot, hash: u64) -> Room {
        self.grow();
        let (rows, places) = self.rows();
        if rows < places / 4 * 3
            && let Found::Free(place) = self.live.find(row, hash)
        {
            return Room::Exact(*row, place);
        }
        let earlier = row.in_minute(self.base);
        if let Found::Row(place) = self.live.find(&earlier, earlier.hash()) {
            return Room::Folded(self.folded_sum(&earlier, place), place);
        }
        let folded = row.folded(self.base);
        match self.live.find(&folded, folded.hash()) {
            Found::Row(place) => Room::Folded(self.folded_sum(&folded, place), place),
            Found::Free(place) if rows < places / 8 * 7 => Room::Folded(folded, place),
            _ => Room::None,
        }
    }

    fn sum(&self, row: &Slot, place: u32) -> Slot {
        let mut sum = *self.live.row(place);
        sum.add(row);
        sum
    }

    /// Of two networks only that of the last use stays, which is noted.
    fn folded_sum(&self, row: &Slot, place: u32) -> Slot {
        let mut sum = self.sum(row, place);
        if !self.live.row(place).same_network(row) {
            sum.miss();
        }
        sum
    }

    #[inline]
    fn set(&mut self, log: &Log, becomes: &Slot, place: u32, run: Run) {
        let at = self.live.place(place);
        // SAFETY: this thread has the table.
        if unsafe { (*at).count } == 0 {
            if self.live.rows() == 0 {
                self.base = becomes.minute();
            }
            self.live.was_taken(place);
        }
        #[cfg(test)]
        let step = || {
            if let Some(at_step) = &mut self.at_step {
                at_step();
            }
        };
        #[cfg(not(test))]
        let step = || {};
        // SAFETY: this thread alone drains, and the place is the table's.
        unsafe { log.move_into(at, place, becomes, run, step) };
    }

    /// Begins to make a larger table before it is needed: its memory takes longer to come than the rings would have room for.
    fn prepare(&mut self) {
        let (rows, places) = self.rows();
        if self.larger.is_some() || places < PREPARED || places >= self.most || rows < places / 8 * 3 || self.grow_again_at.is_some() {
            return;
        }
        let (directory, owner) = (self.directory.clone(), self.owner);
        let prepare = move || Live::prepare(directory.as_deref(), owner, places * 2);
        // Where there is no thread, it is made when it is needed.
        self.larger = thread::Builder::new().name("grow".to_owned()).spawn(prepare).ok();
    }

    fn grow(&mut self) {
        let places = self.live.places();
        if places >= self.most || self.live.rows() < places / 8 * 5 || self.grow_again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let prepared = self.larger.take().and_then(|thread| thread.join().ok()).and_then(Result::ok);
        let larger = match prepared {
            Some(larger) if larger.places() > places => Ok(larger),
            _ => Live::prepare(self.directory.as_deref(), self.owner, places * 2),
        };
        #[cfg(test)]
        let step = || {
            if let Some(at_step) = &mut self.at_step {
                at_step();
            }
        };
        #[cfg(not(test))]
        let step = || {};
        match larger.and_then(|mut larger| larger.take_over(&self.live, step).map(|()| larger)) {
            Ok(larger) => {
                self.live = larger;
                self.grow_again_at = None;
            }
            Err(error) => {
                if self.grow_again_at.replace(Instant::now() + GROW_AGAIN).is_none() {
                    warn!(%error, rows = self.live.rows(), "the counters cannot grow; functions may be counted as (other)");
                }
            }
        }
    }

    /// Exchanges an empty table for one that suits what is counted, if it is much too small or too large; it had so many rows. A larger
    /// one is taken only if it is ready: the table that is counted in grows, too, and then there is one.
    pub(super) fn fit(&mut self, table: &mut Live, had: usize) {
        let rows = had.max(self.live.rows());
        let wanted = (rows * 2).next_power_of_two().clamp(live::FEWEST, self.most);
        let too_large = |places| wanted * 4 <= places;
        self.roomy = if too_large(table.places().max(self.live.places())) { self.roomy.saturating_add(1) } else { 0 };
        let ready = self.larger.take_if(|thread| thread.is_finished()).and_then(|thread| thread.join().ok()).and_then(Result::ok);
        let other = match ready {
            Some(ready) if ready.places() > wanted * 2 => {
                ready.remove();
                None
            }
            Some(ready) if ready.places() > table.places() => Some(ready),
            Some(ready) => {
                ready.remove();
                None
            }
            None if self.larger.is_none() && self.roomy > ROOMY && too_large(table.places()) => {
                Live::prepare(self.directory.as_deref(), self.owner, wanted).ok()
            }
            None => None,
        };
        if let Some(mut other) = other
            && other.take_over(table, || {}).is_ok()
        {
            *table = other;
        }
    }

    /// Takes the table out, if there are rows in it and a spare for its place.
    pub(super) fn freeze(&mut self, log: &Log) -> Option<Frozen> {
        if let Some(left) = self.left.take() {
            return Some(left);
        }
        if self.live.rows() == 0 {
            return None;
        }
        let mut next = self.spare.take()?;
        let generation = self.live.generation() + 1;
        next.set_generation(generation);
        self.step();
        log.set_generation(generation);
        self.step();
        self.networks = Networks::default();
        Some(Frozen::new(std::mem::replace(&mut self.live, next), 0))
    }

    /// Whether nothing is left to write.
    pub(super) fn is_empty(&self, log: &Log) -> bool {
        self.left.is_none() && self.spare.is_some() && self.live.rows() == 0 && (0..LANES).all(|lane| log.waiting(lane) == 0)
    }

    fn step(&mut self) {
        #[cfg(test)]
        if let Some(at_step) = &mut self.at_step {
            at_step();
        }
    }
}
