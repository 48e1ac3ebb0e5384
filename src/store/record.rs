use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use super::{Family, StoreError};

/// The format of every record that is written now; the first byte of each.
pub(super) const FORMAT: u8 = 1;
/// No record is longer: the largest key there can be (all limits reached) takes about 200 KiB, and an entry of its edit twice that.
const RECORD_BYTES: usize = 4 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<RECORD_BYTES>> = bincode::config::standard().with_limit::<RECORD_BYTES>();

/// A record: the format's number, then bincode's standard encoding.
pub(super) fn encode(value: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    encode_to(&mut bytes, value);
    bytes
}

/// Writes a record behind what is there.
pub(super) fn encode_to(bytes: &mut Vec<u8>, value: &impl Encode) {
    bytes.push(FORMAT);
    bincode::encode_into_std_write(value, bytes, bincode::config::standard()).expect("a Vec takes every byte");
}

/// Reads a record; `family` and `key` are for the error.
pub(super) fn decode<T: Decode<()>>(family: Family, key: &[u8], record: &[u8]) -> Result<T, StoreError> {
    let error = |reason| record_error(family, key, reason);
    let Some((&format, body)) = record.split_first() else { return Err(error("the record is empty".to_owned())) };
    if format != FORMAT {
        return Err(error(format!("the record is of format {format}; this doorward reads format {FORMAT}, so a newer one wrote it")));
    }
    match bincode::decode_from_slice::<T, _>(body, CONFIG) {
        Ok((value, used)) if used == body.len() => Ok(value),
        Ok((_, used)) => Err(error(format!("{} bytes follow the record", body.len() - used))),
        Err(cause) => Err(error(cause.to_string())),
    }
}

pub(super) fn record_error(family: Family, key: &[u8], reason: String) -> StoreError {
    let key = key.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    StoreError::Record { family: family.name(), key, reason }
}
