//! What becomes of changes when the daemon is killed, the power fails, the disk refuses or a byte flips: the real daemon, or its store and catalog, against a
//! model of what was acknowledged. Each file's head tells what it plants to show that it can fail.

mod admin;
mod corruption;
#[allow(dead_code, reason = "the black-box tests use all of it")]
#[path = "../black_box/daemon.rs"]
mod daemon;
mod damaged_log;
mod disk;
mod failing;
mod kills;
mod power;
mod worker;

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// A seed from the environment, or another each time; told, so that a run can be repeated.
fn seed(variable: &str) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    let seed = number(variable, now.subsec_nanos().into());
    println!("{variable}={seed}");
    seed
}

/// A folder of its own: in memory, so that others who wait for the disk do not slow the tests down, unless `DOORWARD_ON_DISK` says otherwise. None of what is tested
/// depends on it: SIGKILL leaves what the kernel has, and what a disk loses or refuses is made by `disk.c`.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() && number("DOORWARD_ON_DISK", 0) == 0 { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers again for the same seed.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// 0 up to but without `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}
