//! The threads that serve many connections, each of which brings little at a time: one for each processor. Whichever is free takes the next that has something to read,
//! and never waits for it: so they cost no switch from thread to thread. Who brings much gets a thread of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use tracing::error;

use super::End;
use super::serve::{Scratch, Service, Turn};

/// Connections that a thread is told of at once: those beyond are for others, if this one has to leave its processor meanwhile.
const EVENTS: usize = 1;
/// Turns of a connection before others have theirs: in the second it usually turns out that nothing more has come.
const TURNS: usize = 2;
/// Told instead of a place when the end has come.
const THE_END: u64 = u64::MAX;
/// How often a thread that is at work is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The threads and what they serve.
pub(super) struct Loops {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    epoll: OwnedFd,
    /// Readable once the end has come.
    end: OwnedFd,
    is_over: AtomicBool,
    places: Box<[Place]>,
    free: Mutex<Vec<u32>>,
    rounds: Box<[Rounds]>,
    spin: Duration,
}

/// How often a thread went to work and to rest: odd while it is at work. In a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Rounds(AtomicU64);

/// Where a connection is.
#[derive(Default)]
struct Place {
    /// How often the kernel told of it since it was last at rest. Who raises it from 0 serves it, and all that follow leave it to that one.
    told: AtomicU32,
    /// Only who serves it holds this, and who puts it there.
    service: Mutex<Option<Box<Service>>>,
}

