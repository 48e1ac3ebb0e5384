//! The time that verdicts are given by. It never runs behind a floor, so that a clock set back revives nothing; and a clock set far
//! forward by mistake does not take keys away for good.

mod quota;
mod rate;

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use crate::key::{Instant, Span, limits};

pub use quota::Quota;
pub use rate::Rate;

/// Milliseconds by which the wall clock may run ahead of the floor and be taken at its word; also how long a larger step must stand.
const STEP_MS: i64 = 3_600_000;
/// Milliseconds by which the wall clock may waver against the boot clock while a step stands: far more than it is slewed in an hour (1.8 s at most).
const WAVER_MS: i64 = 60_000;
/// Milliseconds behind the floor from which the wall clock is worth a warning.
const BEHIND_MS: i64 = 10_000;

/// The time: the wall clock, but never behind the floor.
///
/// The floor advances with the boot clock (which counts suspension, and which nobody can set). Beyond that it rises so:
/// - A wall clock at most an hour ahead of the floor raises it at once, whenever the time is read.
/// - A wall clock over an hour ahead is believed in [`Clock::now`], but leaves the floor as it is until it has stood there for an hour of the boot
///   clock, wavering by no more than a minute; then the floor rises to the least it showed in that hour. [`Clock::floor`] watches over that hour.
/// - At the first start of all, when no floor was kept, the wall clock is taken at its word: there is nothing else.
///
/// So a clock that is set back shows no time that was shown before, except for what it showed in an unconfirmed step, which is then held to be the
/// mistake. A start after the machine was off for more than an hour is such a step too, for its first hour: to the clocks the two look alike.
pub struct Clock {
    floor: Floor,
}

/// What the time is by different lights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The present, by which verdicts are given.
    pub now: Instant,
    /// What has been reached for certain. Behind `now` while a step of the wall clock is not confirmed.
    pub floor: Instant,
}

/// The floor, apart from where the time comes from. All times are milliseconds.
struct Floor {
    /// Floor minus boot clock. Only rises.
    lead: AtomicI64,
    /// Wall clock minus boot clock at the start, where the wall clock was over an hour ahead: what the machine's being off may explain.
    start: AtomicI64,
    /// A step that is not confirmed. Not looked at when the time is read.
    step: Mutex<Option<Step>>,
}

struct Step {
    /// The least of wall clock minus boot clock since then.
    lead: i64,
    /// The boot clock when the step was first seen.
    since: i64,
}

/// No such start.
const NONE: i64 = i64::MIN;

impl Clock {
    /// Begins at the floor that was kept when the daemon last ran, or at `Instant(0)` where none was kept.
    pub fn start(floor: Instant) -> Clock {
        Clock { floor: Floor::begin(floor.0, wall().0, boot_ms()) }
    }

    /// The present moment. Costs two readings of the kernel's shared page; takes no lock.
    pub fn now(&self) -> Instant {
        // The wall clock first: being interrupted between the two must not look like a wall clock that is ahead.
        let wall = wall().0;
        Instant(self.floor.now(wall, boot_ms()))
    }

    /// The present moment, and the milliseconds since the machine was started, which nobody can set. Cheaper than [`Clock::now`]: the wall clock is read as
    /// it was at the kernel's last tick, a few milliseconds ago at most, so the processor's counter is asked once less. Where it raised the floor before,
    /// which it does at its first tick, the floor and the boot clock tell the rest.
    pub fn now_and_uptime(&self) -> (Instant, u64) {
        let wall = read_wall(libc::CLOCK_REALTIME_COARSE).0;
        let boot = boot_ms();
        (Instant(self.floor.now(wall, boot)), boot as u64)
    }

    /// The present moment, and what of it is certain.
    pub fn time(&self) -> Time {
        let wall = wall().0;
        let boot = boot_ms();
        let now = self.floor.now(wall, boot);
        let floor = if self.floor.in_doubt(now, boot) { boot + self.floor.lead.load(Ordering::Acquire) } else { now };
        Time { now: Instant(now), floor: Instant(floor) }
    }

    /// The moment under which things are written down: the present; but while the wall clock has made a step that is not confirmed, the time goes on as it
    /// did before. (A step that was there at the start is taken at its word: most likely the machine was off.)
    pub fn steady(&self) -> Instant {
        let wall = wall().0;
        Instant(self.floor.steady(wall, boot_ms()))
    }

    /// The floor, to be kept for the next start. To be asked every few seconds, since it also watches over unconfirmed steps; takes a lock.
    pub fn floor(&self) -> Instant {
        let wall = wall().0;
        Instant(self.floor.confirmed(wall, boot_ms()))
    }

    /// What is wrong with the wall clock, in a sentence: while it is well behind the floor, or has made a step ahead that is not confirmed.
    pub fn warning(&self) -> Option<String> {
        let wall = wall().0;
        self.floor.warning(wall, boot_ms())
    }
}

impl Floor {
    fn begin(kept: i64, wall: i64, boot: i64) -> Floor {
        let floor = if kept <= 0 { wall } else { kept.min(limits::INSTANT_MS) };
        let start = if wall - floor > STEP_MS { wall - boot } else { NONE };
        Floor { lead: AtomicI64::new(floor - boot), start: AtomicI64::new(start), step: Mutex::new(None) }
    }

