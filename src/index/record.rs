use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::shared::SharedRules;
use super::{ADDRESS_BITS, Words};
use crate::key::{Instant, KeyId, Rules, Standing};

/// What the index knows of one secret: a head of one cache line, the key's account behind it, and the address of the key's rules, which keys
/// with the same rules share.
///
/// A record never changes, but for where its token was seen. A change makes another, whose address takes the place of this one's (RCU:
/// McKenney, 'Is parallel programming hard', chapter 9.5); readers that have this one keep it for as long as they are pinned.
#[derive(Clone, Copy)]
pub(super) struct Record<'g> {
    head: NonNull<Head>,
    read_under: PhantomData<&'g ()>,
}

#[repr(C)]
struct Head {
    digest: Words,
    id: KeyId,
    not_before: Low48,
    expires_at: Low48,
    retires_at: Low48,
    rules: Low48,
    version: u16,
    flags: u8,
    account_bytes: u8,
    seen: AtomicU32,
}

const HEAD_BYTES: usize = 64;
const _: () = assert!(size_of::<Head>() == HEAD_BYTES);
const _: () = assert!(crate::key::limits::ACCOUNT_BYTES <= u8::MAX as usize);

/// The lower 48 bits of a number: of an address, or of milliseconds.
type Low48 = [u8; 6];

const DELETED: u8 = 1;
const REVOKED: u8 = 2;
const DISABLED: u8 = 4;
/// Stands for no instant. Those that a key can carry are not negative, and fit.
pub(super) const NEVER: u64 = (1 << 48) - 1;
const _: () = assert!((crate::key::limits::INSTANT_MS as u64) < NEVER);

/// A record that nobody can reach yet, and that gets its rules when it is published. If it is not, its memory is given back.
pub(super) struct Unpublished(Record<'static>);

impl Unpublished {
    /// Makes one without rules.
    pub(super) fn make(digest: Words, id: KeyId, version: u16, standing: &Standing, account: &str) -> Unpublished {
        let Standing { deleted, revoked, disabled, not_before, expires_at, retires_at } = *standing;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let head = Head {
            digest,
            id,
            not_before: low48(milliseconds(not_before)),
            expires_at: low48(milliseconds(expires_at)),
            retires_at: low48(milliseconds(retires_at)),
            rules: low48(0),
            version,
            flags: flag(deleted, DELETED) | flag(revoked, REVOKED) | flag(disabled, DISABLED),
            // More bytes are written behind the head than it says there are, if this is cut short.
            account_bytes: u8::try_from(account.len()).expect("an account is within its limit"),
            seen: AtomicU32::new(0),
        };
        let layout = head.layout();
        // SAFETY: the layout is not empty, and all of it is written: the head, then the account.
        unsafe {
            let Some(place) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            place.add(HEAD_BYTES).copy_from_nonoverlapping(NonNull::from(account).cast(), account.len());
            place.cast().write(head);
            Unpublished(Record { head: place.cast(), read_under: PhantomData })
        }
    }

    /// The record with its rules, which lives until [`Record::free`].
    pub(super) fn with(self, rules: SharedRules<'_>) -> Record<'static> {
        let record = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: `make` wrote the head, and nobody else has it yet.
        unsafe { (*record.head.as_ptr()).rules = low48(rules.address()) };
        record
    }

    pub(super) fn digest(&self) -> Words {
        self.0.digest()
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        // SAFETY: nobody else has it, and it is not kept behind this.
        unsafe { self.0.free() };
    }
}

impl<'g> Record<'g> {
    /// The record at an address.
    ///
    /// # Safety
    /// [`Record::address`] gave the address, and the record is not freed while `'g` lasts.
    pub(super) unsafe fn at(address: u64) -> Record<'g> {
        // SAFETY: an address of a record is not null.
        let head = unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address as usize)) };
        Record { head, read_under: PhantomData }
    }

    /// Where it is, in at most [`ADDRESS_BITS`] bits.
    pub(super) fn address(self) -> u64 {
        short(self.head.as_ptr().expose_provenance())
    }

    /// Gives the memory back, but for the rules.
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

    /// The bits of [`Record::standing`] that are not instants.
    pub(super) fn flags(self) -> u8 {
        self.head().flags
    }

    /// `not_before`, `expires_at` and `retires_at` in the form of [`standing`].
    pub(super) fn instants(self) -> [u64; 3] {
        let Head { not_before, expires_at, retires_at, .. } = self.head();
        [number(not_before), number(expires_at), number(retires_at)]
    }

    pub(super) fn standing(self) -> Standing {
        standing(self.flags(), self.instants())
    }

    pub(super) fn shared_rules(self) -> SharedRules<'g> {
        // SAFETY: `Unpublished::with` was given them, and they are let go only together with the record.
        unsafe { SharedRules::at(number(&self.head().rules)) }
    }

    pub(super) fn rules(self) -> &'g Rules {
        self.shared_rules().rules()
    }

    pub(super) fn account(self) -> &'g str {
        let length = usize::from(self.head().account_bytes);
        // SAFETY: `make` copied so many bytes of a `str` behind the head, and nobody changes them while `'g` lasts.
        unsafe {
            let bytes = std::slice::from_raw_parts(self.head.as_ptr().cast::<u8>().add(HEAD_BYTES), length);
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// Asks for the memory of the record: of its head, and of the account behind it.
    pub(super) fn prefetch(self) {
        let head = self.head.as_ptr();
        [head, head.wrapping_add(1)].into_iter().for_each(|line| super::sightings::fetch(line));
    }

    /// What the token's tag hashes to, if the token was seen; else 0. Only the publisher asks and tells.
    pub(super) fn seen(self) -> u32 {
        self.head().seen.load(Ordering::Relaxed)
    }

    pub(super) fn set_seen(self, hash: u32) {
        self.head().seen.store(hash, Ordering::Relaxed);
    }

    /// Bytes of memory, without the rules.
    pub(super) fn bytes(self) -> usize {
        self.head().layout().size()
    }

    fn head(self) -> &'g Head {
        // SAFETY: `make` wrote it, and nobody changes it while `'g` lasts, but for its one atomic.
        unsafe { self.head.as_ref() }
    }
}

