use bincode::Decode;

use super::{Family, StoreError};

pub(super) use crate::record::{encode, encode_into};

/// Reads a record; `family` and `key` are for the error.
pub(super) fn decode<T: Decode<()>>(family: Family, key: &[u8], record: &[u8]) -> Result<T, StoreError> {
    crate::record::decode(record).map_err(|error| record_error(family, key, error.to_string()))
}

pub(super) fn record_error(family: Family, key: &[u8], reason: String) -> StoreError {
    let key = key.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    StoreError::Record { family: family.name(), key, reason }
}
