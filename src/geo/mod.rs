//! From which country an address is: a MaxMind DB file, expanded at load into sorted ranges, so that an answer costs one binary
//! search in two small tables and neither decodes nor allocates.

mod database;
mod ranges;

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use thiserror::Error;

use crate::clock;
use crate::key::{CountryOf, Instant, canonical};
use crate::regular_file;

pub use database::{Countries, DatabaseError};

/// Bytes of the largest file that is read: four times the largest database with cities and names in eight languages.
const FILE_BYTES: u64 = 512 << 20;

/// The loaded country database, if there is one. Readers go on with the old one while a new one is swapped in.
pub struct Geo {
    /// Null without a database. Epochs, not a lock: a reader announces itself in a cache line of its own.
    loaded: Atomic<Loaded>,
}

struct Loaded {
    countries: Countries,
    path: PathBuf,
    loaded_at: Instant,
}

/// What `status` tells of the loaded database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its file.
    pub path: PathBuf,
    /// What it calls itself.
    pub database_type: String,
    /// When it was built, as it says itself.
    pub built_at: Instant,
    /// When it was loaded, by the wall clock.
    pub loaded_at: Instant,
    /// Ranges of addresses in memory, of both families.
    pub ranges: usize,
}

/// Why a country database was not loaded. The one loaded before stays.
#[derive(Debug, Error)]
pub enum GeoError {
    /// The file cannot be read.
    #[error("country database {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than any country database.
    #[error("country database {path}: larger than {limit} MiB, which no country database is", path = path.display(), limit = FILE_BYTES >> 20)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not a sound country database.
    #[error("country database {path}: {source}", path = path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: DatabaseError,
    },
}

impl Geo {
    /// Knows no country until a database is loaded.
    pub fn without_database() -> Geo {
        Geo { loaded: Atomic::null() }
    }

    /// Reads a file wholly into memory, verifies and expands it, and makes it the loaded one. Where it is not sound, the one loaded before stays.
    ///
    /// # Errors
    /// A file that cannot be read, is no MaxMind DB, is truncated or damaged, or names no country.
    pub fn load(&self, path: &Path) -> Result<(), GeoError> {
        let bytes = read(path)?;
        let countries = Geo::parse(&bytes).map_err(|source| GeoError::Database { path: path.to_owned(), source })?;
        let loaded = Owned::new(Loaded { countries, path: path.to_owned(), loaded_at: clock::wall() });
        let guard = crossbeam_epoch::pin();
        self.replace(loaded.into_shared(&guard), &guard);
        Ok(())
    }

    /// Knows no country from here on.
    pub fn unload(&self) {
        let guard = crossbeam_epoch::pin();
        self.replace(Shared::null(), &guard);
    }

    fn replace(&self, loaded: Shared<'_, Loaded>, guard: &Guard) {
        let old = self.loaded.swap(loaded, Ordering::AcqRel, guard);
        if !old.is_null() {
            // SAFETY: `old` is unreachable since the swap; whoever still reads it is pinned.
            unsafe { guard.defer_destroy(old) };
            guard.flush();
        }
    }

    /// Verifies and expands the bytes of a MaxMind DB. Any bytes are safe to give.
    ///
    /// # Errors
    /// Bytes that are no MaxMind DB, truncated or damaged, or that name no country.
    pub fn parse(bytes: &[u8]) -> Result<Countries, DatabaseError> {
        database::parse(bytes)
    }

    /// From which country the address is. An IPv4-mapped address is the IPv4 address.
    ///
    /// Takes no lock, makes no system call, and writes to no cache line that another thread reads. (A thread's very first call registers it with
    /// the epochs, which allocates once.)
    pub fn country(&self, address: IpAddr) -> CountryOf {
        self.country_under(address, &crossbeam_epoch::pin())
    }

    /// As [`Geo::country`], for who has pinned this moment already.
    #[inline]
    pub(crate) fn country_under(&self, address: IpAddr, guard: &Guard) -> CountryOf {
        let Some(loaded) = self.current(guard) else { return CountryOf::NoDatabase };
        match loaded.countries.of(canonical(address)) {
            Some(country) => CountryOf::In(country),
            None => CountryOf::Unknown,
        }
    }

    /// The loaded database, if there is one.
    pub fn describe(&self) -> Option<Description> {
        let guard = crossbeam_epoch::pin();
        let loaded = self.current(&guard)?;
        Some(Description {
            path: loaded.path.clone(),
            database_type: loaded.countries.database_type().to_owned(),
            built_at: loaded.countries.built_at(),
            loaded_at: loaded.loaded_at,
            ranges: loaded.countries.ranges(),
        })
    }

    fn current<'g>(&self, guard: &'g Guard) -> Option<&'g Loaded> {
        let shared: Shared<'g, Loaded> = self.loaded.load(Ordering::Acquire, guard);
        // SAFETY: what the pointer holds is destroyed only after every guard that could have seen it is gone.
        unsafe { shared.as_ref() }
    }
}

impl Drop for Geo {
    fn drop(&mut self) {
        let loaded = std::mem::replace(&mut self.loaded, Atomic::null());
        // SAFETY: `&mut self`: nobody else can reach it.
        drop(unsafe { loaded.try_into_owned() });
    }
}

fn read(path: &Path) -> Result<Vec<u8>, GeoError> {
    let failed = |source| GeoError::Read { path: path.to_owned(), source };
    let file = regular_file::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES { Err(GeoError::TooLarge { path: path.to_owned() }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Country;

    const FLAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/country/flat.mmdb");

    #[test]
    fn without_a_database_no_address_has_a_country() {
        let geo = Geo::without_database();
        assert_eq!(geo.country("192.0.2.1".parse().unwrap()), CountryOf::NoDatabase);
        assert_eq!(geo.describe(), None);
    }

    #[test]
    fn a_damaged_file_keeps_the_database_loaded_before_and_names_itself() {
        let geo = Geo::without_database();
        geo.load(Path::new(FLAT)).unwrap();
        let before = geo.describe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged.mmdb");
        let bytes = std::fs::read(FLAT).unwrap();
        for damaged in [&b"not a database"[..], &[], &bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
            std::fs::write(&path, damaged).unwrap();
            let error = geo.load(&path).unwrap_err();
            assert!(error.to_string().contains("damaged.mmdb"), "{error}");
        }
        assert!(matches!(geo.load(dir.path()), Err(GeoError::Read { .. })));
        assert_eq!(geo.describe().unwrap(), before);
    }

    #[test]
    fn readers_never_miss_a_database_while_it_is_replaced() {
        let geo = Geo::without_database();
        geo.load(Path::new(FLAT)).unwrap();
        let address: IpAddr = "83.149.9.216".parse().unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| (0..200_000).all(|_| geo.country(address) == CountryOf::In(Country(*b"RU"))));
            for _ in 0..20 {
                geo.load(Path::new(FLAT)).unwrap();
            }
            assert!(reader.join().unwrap());
        });
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let geo = Geo::without_database();
        geo.load(Path::new(FLAT)).unwrap();
        assert_eq!(geo.country("::ffff:83.149.9.216".parse().unwrap()), geo.country("83.149.9.216".parse().unwrap()));
    }
}
