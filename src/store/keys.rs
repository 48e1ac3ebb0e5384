use std::sync::Arc;

use rocksdb::{DBRawIterator, ReadOptions};

use super::held::HeldKeys;
use super::{Family, Store, StoreError, record};
use crate::key::{Key, KeyId};

/// In `names`: keys that are not deleted.
pub(super) const LIVE: u8 = b'L';
/// In `names`: tombstones.
pub(super) const TOMBSTONE: u8 = b'T';
/// Bytes that RocksDB reads ahead where a whole column family is read.
pub(super) const READAHEAD_BYTES: usize = 2 << 20;

/// Keys in the order of their ids, which is that of their creation.
pub struct Keys<'s> {
    store: &'s Store,
    rows: DBRawIterator<'s>,
    held: Arc<HeldKeys>,
    failed: bool,
}

/// Rows of keys: from one row (or the first of all) up to but not with another (or to the last of all).
pub(crate) struct KeyRange {
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
}

impl Store {
    /// The key, deleted or not.
    pub fn key(&self, id: KeyId) -> Result<Option<Key>, StoreError> {
        let held = self.0.held.now();
        if let Some(whole) = held.whole(id) {
            return Ok(Some(whole));
        }
        let record = self.get(Family::Keys, &id.0)?;
        record.map(|record| Ok(held.over(record::decode(Family::Keys, &id.0, &record)?))).transpose()
    }

    /// The key of this name, if it is not deleted.
    pub fn find(&self, account: &str, name: &str) -> Result<Option<KeyId>, StoreError> {
        Ok(self.named(account, name)?.filter(|id| self.0.held.now().deleted_at(*id).is_none()))
    }

    /// The tombstone of this name that was deleted last.
    pub fn find_deleted(&self, account: &str, name: &str) -> Result<Option<KeyId>, StoreError> {
        let mut latest: Option<(i64, KeyId)> = None;
        let held = self.0.held.now();
        if !held.is_empty()
            && let Some(id) = self.named(account, name)?
        {
            latest = held.deleted_at(id).map(|at| (at.0, id));
        }
        let mut prefix = name_row(TOMBSTONE, account, name);
        prefix.push(0);
        self.each_row(Family::Names, &prefix, |row, value| {
            let id = key_id(row, &row[prefix.len()..])?;
            let at = i64::from_be_bytes(value.try_into().map_err(|_| name_error(row))?);
            latest = latest.max(Some((at, id)));
            Ok(())
        })?;
        Ok(latest.map(|(_, id)| id))
    }

    /// The key that the files have for this name, as one that is not deleted.
    fn named(&self, account: &str, name: &str) -> Result<Option<KeyId>, StoreError> {
        let row = name_row(LIVE, account, name);
        self.get(Family::Names, &row)?.map(|value| key_id(&row, &value)).transpose()
    }

