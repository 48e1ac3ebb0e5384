//! A look at everything: what the store says of itself, the history's chain under the pepper, and the index against the store.

use std::path::PathBuf;
use std::time::{Duration, Instant as Watch};

use super::chain::{ChainKey, ChainReport, check_entry};
use super::pepper::{self, PepperNeeds};
use super::{Catalog, CatalogError, Head, Time};
use crate::digest::Peppers;
use crate::index::Index;
use crate::key::{Instant, Key, KeyId};
use crate::store::check::{Checker, Stopped};
use crate::store::{Recorded, Store, StoreError};

pub use crate::store::check::{Part, Progress};

/// How often a key that the index shows otherwise is looked at again: a change may be durable and not yet visible.
const LOOKS_AGAIN: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// The part that is about the peppers.
pub const PEPPER: &str = "pepper";
const NOTED_HEADS: &str = "noted heads";
/// Keys that are looked at again.
const SUSPECTS: usize = 10_000;

/// What a check is made with.
pub struct CheckOptions<'a> {
    /// The peppers that the chain and the secrets need; without them the chain's MACs are not checked.
    pub peppers: Option<&'a Peppers>,
    /// Heads that were noted earlier, which the history must still hold.
    pub against: &'a [Head],
    /// The present moment, by which secrets have retired.
    pub now: Instant,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The store's directory.
    pub store: PathBuf,
    /// The end of the history.
    pub head: Head,
    /// What was looked at.
    pub parts: Vec<Part>,
    /// Which pepper was not among those given, if that is so. It is a fault of the part `pepper`, too.
    pub lacks: Option<CatalogError>,
    /// How long it took.
    pub took: Duration,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.parts.iter().all(|part| part.faults.is_empty())
    }

    /// Whether nothing else is wrong than that the history is another than that of a head that was noted: the store is well by itself.
    pub fn is_only_another_history(&self) -> bool {
        !self.is_clean() && self.parts.iter().all(|part| part.name == NOTED_HEADS || part.faults.is_empty())
    }

    /// Which pepper was not among those given, where nothing else is wrong: the store is well then.
    pub fn lacks_only(&self) -> Option<&CatalogError> {
        let others_are_well = self.parts.iter().all(|part| part.name == PEPPER || part.faults.is_empty());
        self.lacks.as_ref().filter(|_| others_are_well)
    }
}

/// Why a check ended without a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// It was told to stop.
    #[error("the check was stopped")]
    Stopped,
    /// Not even the end of the history can be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks at everything in a store.
///
/// # Errors
/// It was told to stop. What is wrong is in the report.
pub fn check(store: &Store, options: &CheckOptions, progress: &mut dyn FnMut(Progress) -> bool) -> Result<CheckReport, CheckError> {
    check_with(store, None, options, progress)
}

impl Catalog {
    /// Looks at everything while the catalog is in use: as [`check`], and that the index shows every secret as the store has it.
    ///
    /// # Errors
    /// As [`check`].
    pub fn check(&self, against: &[Head], progress: &mut dyn FnMut(Progress) -> bool) -> Result<CheckReport, CheckError> {
        let options = CheckOptions { peppers: Some(&self.peppers), against, now: (self.time)().now };
        check_with(&self.store, Some(self), &options, progress)
    }
}

/// What is looked at while the store shows its rows.
struct Looking<'a> {
    keys: Vec<ChainKey>,
    chain: ChainReport,
    tail: Head,
    index: Option<&'a Index>,
    suspects: Vec<KeyId>,
    secrets: u64,
    needs: PepperNeeds,
    now: Instant,
    progress: &'a mut dyn FnMut(Progress) -> bool,
}

impl Checker for Looking<'_> {
    fn key(&mut self, key: &Key) {
        self.needs.add(key, Time::certain(self.now));
        self.secrets += key.secrets.len() as u64;
        if self.index.is_some_and(|index| !index.shows(key)) && self.suspects.len() < SUSPECTS {
            self.suspects.push(key.id);
        }
    }

    fn entry(&mut self, recorded: &Recorded) {
        check_entry(&mut self.chain, &self.keys, &mut self.tail, recorded);
    }

    fn progress(&mut self, progress: Progress) -> bool {
        (self.progress)(progress)
    }
}

