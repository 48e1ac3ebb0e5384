//! A look at everything that the store holds: that it can be read, and that its parts say the same.

use std::time::{Duration, Instant as Watch};

use rocksdb::{DBRawIterator, ReadOptions, Snapshot};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::history::{ENTRY, OF_FUNCTION, OF_KEY, entry_row, subject_row};
use super::keys::{LIVE, READAHEAD_BYTES, TOMBSTONE, name_row_of, named_by};
use super::{Family, Head, PepperMarks, Recorded, Remembered, Store, StoreError, UsageMark, disk_error, meta, record, usage, witness};
use crate::key::history::{Entry, Subject};
use crate::key::{FunctionName, Grant, Instant, Key, KeyId};
use crate::record::StoredFunction;

/// Faults of one part that are told; the others are counted.
const FAULTS_TOLD: usize = 100;
/// Rows between two reports of progress.
const ROWS_BETWEEN_REPORTS: u64 = 4096;

/// A part of a check: what was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// What it is, in a word.
    pub name: &'static str,
    /// How much was looked at: rows, entries, or what `unit` says.
    pub checked: u64,
    /// What is counted.
    pub unit: &'static str,
    /// What is wrong, a sentence each; at most 100.
    pub faults: Vec<String>,
    /// How many faults more there are.
    pub more_faults: u64,
    /// What the reader should know besides.
    pub note: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The part that is looked at.
    pub part: &'static str,
    /// Rows of it so far.
    pub done: u64,
    /// About how many there are.
    pub about: u64,
}

/// What a check shows while it goes, and asks.
pub trait Checker {
    /// A key, as the store has it.
    fn key(&mut self, key: &Key);
    /// An entry of the history, in order.
    fn entry(&mut self, recorded: &Recorded);
    /// How far it has come; whether it is to go on.
    fn progress(&mut self, progress: Progress) -> bool;
}

/// The check was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl Part {
    /// A part of which nothing was looked at yet.
    pub fn new(name: &'static str, unit: &'static str) -> Part {
        Part { name, unit, ..Part::default() }
    }

    /// Notes what is wrong.
    pub fn fault(&mut self, fault: impl Into<String>) {
        if self.faults.len() < FAULTS_TOLD {
            self.faults.push(fault.into());
        } else {
            self.more_faults += 1;
        }
    }
}

impl Store {
    /// Reads every row of the store with its checksum, as it is at this moment, and holds the parts against one another: keys against names, history and
    /// functions; the history's numbers and its end; the file `acknowledged`. Changes may go on meanwhile.
    ///
    /// # Errors
    /// The checker said to stop. What is wrong with the store is no error but a part's fault.
    pub fn check(&self, checker: &mut dyn Checker) -> Result<Vec<Part>, Stopped> {
        let acknowledged = self.0.witness.lock().acknowledged();
        let look = Look { store: self, snapshot: self.0.db.snapshot() };
        let mut parts = Vec::new();
        let mut functions = Vec::new();
        parts.push(timed(|| look.functions(checker, &mut functions))?);
        functions.sort_unstable();
        let mut names = Sum::default();
        parts.push(timed(|| look.keys(checker, &functions, &mut names))?);
        let mut found = Sum::default();
        let mut part = timed(|| look.names(checker, &mut found))?;
        if part.faults.is_empty() && parts[1].faults.is_empty() && names != found {
            look.differing_names(&mut part);
        }
        parts.push(part);
        let (mut end, mut subjects) = (Head::default(), Sum::default());
        parts.push(timed(|| look.history(checker, &mut end, &mut subjects))?);
        parts.push(timed(|| look.subjects(checker, subjects))?);
        parts.push(timed(|| look.meta(checker, end))?);
        parts.push(timed(|| look.usage(checker))?);
        parts.push(timed(|| Ok(look.acknowledged(acknowledged, end)))?);
        Ok(parts)
    }
}

fn timed(look: impl FnOnce() -> Result<Part, Stopped>) -> Result<Part, Stopped> {
    let begun = Watch::now();
    let mut part = look()?;
    part.took = begun.elapsed();
    Ok(part)
}

/// A sum over rows in any order: two sets of rows are the same if their sums are, but for a chance of 2^-128. Adding is what makes the order
/// not matter; each row is hashed before.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sum(u128);

