//! The steps of the verify path one by one, and together without the socket, under the daemon's allocator with its settings.
//!
//! `[PLAIN_KEYS=N] cargo bench --bench steps [-- FILTER]`
//!
//! There are two doors. The mixed one has a million keys with every kind of rule, of which half have a network that no other key has. The plain one has
//! `PLAIN_KEYS`, by default a million (ten million take about 1.5 GB and half a minute to make), whose rules are one of a thousand and whose
//! accounts have 12 bytes. Requests are asked in random order, over far more memory than the caches of a core hold, but lie in memory in the order in
//! which they are asked, as those that a connection has just read do.
//!
//! The times of the steps by themselves are criterion's. Its 'elem/s' is per core, since one thread asks. What is held against
//! something else comes last: those figures are measured in turns, and their medians are printed with the least and the most.
//! A FILTER leaves that part out, but for `ratios`, which asks for it alone.

mod chase;
mod one_by_one;
mod plain;
mod ratios;
mod scene;
mod together;

use std::time::Duration;

use criterion::Criterion;

use plain::Plain;
use scene::Mixed;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// As the daemon's: see `src/main.rs`.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 101] =
    b"thp:always,background_thread:true,max_background_threads:1,tcache_nslots_small_max:8,tcache_max:1024\0";

const MIXED_KEYS: u64 = 1_000_000;

fn main() {
    let plain_keys = std::env::var("PLAIN_KEYS").map_or(1_000_000, |keys| keys.parse().expect("PLAIN_KEYS is a number"));
    let filtered = std::env::args().skip(1).any(|argument| !argument.starts_with('-') && argument != "ratios");
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut mixed = Mixed::set(MIXED_KEYS);
    one_by_one::bench(&mut criterion, &mixed);
    together::bench(&mut criterion, &mixed);
    let mut plain = Plain::set(plain_keys);
    plain::bench(&mut criterion, &plain);
    criterion.final_summary();
    if !filtered {
        ratios::print(&mut mixed, &mut plain);
    }
}
