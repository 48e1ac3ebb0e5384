use super::Event;
use super::slot::Slot;
use crate::key::{Country, Instant, KeyId, Verdict, limits};
use std::net::IpAddr;

/// Denials that each lane keeps.
pub(super) const KEPT: usize = 256;

/// A verify that was answered with anything but `ok`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// When.
    pub at: Instant,
    /// Why.
    pub verdict: Verdict,
    /// Whose token it was; [`KeyId::NONE`] for one that no key has.
    pub key: KeyId,
    /// Which of the key's secrets.
    pub version: u16,
    /// What was called, registered or not.
    pub function: String,
    /// From where.
    pub address: Option<IpAddr>,
    /// And from which country.
    pub country: Option<Country>,
}

/// A denial in a form of fixed size.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    row: Slot,
    name: [u8; limits::FUNCTION_BYTES],
    name_length: u8,
}

/// The latest denials of a lane, in a ring.
pub(super) struct Latest {
    kept: Box<[Kept]>,
    /// All so far; the next goes to this place, modulo the ring.
    count: usize,
}

impl Latest {
    pub(super) fn new() -> Latest {
        let kept = Box::<[Kept]>::new_zeroed_slice(KEPT);
        // SAFETY: integers throughout, for which zero bytes are a value.
        Latest { kept: unsafe { kept.assume_init() }, count: 0 }
    }

    pub(super) fn keep(&mut self, event: &Event<'_>) {
        let kept = &mut self.kept[self.count % KEPT];
        let length = event.function_name.len().min(limits::FUNCTION_BYTES);
        kept.row = Slot::event(event);
        kept.name[..length].copy_from_slice(&event.function_name.as_bytes()[..length]);
        kept.name_length = length as u8;
        self.count += 1;
    }

    pub(super) fn copy(&self, copies: &mut Vec<Kept>) {
        copies.extend_from_slice(&self.kept[..self.count.min(KEPT)]);
    }
}

impl Kept {
    pub(super) fn at(&self) -> Instant {
        self.row.last_at()
    }

    pub(super) fn denial(&self) -> Denial {
        Denial {
            at: self.row.last_at(),
            verdict: self.row.verdict(),
            key: self.row.key(),
            version: self.row.version(),
            function: String::from_utf8_lossy(&self.name[..usize::from(self.name_length)]).into_owned(),
            address: self.row.address(),
            country: self.row.country(),
        }
    }
}