impl Sum {
    fn add(&mut self, row: &[u8], value: &[u8]) {
        use std::hash::Hasher;
        let mut hasher = SipHasher13::new();
        hasher.write_usize(row.len());
        hasher.write(row);
        hasher.write(value);
        self.0 = self.0.wrapping_add(hasher.finish128().as_u128());
    }
}

/// The store at one moment.
struct Look<'s> {
    store: &'s Store,
    snapshot: Snapshot<'s>,
}

impl Look<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        options
    }

    fn get(&self, family: Family, row: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        let Some(handle) = self.store.0.db.cf_handle(family.name()) else { return Ok(None) };
        self.store.0.db.get_cf_opt(handle, row, &options).map_err(|error| disk_error("cannot read the store", error))
    }

    /// The rows of a family from one on; none of a family that a store of an older doorward lacks.
    fn rows(&self, family: Family, from: &[u8]) -> Option<DBRawIterator<'_>> {
        let handle = self.store.0.db.cf_handle(family.name())?;
        let mut rows = self.store.0.db.raw_iterator_cf_opt(handle, self.options());
        rows.seek(from);
        Some(rows)
    }

    fn about(&self, family: Family) -> u64 {
        let handle = self.store.0.db.cf_handle(family.name());
        let estimate = handle.and_then(|handle| self.store.0.db.property_int_value_cf(handle, rocksdb::properties::ESTIMATE_NUM_KEYS).ok());
        estimate.flatten().unwrap_or(0)
    }

    /// Shows every row of a family under a prefix. What RocksDB refuses to read is a fault, and ends this part.
    fn each(
        &self,
        family: Family,
        prefix: &[u8],
        part: &mut Part,
        checker: &mut dyn Checker,
        mut visit: impl FnMut(&mut Part, &mut dyn Checker, &[u8], &[u8]),
    ) -> Result<(), Stopped> {
        let Some(mut rows) = self.rows(family, prefix) else {
            part.note = Some("a store of an older doorward, without these".to_owned());
            return Ok(());
        };
        let about = self.about(family);
        while let Some((row, value)) = rows.item() {
            if !row.starts_with(prefix) {
                break;
            }
            if part.checked.is_multiple_of(ROWS_BETWEEN_REPORTS)
                && !checker.progress(Progress { part: part.name, done: part.checked, about })
            {
                return Err(Stopped);
            }
            part.checked += 1;
            visit(part, checker, row, value);
            rows.next();
        }
        if let Err(error) = rows.status() {
            part.fault(format!("cannot be read on from here: {}", error.into_string()));
        }
        Ok(())
    }

    fn functions(&self, checker: &mut dyn Checker, registered: &mut Vec<FunctionName>) -> Result<Part, Stopped> {
        let mut part = Part::new("functions", "functions");
        let mut names = Vec::new();
        self.each(Family::Functions, &[], &mut part, checker, |part, _, row, value| {
            match record::decode::<StoredFunction>(Family::Functions, row, value) {
                Err(error) => part.fault(error.to_string()),
                Ok(stored) => {
                    if stored.function.id.0.to_be_bytes() != row {
                        part.fault(format!("the function {} stands in another's row", stored.function.name));
                    }
                    if stored.removed_at.is_none() {
                        registered.push(stored.function.name.clone());
                    }
                    names.push(stored.function.name);
                }
            }
        })?;
        names.sort_unstable();
        names.windows(2).filter(|pair| pair[0] == pair[1]).for_each(|pair| part.fault(format!("the function {} is there twice", pair[0])));
        Ok(part)
    }

    /// Each key, with the number of its entries in the history, which is its revision.
    fn keys(&self, checker: &mut dyn Checker, functions: &[FunctionName], names: &mut Sum) -> Result<Part, Stopped> {
        let mut part = Part::new("keys", "keys");
        let mut entries = self.rows(Family::History, &[OF_KEY]);
        self.each(Family::Keys, &[], &mut part, checker, |part, checker, row, value| {
            let key: Key = match record::decode(Family::Keys, row, value) {
                Ok(key) => key,
                Err(error) => return part.fault(error.to_string()),
            };
            if key.id.0 != row {
                part.fault(format!("{} stands in another key's row", key.id));
            }
            if key.secrets.is_empty() || key.secrets.iter().zip(1..).any(|(secret, version)| secret.version != version) {
                part.fault(format!("{}: its secrets are not numbered from 1 without a gap", key.id));
            }
            for grant in &key.settings.grants {
                if let Grant::Exact(name) = grant
                    && functions.binary_search(name).is_err()
                {
                    part.fault(format!("{} grants {name}, which is not registered", key.id));
                }
            }
            let counted = entries.as_mut().map_or(0, |entries| count_entries(part, entries, key.id));
            if counted != key.revision {
                part.fault(format!("{} is at revision {}, but the history has {counted} entries of it", key.id, key.revision));
            }
            let (name, value) = name_row_of(&key);
            names.add(&name, &value);
            checker.key(&key);
        })?;
        if part.faults.is_empty()
            && let Some(mut entries) = entries
        {
            count_entries(&mut part, &mut entries, KeyId([0xff; 16]));
        }
        Ok(part)
    }

    fn names(&self, checker: &mut dyn Checker, names: &mut Sum) -> Result<Part, Stopped> {
        let mut part = Part::new("names", "names");
        self.each(Family::Names, &[], &mut part, checker, |part, _, row, value| {
            if !row.first().is_some_and(|kind| [LIVE, TOMBSTONE].contains(kind)) {
                part.fault(format!("row {} is neither a key's name nor a tombstone's", hex(row)));
            }
            names.add(row, value);
        })?;
        Ok(part)
    }

    /// Which names and keys do not belong together: looked for one by one, once it is known that there are some.
    fn differing_names(&self, part: &mut Part) {
        for key in self.store.keys(None).flatten() {
            let (row, value) = name_row_of(&key);
            if self.get(Family::Names, &row).ok().flatten().as_deref() != Some(value.as_slice()) {
                part.fault(format!("{} ({}/{}) is not found by its name", key.id, key.settings.account, key.settings.name));
            }
        }
        let Some(mut rows) = self.rows(Family::Names, &[]) else { return };
        while let Some((row, value)) = rows.item() {
            let id = if row[0] == LIVE { value } else { &row[row.len().saturating_sub(16)..] };
            let key = id.try_into().ok().and_then(|id| self.store.key(KeyId(id)).ok().flatten());
            if key.is_none_or(|key| name_row_of(&key).0 != row) {
                part.fault(format!("the name '{}' leads to no key of that name", named_by(row)));
            }
            rows.next();
        }
        if part.faults.is_empty() {
            part.fault("names and keys do not belong together");
        }
    }

    /// The entries: none missing between the first and the last, each in its own row.
    fn history(&self, checker: &mut dyn Checker, end: &mut Head, subjects: &mut Sum) -> Result<Part, Stopped> {
        let mut part = Part::new("history", "entries");
        self.each(Family::History, &[ENTRY], &mut part, checker, |part, checker, row, value| {
            let entry: Entry = match record::decode(Family::History, row, value) {
                Ok(entry) => entry,
                Err(error) => return part.fault(error.to_string()),
            };
            if entry_row(entry.sequence) != row {
                part.fault(format!("entry {} stands in another entry's row", entry.sequence));
            }
            if entry.sequence != end.sequence + 1 {
                part.fault(format!("entry {} follows entry {}: what was between is missing", entry.sequence, end.sequence));
            }
            *end = Head { sequence: entry.sequence, mac: entry.mac };
            subjects.add(&subject_row(&entry.subject, entry.sequence), &[]);
            checker.entry(&Recorded { entry, record: value.to_vec() });
        })?;
        Ok(part)
    }

    /// The rows by which entries are found from their key or function.
    fn subjects(&self, checker: &mut dyn Checker, expected: Sum) -> Result<Part, Stopped> {
        let mut part = Part::new("history by subject", "rows");
        let mut found = Sum::default();
        for prefix in [OF_FUNCTION, OF_KEY] {
            self.each(Family::History, &[prefix], &mut part, checker, |_, _, row, value| found.add(row, value))?;
        }
        if part.faults.is_empty() && found != expected {
            self.differing_subjects(&mut part);
        }
        Ok(part)
    }

    fn differing_subjects(&self, part: &mut Part) {
        let lost = self.store.each_entry(1..=u64::MAX, |recorded| {
            let entry = &recorded.entry;
            if !matches!(self.get(Family::History, &subject_row(&entry.subject, entry.sequence)), Ok(Some(_))) {
                part.fault(format!("entry {} is not found from {}", entry.sequence, subject(&entry.subject)));
            }
        });
        if lost.is_err() || part.faults.is_empty() {
            part.fault("entries and the rows by which they are found do not belong together");
        }
    }

    fn meta(&self, checker: &mut dyn Checker, end: Head) -> Result<Part, Stopped> {
        let mut part = Part::new("meta", "rows");
        let mut head = Head::default();
        self.each(Family::Meta, &[], &mut part, checker, |part, _, row, value| {
            let family = Family::Meta;
            let read = match row {
                meta::HEAD => record::decode::<Head>(family, row, value).map(|found| head = found),
                meta::PEPPERS => record::decode::<PepperMarks>(family, row, value).map(drop),
                meta::STORE_ID => record::decode::<[u8; 16]>(family, row, value).map(drop),
                meta::TIME_FLOOR => record::decode::<Instant>(family, row, value).map(drop),
                meta::TIME_FLOOR_BOOT => record::decode::<([u8; 16], u64)>(family, row, value).map(drop),
                meta::USAGE_ROLLED => usage::check_marks(value),
                meta::USAGE_WRITTEN => record::decode::<UsageMark>(family, row, value).map(drop),
                row if row.starts_with(meta::REQUEST) => record::decode::<Remembered>(family, row, value).map(|remembered| {
                    if !matches!(self.get(Family::Keys, &remembered.key.0), Ok(Some(_))) {
                        part.fault(format!("a request id was used for {}, which is not there", remembered.key));
                    }
                }),
                _ => Ok(()),
            };
            if let Err(error) = read {
                part.fault(error.to_string());
            }
        })?;
        if head != end {
            part.fault(format!("the head of the history is entry {}, but the last entry that is there is {}", head.sequence, end.sequence));
        }
        Ok(part)
    }

    fn usage(&self, checker: &mut dyn Checker) -> Result<Part, Stopped> {
        let mut part = Part::new("usage", "rows");
        self.each(Family::Usage, &[], &mut part, checker, |part, _, row, value| {
            if let Err(error) = usage::check_row(row, value) {
                part.fault(error.to_string());
            }
        })?;
        Ok(part)
    }

    /// The second place, as it was just before this look: what was acknowledged by then is in it.
    fn acknowledged(&self, acknowledged: Option<Head>, end: Head) -> Part {
        let mut part = Part::new("acknowledged", "heads");
        match acknowledged {
            None if end.sequence == 0 => (),
            None => {
                let file = self.store.path().join(witness::FILE);
                part.fault(format!("{} is missing, or neither of its two halves can be read", file.display()));
            }
            Some(head) => {
                part.checked = 1;
                let mac = match head.sequence {
                    0 => Some([0; 32]),
                    sequence => self.store.entry(sequence).ok().flatten().map(|recorded| recorded.entry.mac),
                };
                if head.sequence > end.sequence {
                    let (acknowledged, found, damage) = (head.sequence, end.sequence, &self.store.0.end_damage);
                    part.fault(format!("change {acknowledged} was acknowledged, but the history ends at entry {found}; {damage}"));
                } else if mac != Some(head.mac) {
                    part.fault(format!("entry {} is not the one that was acknowledged", head.sequence));
                }
            }
        }
        if let Some(damage) = self.store.lost_usage() {
            part.fault(format!("usage that was in the store is missing; {damage}"));
        }
        part
    }
}

/// Counts the rows of a key's entries, and finds fault with those of keys before it, which are not there.
fn count_entries(part: &mut Part, entries: &mut DBRawIterator<'_>, id: KeyId) -> u64 {
    let mut counted = 0;
    while let Some(row) = entries.key() {
        let of = row.strip_prefix(&[OF_KEY]).and_then(|rest| rest.split_at_checked(16));
        let Some((of, _)) = of.filter(|(of, _)| *of <= &id.0[..]) else { break };
        if of == id.0 {
            counted += 1;
        } else {
            part.fault(format!("the history has an entry of {}, which is not among the keys", KeyId(of.try_into().unwrap_or_default())));
        }
        entries.next();
    }
    counted
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Key(id) => id.to_string(),
        Subject::Function(name) => name.to_string(),
    }
}

fn hex(row: &[u8]) -> String {
    row.iter().take(64).map(|byte| format!("{byte:02x}")).collect()
}
