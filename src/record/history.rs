use crate::key::history::{Action, Actor, FieldChange, Subject};
use crate::key::{Instant, PepperId};

/// Bytes of an entry's MAC, which are the last of its record.
pub const MAC_BYTES: usize = 32;

/// Appends to `bytes` what of an entry's record does not depend on its place in the history: what stands between its moment and its MAC. It can be
/// made ahead of the entry's turn.
pub fn encode_entry_body(bytes: &mut Vec<u8>, actor: &Actor, action: Action, subject: &Subject, changes: &[FieldChange], pepper: PepperId) {
    super::append(bytes, &(actor, action, subject, changes, pepper));
}

/// Puts an entry's record into `record` in place of what is there: its place in the history, its body, and zeros for its MAC.
pub fn encode_entry(record: &mut Vec<u8>, sequence: u64, at: Instant, body: &[u8]) {
    record.clear();
    record.push(super::FORMAT);
    super::append(record, &(sequence, at));
    record.extend_from_slice(body);
    record.extend_from_slice(&[0; MAC_BYTES]);
}
