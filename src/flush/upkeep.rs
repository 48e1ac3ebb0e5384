use std::time;
use std::time::Duration;

use tracing::{error, info, warn};

use super::{REST, Worker};
use crate::clock;
use crate::key::{Instant, Span};
use crate::store::{HourOfGuesses, Keep, StoreError, TimeFloor, UsageBatch};
use crate::usage::boot_id;

/// How long usage is added up before the thread rests. One bucket of an hour is added up as a whole, and may take longer where keys are very many.
const SLICE: Duration = Duration::from_millis(5);
/// How often it is looked for what is too old, in minutes that count up to hours.
const EXPIRE: Duration = Duration::from_secs(60);
pub(super) const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// What the thread that writes does beside flushing.
pub(super) struct Upkeep {
    keep: Keep,
    expired: Option<time::Instant>,
    /// The moment up to which the store was told that verifies were counted, by the daemon's clock and by one that nobody sets.
    noted: (Instant, time::Instant),
    /// Whether it was told anything yet.
    is_noted: bool,
    /// When this process began, as its rows of guesses are named.
    started: Instant,
    boot: [u8; 16],
    /// The wall clock is wrong, and the log says so.
    warned: bool,
}

impl Upkeep {
    pub(super) fn new(now: Instant, keep: Keep) -> Upkeep {
        Upkeep { keep, expired: None, noted: (now, time::Instant::now()), is_noted: false, started: now, boot: boot_id(), warned: false }
    }
}

impl Worker {
    /// The time's floor, to be written.
    pub(super) fn time_floor(&self) -> TimeFloor {
        // The boot clock first: a floor that seems older than it is does no harm.
        let uptime = clock::uptime();
        TimeFloor { at: self.shared.clock.floor(), boot: Some((self.upkeep.boot, uptime)) }
    }

    /// Writes the time's floor, and which minutes were counted in: at the start, when a minute begins, and at the end. A disk may sleep in between.
    pub(super) fn note_time(&mut self, last: bool) -> Result<(), StoreError> {
        let now = self.shared.clock.steady();
        // Asked for even when it is not written: the clock wants to be watched.
        let floor = self.time_floor();
        self.watch_the_clock();
        let (noted, at) = self.upkeep.noted;
        if self.upkeep.is_noted && !last && noted.0.div_euclid(MINUTE_MS) == now.0.div_euclid(MINUTE_MS) {
            return Ok(());
        }
        // Over a step of the clock it was not counted, only for as long as time really passed.
        let passed = Span(at.elapsed().as_millis() as i64);
        let since = Instant(noted.0.max(now.0.saturating_sub(passed.0)).min(now.0));
        let note = UsageBatch { covered: Some((since, now)), time_floor: Some(floor), ..UsageBatch::default() };
        self.write_guesses(now)?;
        self.store.write_usage(&note, true)?;
        (self.upkeep.noted, self.upkeep.is_noted) = ((now, time::Instant::now()), true);
        Ok(())
    }

    /// Says in the log when the wall clock goes wrong, and when it is right again.
    fn watch_the_clock(&mut self) {
        match (self.shared.clock.warning(), self.upkeep.warned) {
            (Some(warning), false) => warn!("{warning}"),
            (None, true) => info!("the wall clock agrees with the time again"),
            (Some(_), true) | (None, false) => return,
        }
        self.upkeep.warned = !self.upkeep.warned;
    }

    /// Writes who sends tokens that nobody has. What was counted since the last time is in memory alone: a kill may lose a minute of it.
    fn write_guesses(&self, now: Instant) -> Result<(), StoreError> {
        let hours: Vec<HourOfGuesses> = self
            .shared
            .usage
            .guesses()
            .into_iter()
            // An hour of a clock that was wrong: its guesses are among the counts of tokens that nobody has, and that is all.
            .filter(|hour| i64::from(hour.hour) <= now.0.div_euclid(HOUR_MS))
            .map(|hour| HourOfGuesses {
                hour: hour.hour,
                total: hour.total,
                networks: hour.networks.iter().map(|guesser| (guesser.network, guesser.count, guesser.error)).collect(),
            })
            .collect();
        self.store.write_guesses(self.upkeep.started, &hours, now)
    }

    /// Adds up hours and days that are over, and removes what is too old, until there is nothing more to do or it is time for the next flush. A quarter of a
    /// processor at most. By the clock's floor: a time that the clock only seems to have reached moves nothing.
    pub(super) fn keep_up(&mut self, due: time::Instant) {
        if self.refused.is_some() {
            return;
        }
        let mut kept_up = Ok(());
        while time::Instant::now() < due && !self.is_stopping() && !self.shared.usage.is_crowded() {
            let (begun, floor) = (time::Instant::now(), self.shared.clock.floor());
            let mut more = Ok(true);
            while matches!(more, Ok(true)) && begun.elapsed() < SLICE {
                more = self.store.roll_usage(floor);
            }
            match more {
                Ok(true) => self.wait(due.min(time::Instant::now() + begun.elapsed() * REST)),
                Ok(false) => break,
                Err(error) => {
                    kept_up = Err(error);
                    break;
                }
            }
        }
        if kept_up.is_ok() && self.upkeep.expired.is_none_or(|at| at.elapsed() >= EXPIRE) {
            kept_up = self.store.expire_usage(self.shared.clock.floor(), &self.upkeep.keep);
            self.upkeep.expired = Some(time::Instant::now());
        }
        let mut status = self.shared.status.lock();
        match kept_up {
            Ok(()) if status.upkeep_failing.take().is_some() => info!("usage is added up to hours and days again"),
            Ok(()) => {}
            Err(refusal) => {
                if status.upkeep_failing.replace(refusal.to_string()).is_none() {
                    error!("usage cannot be added up to hours and days; its minutes are kept, and it is tried again: {refusal}");
                }
            }
        }
    }
}
