//! From when time goes on at a start: not before anything that is known to have been.

use crate::catalog;
use crate::clock::{self, Clock};
use crate::key::{Instant, Span};
use crate::store::{Store, StoreError};
use crate::usage;

/// How far the newest change may be ahead of the floor that was kept: the floor is written each minute, and with all that is counted. Further ahead, and it
/// was dated by a wall clock that was never confirmed.
const FLOOR_LAG: Span = Span(5 * 60_000);

/// The floor that was kept, and as much later as is known: in the same boot by as much as the boot clock has gone on, and not before the newest change. Zero where
/// none was kept.
pub(super) fn kept_floor(store: &Store) -> Result<Instant, StoreError> {
    let Some(kept) = store.time_floor()? else { return Ok(Instant(0)) };
    let passed = kept.boot.filter(|(boot, _)| *boot == usage::boot_id() && *boot != [0; 16]);
    let passed = passed.map_or(0, |(_, uptime)| clock::uptime().saturating_sub(uptime));
    let floor = kept.at.plus(Span(i64::try_from(passed).unwrap_or(0)));
    let newest = store.history(None, None, 1)?.first().map(|entry| entry.at);
    Ok(newest.filter(|newest| *newest <= floor.plus(FLOOR_LAG)).map_or(floor, |newest| newest.max(floor)))
}

/// The time, as the catalog is told it.
pub(super) fn catalog_time(clock: &Clock) -> catalog::Time {
    let clock::Time { now, floor } = clock.time();
    catalog::Time { now, floor }
}