    /// Keys after this one (or all), tombstones included, in the order of their ids.
    pub fn keys(&self, after: Option<KeyId>) -> Keys<'_> {
        let mut rows = self.0.db.raw_iterator_cf_opt(self.family(Family::Keys), whole_family());
        match after {
            Some(id) => rows.seek(record_after(&id.0)),
            None => rows.seek_to_first(),
        }
        Keys { store: self, rows, held: self.0.held.now(), failed: false }
    }

    /// An account's keys, tombstones included, in the order of their ids.
    pub fn ids_of_account(&self, account: &str) -> Result<Vec<KeyId>, StoreError> {
        let mut ids = Vec::new();
        self.each_row(Family::Names, &account_rows(LIVE, account), |row, value| {
            ids.push(key_id(row, value)?);
            Ok(())
        })?;
        self.each_row(Family::Names, &account_rows(TOMBSTONE, account), |row, _| {
            ids.push(key_id(row, &row[row.len().saturating_sub(16)..])?);
            Ok(())
        })?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// As `keys`, of one account.
    pub fn keys_of_account(
        &self,
        account: &str,
        after: Option<KeyId>,
    ) -> Result<impl Iterator<Item = Result<Key, StoreError>>, StoreError> {
        let ids = self.ids_of_account(account)?;
        let first = after.map_or(0, |after| ids.partition_point(|id| *id <= after));
        let store = self.clone();
        Ok(ids.into_iter().skip(first).filter_map(move |id| store.key(id).transpose()))
    }

    /// About how many keys there are, tombstones included.
    pub(crate) fn about_keys(&self) -> usize {
        let rows = self.0.db.property_int_value_cf(self.family(Family::Keys), rocksdb::properties::ESTIMATE_NUM_KEYS);
        rows.ok().flatten().unwrap_or(0) as usize
    }

    /// Ranges of rows that hold all keys between them, to read at the same time. They are cut where table files begin, so those of a large store
    /// take about as long as one another.
    pub(crate) fn key_ranges(&self) -> Result<Vec<KeyRange>, StoreError> {
        let files = self.0.db.live_files().map_err(|error| self.cannot_read("cannot list the table files", error))?;
        let of_keys = files.into_iter().filter(|file| file.column_family_name == Family::Keys.name());
        let mut cuts: Vec<Vec<u8>> = of_keys.filter_map(|file| file.start_key).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let begins = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
        let ends = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
        Ok(begins.zip(ends).map(|(from, to)| KeyRange { from, to }).collect())
    }

    /// The keys of a range, tombstones included, in the order of their ids.
    pub(crate) fn keys_in(&self, range: &KeyRange) -> Keys<'_> {
        let mut options = whole_family();
        if let Some(to) = &range.to {
            options.set_iterate_upper_bound(to.clone());
        }
        let mut rows = self.0.db.raw_iterator_cf_opt(self.family(Family::Keys), options);
        match &range.from {
            Some(from) => rows.seek(from),
            None => rows.seek_to_first(),
        }
        Keys { store: self, rows, held: self.0.held.now(), failed: false }
    }

    /// Shows every row whose key begins with `prefix`.
    pub(super) fn each_row(
        &self,
        family: Family,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = self.0.db.raw_iterator_cf(self.family(family));
        rows.seek(prefix);
        while let Some((row, value)) = rows.item() {
            if !row.starts_with(prefix) {
                break;
            }
            visit(row, value)?;
            rows.next();
        }
        rows.status().map_err(|error| self.cannot_read("cannot read the store", error))
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<Key, StoreError>;

    fn next(&mut self) -> Option<Result<Key, StoreError>> {
        if self.failed {
            return None;
        }
        let Some((row, record)) = self.rows.item() else {
            self.failed = true;
            return self.rows.status().err().map(|error| Err(self.store.cannot_read("cannot read the keys", error)));
        };
        let key = record::decode(Family::Keys, row, record);
        self.failed = key.is_err();
        self.rows.next();
        Some(key.map(|key| self.held.over(key)))
    }
}

/// How a whole column family is read: ahead, and past the cache, which it would only sweep.
fn whole_family() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD_BYTES);
    options
}

/// Where a name stands in `names`: neither an account nor a name holds a control character, so a zero separates them.
pub(super) fn name_row(kind: u8, account: &str, name: &str) -> Vec<u8> {
    [&[kind][..], account.as_bytes(), &[0], name.as_bytes()].concat()
}

/// A key's row in `names`, and its value: by its name while it lives, by its name and id as a tombstone.
pub(super) fn name_row_of(key: &Key) -> (Vec<u8>, Vec<u8>) {
    let settings = &key.settings;
    match key.deleted_at {
        None => (name_row(LIVE, &settings.account, &settings.name), key.id.0.to_vec()),
        Some(at) => {
            let mut row = name_row(TOMBSTONE, &settings.account, &settings.name);
            row.push(0);
            row.extend_from_slice(&key.id.0);
            (row, at.0.to_be_bytes().to_vec())
        }
    }
}

/// `account/name` of a row in `names`, for a person.
pub(super) fn named_by(row: &[u8]) -> String {
    let mut parts = row.get(1..).unwrap_or_default().splitn(3, |byte| *byte == 0);
    let mut part = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    format!("{}/{}", part(), part())
}

fn account_rows(kind: u8, account: &str) -> Vec<u8> {
    let mut row = vec![kind];
    row.extend_from_slice(account.as_bytes());
    row.push(0);
    row
}

fn key_id(row: &[u8], bytes: &[u8]) -> Result<KeyId, StoreError> {
    Ok(KeyId(bytes.try_into().map_err(|_| name_error(row))?))
}

fn name_error(row: &[u8]) -> StoreError {
    record::record_error(Family::Names, row, "the row does not hold a key's id where it should".to_owned())
}

/// The first possible row behind this one.
fn record_after(row: &[u8]) -> Vec<u8> {
    let mut after = row.to_vec();
    after.push(0);
    after
}
