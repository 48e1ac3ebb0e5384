use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::key::{Instant, KeyId, Rules, Standing};

/// What the index knows of one secret, in one piece of memory: a head of one cache line, the key's rules, the key's account. A verify that
/// has the address of it waits for memory once, not once for each part.
///
/// A record never changes. A change makes another, whose address takes the place of this one's (RCU: McKenney, 'Is parallel programming
/// hard', chapter 9.5); readers that have this one keep it for as long as they are pinned.
#[derive(Clone, Copy)]
pub(super) struct Record<'g> {
    head: NonNull<Head>,
    read_under: PhantomData<&'g ()>,
}

/// The first 128 bits of a digest: the most that RFC 2104 section 5 asks of a truncated HMAC-SHA-256.
pub(super) type Words = [u64; 2];

#[repr(C)]
struct Head {
    digest: Words,
    id: KeyId,
    not_before: i64,
    expires_at: i64,
    retires_at: i64,
    rules_bytes: u32,
    version: u16,
    flags: u8,
    account_bytes: u8,
}

const HEAD_BYTES: usize = 64;
const _: () = assert!(size_of::<Head>() == HEAD_BYTES);
const _: () = assert!(crate::key::limits::ACCOUNT_BYTES <= u8::MAX as usize);

const DELETED: u8 = 1;
const REVOKED: u8 = 2;
const DISABLED: u8 = 4;
/// Stands for no instant; those that a key can carry are not negative.
const NEVER: i64 = i64::MIN;

impl Record<'static> {
    /// Makes a record, which lives until [`Record::free`].
    pub(super) fn make(digest: Words, id: KeyId, version: u16, standing: &Standing, rules: &Rules, account: &str) -> Record<'static> {
        let Standing { deleted, revoked, disabled, not_before, expires_at, retires_at } = *standing;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let milliseconds = |instant: Option<Instant>| instant.map_or(NEVER, |instant| instant.0);
        let head = Head {
            digest,
            id,
            not_before: milliseconds(not_before),
            expires_at: milliseconds(expires_at),
            retires_at: milliseconds(retires_at),
            rules_bytes: rules.bytes().len() as u32,
            version,
            flags: flag(deleted, DELETED) | flag(revoked, REVOKED) | flag(disabled, DISABLED),
            account_bytes: account.len() as u8,
        };
        let layout = head.layout();
        // SAFETY: the layout is not empty, and all of it is written: the head, then the rules, then the account.
        unsafe {
            let Some(place) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            let rules_place = place.add(HEAD_BYTES);
            rules_place.copy_from_nonoverlapping(NonNull::from(rules.bytes()).cast(), rules.bytes().len());
            rules_place.add(rules.bytes().len()).copy_from_nonoverlapping(NonNull::from(account).cast(), account.len());
            place.cast().write(head);
            Record { head: place.cast(), read_under: PhantomData }
        }
    }
}

impl<'g> Record<'g> {
    /// The record at an address.
    ///
    /// # Safety
    /// [`Record::address`] gave the address, and the record is not freed while `'g` lasts.
    pub(super) unsafe fn at(address: usize) -> Record<'g> {
        // SAFETY: an address of a record is not null.
        let head = unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address)) };
        Record { head, read_under: PhantomData }
    }

    pub(super) fn address(self) -> usize {
        self.head.as_ptr().expose_provenance()
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// Nobody reads the record any more, and it is freed once.
    pub(super) unsafe fn free(self) {
        let layout = self.head().layout();
        // SAFETY: `make` allocated it by this layout.
        unsafe { dealloc(self.head.as_ptr().cast(), layout) }
    }

    pub(super) fn digest(self) -> Words {
        self.head().digest
    }

    pub(super) fn id(self) -> KeyId {
        self.head().id
    }

    pub(super) fn version(self) -> u16 {
        self.head().version
    }

    pub(super) fn standing(self) -> Standing {
        let head = self.head();
        let instant = |milliseconds: i64| (milliseconds != NEVER).then_some(Instant(milliseconds));
        Standing {
            deleted: head.flags & DELETED != 0,
            revoked: head.flags & REVOKED != 0,
            disabled: head.flags & DISABLED != 0,
            not_before: instant(head.not_before),
            expires_at: instant(head.expires_at),
            retires_at: instant(head.retires_at),
        }
    }

    pub(super) fn rules(self) -> &'g Rules {
        Rules::from_bytes(self.behind_head(0, self.head().rules_bytes as usize))
    }

    pub(super) fn account(self) -> &'g str {
        let head = self.head();
        let bytes = self.behind_head(head.rules_bytes as usize, head.account_bytes as usize);
        // SAFETY: `make` copied them from a `str`.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }

    /// Bytes of memory.
    pub(super) fn bytes(self) -> usize {
        self.head().layout().size()
    }

    fn head(self) -> &'g Head {
        // SAFETY: `make` wrote it, and nobody changes it while `'g` lasts.
        unsafe { self.head.as_ref() }
    }

    fn behind_head(self, from: usize, length: usize) -> &'g [u8] {
        // SAFETY: `make` wrote so many bytes behind the head, and nobody changes them while `'g` lasts.
        unsafe { std::slice::from_raw_parts(self.head.as_ptr().cast::<u8>().add(HEAD_BYTES + from), length) }
    }
}

impl Head {
    fn layout(&self) -> Layout {
        let bytes = HEAD_BYTES + self.rules_bytes as usize + usize::from(self.account_bytes);
        Layout::from_size_align(bytes, align_of::<Head>()).expect("rules within their limits")
    }
}
