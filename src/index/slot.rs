use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::key::{Instant, KeyId, Standing};

/// One secret in one cache line, read without a lock.
///
/// | word | bits 0 to 47 | bits 48 to 63 |
/// | --- | --- | --- |
/// | 0, 1 | the first 128 bits of the digest; word 0 is never 0 in a slot that is taken | |
/// | 2, 3 | the key's id | |
/// | 4 | `not_before` | version |
/// | 5 | `expires_at` | sequence: odd while the slot is being changed |
/// | 6 | `retires_at` | flags |
/// | 7 | number of the rules (32 bits), number of the account (32 bits) | |
///
/// Words 0 to 3 are written once. The others are a sequence lock (Boehm, 'Can seqlocks get along with programming language memory
/// models?', 2012): a reader that sees the same even sequence before and after has read one state. The sequence wraps after 32,768 changes of
/// one key, each of which waits for the disk, so no reader sleeps through a whole turn and lands on equal words.
#[repr(C, align(64))]
#[derive(Default)]
pub(super) struct Slot([AtomicU64; 8]);

const _: () = assert!(size_of::<Slot>() == 64);

/// What a slot says.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    pub(super) id: KeyId,
    pub(super) version: u16,
    pub(super) standing: Standing,
    pub(super) rules: u32,
    pub(super) account: u32,
}

const LOW_48: u64 = (1 << 48) - 1;
const DELETED: u64 = 1;
const REVOKED: u64 = 2;
const DISABLED: u64 = 4;

/// The first 128 bits of a digest; the first word is made not to be zero, which marks an empty slot.
pub(super) fn words(digest: &[u8; 32]) -> [u64; 2] {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
    [word(0).max(1), word(8)]
}

impl Slot {
    pub(super) fn digest(&self) -> [u64; 2] {
        [self.0[0].load(Ordering::Acquire), self.0[1].load(Ordering::Relaxed)]
    }

    /// Reads a slot that is taken.
    pub(super) fn read(&self) -> Fields {
        loop {
            let before = self.0[5].load(Ordering::Acquire);
            let [id_high, id_low, valid, retires, numbers] = [2, 3, 4, 6, 7].map(|word: usize| self.0[word].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let after = self.0[5].load(Ordering::Relaxed);
            if before != after || before >> 48 & 1 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let flags = retires >> 48;
            let standing = Standing {
                deleted: flags & DELETED != 0,
                revoked: flags & REVOKED != 0,
                disabled: flags & DISABLED != 0,
                not_before: unpack(valid),
                expires_at: unpack(before),
                retires_at: unpack(retires),
            };
            let id = KeyId((u128::from(id_high) << 64 | u128::from(id_low)).to_be_bytes());
            return Fields { id, version: (valid >> 48) as u16, standing, rules: numbers as u32, account: (numbers >> 32) as u32 };
        }
    }

    /// Takes an empty slot. Only the writer calls this.
    pub(super) fn take(&self, digest: [u64; 2], fields: &Fields) {
        let id = u128::from_be_bytes(fields.id.0);
        self.0[1].store(digest[1], Ordering::Relaxed);
        self.0[2].store((id >> 64) as u64, Ordering::Relaxed);
        self.0[3].store(id as u64, Ordering::Relaxed);
        self.write(fields);
        self.0[0].store(digest[0], Ordering::Release);
    }

    /// Changes the fields of a slot. Only the writer calls this.
    pub(super) fn write(&self, fields: &Fields) {
        let Fields { version, standing, rules, account, .. } = fields;
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let flags = flag(standing.deleted, DELETED) | flag(standing.revoked, REVOKED) | flag(standing.disabled, DISABLED);
        let old = self.0[5].load(Ordering::Relaxed);
        let sequence = old >> 48;
        self.0[5].store((sequence | 1) << 48 | old & LOW_48, Ordering::Relaxed);
        fence(Ordering::Release);
        self.0[4].store(u64::from(*version) << 48 | pack(standing.not_before), Ordering::Relaxed);
        self.0[6].store(flags << 48 | pack(standing.retires_at), Ordering::Relaxed);
        self.0[7].store(u64::from(*account) << 32 | u64::from(*rules), Ordering::Relaxed);
        self.0[5].store(((sequence + 2) & 0xffff) << 48 | pack(standing.expires_at), Ordering::Release);
    }
}

/// An optional instant in 48 bits: 0 for none, else its milliseconds and one. (The year 9999 fits, by the limit on instants.)
fn pack(instant: Option<Instant>) -> u64 {
    instant.map_or(0, |instant| instant.0.clamp(0, crate::key::limits::INSTANT_MS) as u64 + 1)
}

fn unpack(word: u64) -> Option<Instant> {
    (word & LOW_48).checked_sub(1).map(|ms| Instant(ms as i64))
}

const _: () = assert!(crate::key::limits::INSTANT_MS < LOW_48 as i64);