impl Loops {
    /// Starts so many threads for so many connections at most. Each looks for the next request for as long as `spin` before it sleeps.
    ///
    /// # Errors
    /// The kernel gives no thread or no descriptor.
    pub(super) fn start(threads: usize, connections: usize, spin: Duration) -> io::Result<Loops> {
        let (epoll, end) = (epoll::create(epoll::CreateFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?);
        epoll::add(&epoll, &end, EventData::new_u64(THE_END), EventFlags::IN)?;
        let places = (0..connections).map(|_| Place::default()).collect();
        let free = Mutex::new((0..connections as u32).rev().collect());
        let rounds = (0..threads).map(|_| Rounds::default()).collect();
        let shared = Arc::new(Shared { epoll, end, is_over: AtomicBool::new(false), places, free, rounds, spin });
        // Where one cannot be started, dropping this ends those that were.
        let mut loops = Loops { shared, threads: Mutex::default() };
        for number in 0..threads {
            let shared = Arc::clone(&loops.shared);
            loops.threads.get_mut().push(thread::Builder::new().name("verify".into()).spawn(move || shared.run(number))?);
        }
        Ok(loops)
    }

    /// Has a connection served by whichever thread is free.
    ///
    /// # Errors
    /// There is no place, or the kernel does not watch it, for want of memory or beyond `fs.epoll.max_user_watches`. It is given back.
    pub(super) fn give(&self, mut service: Box<Service>) -> Result<(), Box<Service>> {
        let Some(number) = self.shared.free.lock().pop() else { return Err(service) };
        let place = &self.shared.places[number as usize];
        // Held until it is there: the kernel may tell of it at once, and a thread may still look for the one before it.
        let mut held = place.service.lock();
        // Told once for all that has come, and again when more comes.
        let when = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        if epoll::add(&self.shared.epoll, &service.connection.stream, EventData::new_u64(number.into()), when).is_err() {
            drop(held);
            self.shared.free.lock().push(number);
            return Err(service);
        }
        service.begins();
        *held = Some(service);
        Ok(())
    }

    /// Whether none is at work on the same connections for so long.
    pub(super) fn go_round(&self, within: Duration) -> bool {
        // Looks are counted, and not the time: it also passes while all threads of the process are stopped.
        let mut looks = within.as_millis() / LOOK.as_millis();
        self.shared.rounds.iter().all(|Rounds(rounds)| {
            let before = rounds.load(Ordering::Relaxed);
            let is_at_work = || before % 2 == 1 && rounds.load(Ordering::Relaxed) == before;
            while is_at_work() && looks > 0 {
                thread::sleep(LOOK);
                looks -= 1;
            }
            !is_at_work()
        })
    }

    /// Ends them. Connections that are still open are closed.
    pub(super) fn stop(&self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Err(error) = rustix::io::write(&self.shared.end, &1u64.to_ne_bytes()) {
            error!(%error, "the threads that serve verify connections could not be woken");
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                error!("a thread that served verify connections had panicked");
            }
        }
        self.shared.places.iter().for_each(|place| drop(place.service.lock().take()));
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self, thread: usize) {
        let Rounds(rounds) = &self.rounds[thread];
        let mut scratch = Scratch::new();
        let mut events = Vec::with_capacity(EVENTS);
        // Places whose connections were not at rest yet, and are this thread's until they are.
        let (mut mine, mut due) = (Vec::new(), Vec::new());
        while !self.is_over.load(Ordering::SeqCst) {
            events.clear();
            self.wait(&mut events, mine.is_empty());
            rounds.fetch_add(1, Ordering::Relaxed);
            let told = events.iter().map(|event: &Event| event.data.u64()).filter_map(|number| usize::try_from(number).ok());
            let new = told.filter(|number| self.places.get(*number).is_some_and(|place| place.told.fetch_add(1, Ordering::AcqRel) == 0));
            // Those that were at rest come first.
            due.extend(new);
            due.append(&mut mine);
            mine.extend(due.drain(..).filter(|number| self.serve(*number, &mut scratch)));
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the kernel tells of; waits for it where there is nothing else to do: awake for as long as it is to spin, then asleep.
    fn wait(&self, events: &mut Vec<Event>, may_sleep: bool) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let awake_until = (may_sleep && !self.spin.is_zero()).then(|| Instant::now() + self.spin);
        loop {
            let awake = awake_until.is_some_and(|until| Instant::now() < until);
            match epoll::wait(&self.epoll, spare_capacity(events), (awake || !may_sleep).then_some(&at_once)) {
                Ok(0) if awake => std::hint::spin_loop(),
                Ok(_) => return,
                // Interrupted: no other error comes of these arguments.
                Err(_) => {}
            }
        }
    }

    /// Gives the connection at this place, which is this thread's, its turns. Whether it may have more: then it stays this thread's.
    fn serve(&self, number: usize, scratch: &mut Scratch) -> bool {
        let place = &self.places[number];
        let told = place.told.load(Ordering::Acquire);
        let mut held = place.service.lock();
        let Some(service) = held.as_deref_mut() else {
            // The kernel told of one that has gone since.
            drop(held);
            return !place.is_left(told);
        };
        let mut turns = 0;
        let turn = loop {
            turns += 1;
            match catch_unwind(AssertUnwindSafe(|| service.turn(scratch, None))) {
                Ok(Ok(Turn::Read)) if turns < TURNS => {}
                Ok(turn) => break turn,
                // The hook has told of the panic. Only this connection ends.
                Err(_) => {
                    *scratch = Scratch::new();
                    break Err(End::Failed);
                }
            }
        };
        match turn {
            Ok(Turn::Read) => return true,
            Ok(Turn::Nothing) => return !place.is_left(told),
            Ok(Turn::Waits | Turn::Heavy) | Err(_) => {}
        }
        let Some(service) = held.take() else { return false };
        drop(held);
        let _ = epoll::delete(&self.epoll, &service.connection.stream);
        place.told.store(0, Ordering::Release);
        self.free.lock().push(number as u32);
        match turn {
            Err(end) => service.ends(end),
            Ok(_) => service.goes_to_a_thread(),
        }
        false
    }
}

impl Place {
    /// Leaves it to whoever is told of it next, unless the kernel told of it since.
    fn is_left(&self, told: u32) -> bool {
        self.told.compare_exchange(told, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops() -> Loops {
        Loops::start(2, 4, Duration::ZERO).unwrap()
    }

    #[test]
    fn a_thread_that_stays_at_work_is_noticed_and_one_that_rests_is_well() {
        let loops = loops();
        assert!(loops.go_round(Duration::from_secs(10)));
        let Rounds(rounds) = &loops.shared.rounds[1];
        rounds.fetch_add(1, Ordering::Relaxed);
        assert!(!loops.go_round(Duration::from_millis(20)));
        // It went on while it was looked at.
        thread::scope(|scope| {
            let looked = scope.spawn(|| loops.go_round(Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(20));
            rounds.fetch_add(2, Ordering::Relaxed);
            assert!(looked.join().unwrap());
        });
    }

    /// The kernel may have told of a connection that another thread has ended meanwhile, and of one before that had the same place.
    #[test]
    fn a_place_without_a_connection_is_left_as_it_was_found() {
        let loops = loops();
        let place = &loops.shared.places[3];
        assert_eq!(place.told.fetch_add(1, Ordering::AcqRel), 0);
        assert!(!loops.shared.serve(3, &mut Scratch::new()));
        assert_eq!(place.told.load(Ordering::Acquire), 0);
    }

    #[test]
    fn who_is_told_of_more_meanwhile_does_not_leave() {
        let place = Place::default();
        place.told.store(1, Ordering::Release);
        place.told.fetch_add(1, Ordering::AcqRel);
        assert!(!place.is_left(1) && place.is_left(2));
    }
}