fn check_with(
    store: &Store,
    live: Option<&Catalog>,
    options: &CheckOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<CheckReport, CheckError> {
    let begun = Watch::now();
    let keys = options.peppers.map(chain_keys).unwrap_or_default();
    let mut looking = Looking {
        keys,
        chain: ChainReport::default(),
        tail: Head::default(),
        index: live.map(|catalog| &*catalog.index),
        suspects: Vec::new(),
        secrets: 0,
        needs: PepperNeeds::default(),
        now: options.now,
        progress,
    };
    let mut parts = store.check(&mut looking).map_err(|Stopped| CheckError::Stopped)?;
    let Looking { chain, tail, suspects, secrets, needs, .. } = looking;
    parts.push(chain_part(chain, options));
    let (part, lacks) = pepper_part(store, options, &needs);
    parts.push(part);
    if !options.against.is_empty() {
        parts.push(against_part(store, options.against, tail));
    }
    if let Some(catalog) = live {
        parts.push(index_part(catalog, &suspects, (secrets, tail)));
    }
    Ok(CheckReport { store: store.path().to_owned(), head: tail, parts, lacks, took: begun.elapsed() })
}

fn chain_keys(peppers: &Peppers) -> Vec<ChainKey> {
    [Some(&peppers.current), peppers.previous.as_ref()].into_iter().flatten().map(ChainKey::new).collect()
}

fn chain_part(chain: ChainReport, options: &CheckOptions) -> Part {
    let mut part = Part::new("chain", "MACs");
    part.checked = chain.verified;
    if options.peppers.is_none() {
        part.note = Some(format!("without the pepper, the MACs of {} entries were not checked", chain.other_pepper));
    } else if chain.other_pepper > 0 {
        part.note = Some(format!("{} entries were made under an earlier pepper, so their MACs cannot be checked", chain.other_pepper));
    }
    chain.faults.into_iter().for_each(|fault| part.fault(fault));
    part
}

fn pepper_part(store: &Store, options: &CheckOptions, needs: &PepperNeeds) -> (Part, Option<CatalogError>) {
    let mut part = Part::new(PEPPER, "fingerprints");
    let marks = match store.pepper_marks() {
        Ok(marks) => marks,
        Err(error) => {
            part.fault(error.to_string());
            return (part, None);
        }
    };
    let Some(peppers) = options.peppers else {
        let needed = marks.map_or_else(|| "none".to_owned(), |marks| pepper::id_of(&marks.current).to_string());
        part.note = Some(format!("not given; the store needs {needed}"));
        return (part, None);
    };
    part.checked = 1 + u64::from(peppers.previous.is_some());
    let fault = pepper::check(store, peppers).and_then(|_| pepper::all_given(peppers, needs)).err();
    if let Some(error) = &fault {
        part.fault(error.to_string());
    }
    (part, fault.filter(|error| matches!(error, CatalogError::WrongPepper { .. } | CatalogError::PepperNeeded { .. })))
}

fn against_part(store: &Store, against: &[Head], tail: Head) -> Part {
    let mut part = Part::new(NOTED_HEADS, "heads");
    for head in against {
        part.checked += 1;
        if head.sequence > tail.sequence {
            part.fault(format!(
                "the history ends at entry {}, but it had {} when this head was noted: it was cut off, or an older store was restored",
                tail.sequence, head.sequence
            ));
            continue;
        }
        let mac =
            if head.sequence == 0 { Ok(Some([0; 32])) } else { store.entry(head.sequence).map(|found| found.map(|found| found.entry.mac)) };
        match mac {
            Ok(Some(mac)) if mac == head.mac => (),
            Ok(_) => part.fault(format!(
                "entry {} is another than when its head was noted: the history was written anew, or the head is another store's",
                head.sequence
            )),
            Err(error) => part.fault(error.to_string()),
        }
    }
    part
}

/// Keys that the index showed otherwise are looked at again, as they are then. Those whose change the disk refused are as they should be.
fn index_part(catalog: &Catalog, suspects: &[KeyId], (secrets, tail): (u64, Head)) -> Part {
    let Catalog { store, index, .. } = catalog;
    let mut part = Part::new("index", "secrets");
    part.checked = secrets;
    let begun = Watch::now();
    let mut waits = LOOKS_AGAIN;
    for &id in suspects {
        let agrees = || matches!(store.key(id), Ok(Some(key)) if index.shows(&key));
        while !agrees() && waits > 0 {
            waits -= 1;
            std::thread::sleep(BETWEEN_LOOKS);
        }
        if !agrees() {
            part.fault(format!("{id} is verified otherwise than the store has it"));
        }
    }
    // The number can be told only while nothing changes. The last change may be under way to the index.
    let other = || catalog.sequence() == tail.sequence && index.secrets() as u64 != secrets;
    while other() && waits > 0 {
        waits -= 1;
        std::thread::sleep(BETWEEN_LOOKS);
    }
    if other() {
        part.fault(format!("{} secrets are verified, but the store has {secrets}", index.secrets()));
    }
    let held = store.held();
    if held > 0 {
        part.note = Some(format!("{held} keys are revoked, disabled or deleted in memory only, since the disk refused that"));
    }
    part.took = begun.elapsed();
    part
}