    fn now(&self, wall: i64, boot: i64) -> i64 {
        let lead = self.lead.load(Ordering::Acquire);
        let ahead = wall - boot - lead;
        if ahead <= 0 {
            return boot + lead;
        }
        if ahead <= STEP_MS {
            // Rare: only as often as the wall clock gains a millisecond on the boot clock.
            self.lead.fetch_max(wall - boot, Ordering::AcqRel);
        }
        wall
    }

    /// Whether that present may be a mistake of the wall clock's.
    fn in_doubt(&self, now: i64, boot: i64) -> bool {
        now - boot - self.lead.load(Ordering::Acquire) > STEP_MS
    }

    fn steady(&self, wall: i64, boot: i64) -> i64 {
        let now = self.now(wall, boot);
        let lead = self.lead.load(Ordering::Acquire).max(self.start.load(Ordering::Acquire));
        if self.in_doubt(now, boot) && now - boot - lead > WAVER_MS { boot + lead } else { now }
    }

    fn confirmed(&self, wall: i64, boot: i64) -> i64 {
        self.now(wall, boot);
        let lead = wall - boot;
        let mut step = self.step.lock();
        if lead < self.start.load(Ordering::Acquire).saturating_sub(WAVER_MS) {
            // It was the clock at the start that was wrong.
            self.start.store(NONE, Ordering::Release);
        }
        if lead - self.lead.load(Ordering::Acquire) <= STEP_MS {
            *step = None;
        } else {
            match &mut *step {
                Some(standing) if (lead - standing.lead).abs() <= WAVER_MS => {
                    standing.lead = standing.lead.min(lead);
                    if boot - standing.since >= STEP_MS {
                        self.lead.fetch_max(standing.lead, Ordering::AcqRel);
                        *step = None;
                    }
                }
                _ => *step = Some(Step { lead, since: boot }),
            }
        }
        boot + self.lead.load(Ordering::Acquire)
    }

    fn warning(&self, wall: i64, boot: i64) -> Option<String> {
        let floor = boot + self.lead.load(Ordering::Acquire);
        let by = |ms: i64| Span(ms - ms % 1_000);
        if floor - wall >= BEHIND_MS {
            return Some(format!(
                "the wall clock ({}) is {} behind the time that was reached before; time goes on from {}; set the wall clock right; \
                 if it is right, 'doorward check --believe-clock' has it believed",
                Instant(wall),
                by(floor - wall),
                Instant(floor)
            ));
        }
        let now = self.now(wall, boot);
        self.in_doubt(now, boot).then(|| {
            let seen = self.step.lock().as_ref().map_or(boot, |step| step.since);
            format!(
                "the wall clock ({}) is {} ahead of the time that was reached before ({}), which only the machine's having been off explains; \
                 verdicts go by it, and in {} it is believed for good; if it is wrong, set it right before",
                Instant(wall),
                by(wall - floor),
                Instant(floor),
                by((seen + STEP_MS - boot).max(0))
            )
        })
    }
}

/// The wall clock, whatever it shows. Read through the C library, where a test can put another clock in its place.
pub fn wall() -> Instant {
    read_wall(libc::CLOCK_REALTIME)
}

fn read_wall(clock: libc::clockid_t) -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a time there. It cannot fail for the wall clock, in either precision.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Instant(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000)
}

/// Milliseconds since the machine was started, suspension included.
pub fn uptime() -> u64 {
    boot_ms() as u64
}