impl Head {
    fn layout(&self) -> Layout {
        let bytes = HEAD_BYTES + usize::from(self.account_bytes);
        Layout::from_size_align(bytes, align_of::<Head>()).expect("an account within its limit")
    }
}

/// Where a secret and its key stand, from the two forms in which records and sightings keep it.
pub(super) fn standing(flags: u8, [not_before, expires_at, retires_at]: [u64; 3]) -> Standing {
    let instant = |milliseconds: u64| (milliseconds != NEVER).then_some(Instant(milliseconds as i64));
    Standing {
        deleted: flags & DELETED != 0,
        revoked: flags & REVOKED != 0,
        disabled: flags & DISABLED != 0,
        not_before: instant(not_before),
        expires_at: instant(expires_at),
        retires_at: instant(retires_at),
    }
}

/// A negative instant, which none of the interfaces takes, is as long ago as the first that is not.
fn milliseconds(instant: Option<Instant>) -> u64 {
    instant.map_or(NEVER, |instant| u64::try_from(instant.0).unwrap_or(0).min(NEVER - 1))
}

/// Linux gives no process an address of more bits unless it asks for one (Documentation/arch/x86/x86_64/5level-paging).
pub(super) fn short(address: usize) -> u64 {
    let address = address as u64;
    assert!(address >> ADDRESS_BITS == 0, "an address of the heap has at most {ADDRESS_BITS} bits");
    address
}

fn low48(number: u64) -> Low48 {
    let [a, b, c, d, e, f, _, _] = number.to_le_bytes();
    [a, b, c, d, e, f]
}

fn number([a, b, c, d, e, f]: &Low48) -> u64 {
    u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0])
}