fn boot_ms() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const YEARS: i64 = 10 * 365 * 24 * HOUR;
    /// Some moment of 2026.
    const T: i64 = 1_780_000_000_000;

    #[test]
    fn a_backward_step_revives_nothing() {
        let floor = Floor::begin(0, T, 5);
        assert_eq!(floor.now(T + MINUTE, 5 + MINUTE), T + MINUTE);
        for back in [1, HOUR, YEARS] {
            assert_eq!(floor.now(T + MINUTE - back, 5 + MINUTE), T + MINUTE);
            assert_eq!(floor.now(T + 2 * MINUTE - back, 5 + 2 * MINUTE), T + 2 * MINUTE);
        }
        assert_eq!(floor.warning(T + MINUTE, 5 + MINUTE), None);
        assert!(floor.warning(T - YEARS, 5 + MINUTE).is_some());
    }

    #[test]
    fn a_backward_step_between_runs_revives_nothing() {
        let kept = Floor::begin(0, T, 0).confirmed(T + HOUR, HOUR);
        assert_eq!(kept, T + HOUR);
        for boot in [0, HOUR + 1] {
            let floor = Floor::begin(kept, T - YEARS, boot);
            assert_eq!(floor.now(T - YEARS, boot), kept);
            assert_eq!(floor.now(T - YEARS + MINUTE, boot + MINUTE), kept + MINUTE);
        }
    }

    #[test]
    fn a_forward_glitch_is_believed_while_it_lasts_and_leaves_nothing_behind() {
        let floor = Floor::begin(T, T, 0);
        for second in 0..1_800 {
            let boot = second * 1_000;
            assert_eq!(floor.now(T + YEARS + boot, boot), T + YEARS + boot);
            assert_eq!(floor.confirmed(T + YEARS + boot, boot), T + boot);
        }
        let boot = 1_800_000;
        assert_eq!(floor.now(T + boot, boot), T + boot);
        // A second glitch begins a new hour: the half hour before does not count for it.
        assert_eq!(floor.confirmed(T + boot, boot), T + boot);
        assert_eq!(floor.confirmed(T + YEARS + boot, boot), T + boot);
        assert_eq!(floor.confirmed(T + YEARS + boot + 50 * MINUTE, boot + 50 * MINUTE), T + boot + 50 * MINUTE);
    }

    #[test]
    fn a_forward_glitch_at_the_start_of_a_run_leaves_nothing_behind() {
        let kept = Floor::begin(T, T + YEARS, 7).confirmed(T + YEARS, 7);
        assert_eq!(kept, T);
        assert_eq!(Floor::begin(kept, T + MINUTE, 0).now(T + MINUTE, 0), T + MINUTE);
    }

    #[test]
    fn a_forward_step_that_stands_for_an_hour_raises_the_floor() {
        let floor = Floor::begin(T, T, 0);
        let step = T + 72 * HOUR;
        floor.confirmed(step, 0);
        // Slewed back by two seconds meanwhile: the least is what counts.
        floor.confirmed(step + 30 * MINUTE - 2_000, 30 * MINUTE);
        assert_eq!(floor.confirmed(step + HOUR - 1, HOUR - 1), T + HOUR - 1);
        assert_eq!(floor.confirmed(step + HOUR, HOUR), step + HOUR - 2_000);
        assert_eq!(floor.now(T, HOUR + 1), step + HOUR + 1 - 2_000);
    }

    #[test]
    fn a_step_that_moves_begins_its_hour_anew() {
        let floor = Floor::begin(T, T, 0);
        floor.confirmed(T + YEARS, 0);
        floor.confirmed(T + 2 * HOUR + 59 * MINUTE, 59 * MINUTE);
        assert_eq!(floor.confirmed(T + 2 * HOUR + 61 * MINUTE, 61 * MINUTE), T + 61 * MINUTE);
        assert_eq!(floor.confirmed(T + 2 * HOUR + 119 * MINUTE, 119 * MINUTE), T + 2 * HOUR + 119 * MINUTE);
    }

    #[test]
    fn the_time_of_the_machine_is_read() {
        let clock = Clock::start(Instant(0));
        let (before, now) = (wall(), clock.now());
        assert!(now.since(before).0.abs() < 10_000);
        assert!(clock.now() >= now && clock.floor() >= now);
        assert_eq!((clock.warning(), clock.time().floor >= now), (None, true));
        assert!(Clock::start(wall().plus(Span(YEARS))).warning().is_some());
    }

    #[test]
    fn a_step_ahead_is_warned_of_until_it_is_confirmed() {
        let floor = Floor::begin(T, T, 0);
        assert_eq!(floor.warning(T, 0), None);
        floor.confirmed(T + YEARS + MINUTE, MINUTE);
        let warning = floor.warning(T + YEARS + 11 * MINUTE, 11 * MINUTE).unwrap();
        assert!(warning.contains("10y") || warning.contains("3650d"), "{warning}");
        assert!(warning.contains("in 50m it is believed"), "{warning}");
        floor.confirmed(T + YEARS + 61 * MINUTE, 61 * MINUTE);
        assert_eq!(floor.warning(T + YEARS + 61 * MINUTE, 61 * MINUTE), None);
    }

    /// What is written down goes on in its time over a glitch; a step that was there at the start is the time.
    #[test]
    fn what_is_written_down_does_not_follow_a_glitch() {
        let floor = Floor::begin(T, T, 0);
        assert_eq!(floor.steady(T + HOUR, MINUTE), T + HOUR, "an hour is no step");
        assert_eq!(floor.steady(T + YEARS, 2 * MINUTE), T + HOUR + MINUTE);
        assert_eq!(floor.steady(T - YEARS, 3 * MINUTE), T + HOUR + 2 * MINUTE);
        let after_a_day_off = Floor::begin(T, T + 24 * HOUR, 5);
        assert_eq!(after_a_day_off.steady(T + 24 * HOUR + MINUTE, 5 + MINUTE), T + 24 * HOUR + MINUTE);
        after_a_day_off.confirmed(T + 24 * HOUR + MINUTE, 5 + MINUTE);
        assert_eq!(after_a_day_off.steady(T + YEARS, 5 + 2 * MINUTE), T + 24 * HOUR + 2 * MINUTE, "a glitch on top of it");
        // Set right: the clock of the start was the mistake, and another glitch does not go back to it.
        assert_eq!(after_a_day_off.confirmed(T + 3 * MINUTE, 5 + 3 * MINUTE), T + 3 * MINUTE);
        assert_eq!(after_a_day_off.steady(T + YEARS, 5 + 4 * MINUTE), T + 4 * MINUTE);
    }
}
