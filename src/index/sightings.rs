use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use crossbeam_epoch::{Atomic, Guard, Owned};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::record::{NEVER, Record, standing};
use super::{Found, Tag, same};
use crate::key::{KeyId, Rules};

/// Tokens that were verified before, by a tag that only this process can compute: all that a verdict and its answer need, in two neighbouring
/// cache lines, which are asked for together. A verify that finds its token here waits for memory once, and hashes with the tag's function
/// instead of three times with SHA-256.
///
/// Places are taken within a short window behind where the tag hashes to, and the first place of the window, the tag's home, says which of them have a
/// tag of this home (Herlihy, Shavit and Tzafrir, 'Hopscotch hashing', 2008): so no other is looked at. When the window is full, one of its tokens is
/// forgotten, and found by its digest the next time.
///
/// A place is read under a sequence lock (Boehm, 'Can seqlocks get along with programming language memory models?',
/// 2012), so readers write nothing. It is written only while [`super::Index`] publishes or takes note, one at a time; so a change that has been
/// published is never overtaken by an older state.
pub(super) struct Sightings {
    reserved: Atomic<Reserved>,
}

/// Memory for so many places, of which those in front are in use. The kernel gives pages only for what is written to.
struct Reserved {
    map: *mut Place,
    places: usize,
    /// Homes in use: a tag's is the same fraction of these as its hash is of all. Only rises; what was noted under fewer is forgotten.
    homes: AtomicUsize,
    /// Tokens that wanted a place since `homes` rose.
    taken: AtomicUsize,
}

/// A place by its 16 words: sequence (odd while it is written), tag (2), key id (2), lengths and flags, and 80 bytes: the instants that there are, a
/// word each, then the rules and the account, or else, after the instants, the address of the record. A tag of zero: free. One byte beside the lengths is
/// not of the token that is here: it says which places of the window that begins here have a token whose home is here.
#[repr(align(128))]
struct Place([AtomicU64; WORDS]);

const WORDS: usize = 16;
const TAG: usize = 1;
const ID: usize = 3;
const LENGTHS: usize = 5;
const INLINE: usize = 6;
const INLINE_BYTES: usize = (WORDS - INLINE) * 8;
/// Stands for the length of rules that are in the record.
const IN_RECORD: u8 = u8::MAX;
const _: () = assert!(INLINE_BYTES < IN_RECORD as usize);

/// Places behind a home in which a tag may be.
const WINDOW: usize = u8::BITS as usize;
/// Where in the word of the lengths the bits of the window are.
const HOPS_SHIFT: u32 = 40;
const HOPS: u64 = 0xff << HOPS_SHIFT;
const FIRST_HOMES: usize = 1 << 10;
/// When so many homes are too few, all are taken into use at once: forgetting ever more tokens would cost more than the memory.
const LAST_STEP_HOMES: usize = 1 << 16;
/// The most homes: 256 MiB. Of a million tokens in turn three in a thousand find no place; with three quarters of this it is sixteen.
const MOST_HOMES: usize = 1 << 21;
/// With more secrets than there are homes many tokens find no place anyway, and memory is dear: 192 MiB.
const HOMES_OF_MANY: usize = 3 << 19;

/// Where there are more tokens than places, one in so many takes another's: those that come often get theirs, and the others leave it to them.
const PERSISTENCE: usize = 16;

/// What a place said, read as a whole.
pub(super) struct Sighting([u64; WORDS]);

// SAFETY: the map is its own, and holds nothing but atomics.
unsafe impl Send for Reserved {}
unsafe impl Sync for Reserved {}

impl Sightings {
    pub(super) fn new() -> Sightings {
        Sightings { reserved: Atomic::null() }
    }

    /// Asks for the memory in which the tag would be.
    #[inline]
    pub(super) fn prefetch(&self, tag: Tag, guard: &Guard) {
        if let Some(reserved) = self.reserved(guard) {
            reserved.window(tag)[0].prefetch();
        }
    }

    /// Asks for the memory of the other places in which the tag may be, if it is not at home: of one in four, where half of the homes are taken.
    #[inline]
    pub(super) fn prefetch_beyond(&self, tag: Tag, guard: &Guard) {
        let Some(reserved) = self.reserved(guard) else { return };
        let window = reserved.window(tag);
        let mut hops = window[0].hops() & !1;
        if hops == 0 || same(window[0].tag(), tag) {
            return;
        }
        while hops != 0 {
            window[hops.trailing_zeros() as usize].prefetch();
            hops &= hops - 1;
        }
    }

    #[inline]
    pub(super) fn find(&self, tag: Tag, guard: &Guard) -> Option<Sighting> {
        let window = self.reserved(guard)?.window(tag);
        let mut hops = window[0].hops();
        while hops != 0 {
            let place = &window[hops.trailing_zeros() as usize];
            if same(place.tag(), tag) {
                return place.read().filter(|sighting| same([sighting.0[TAG], sighting.0[TAG + 1]], tag));
            }
            hops &= hops - 1;
        }
        None
    }

    /// Notes where the token of a record was seen. Only one thread at a time calls this or what follows.
    pub(super) fn note(&self, tag: Tag, record: Record<'_>, guard: &Guard) {
        let Some(reserved) = self.reserved(guard).filter(|_| hash(tag) != 0 && tag != [0; 2]) else { return };
        let homes = reserved.homes.load(Ordering::Relaxed);
        let taken = reserved.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let may_rise = homes < reserved.most_homes();
        // Before the window is looked at: where most are full, that would cost more than finding the token.
        let persists = taken.is_multiple_of(PERSISTENCE);
        if !persists && !may_rise && taken > homes / 10 * 9 {
            return;
        }
        let window = reserved.window(tag);
        let kept = |place: &&Place| {
            let there = place.tag();
            there == tag || there == [0; 2] || !reserved.window(there).iter().any(|other| std::ptr::eq(other, *place))
        };
        let at = match window.iter().position(|place| kept(&place)) {
            Some(at) => at,
            None if persists => tag[1] as usize % WINDOW,
            None => return,
        };
        reserved.forget(&window[at]);
        window[at].write(tag, record);
        window[0].set_hops(window[0].hops() | 1 << at);
        record.set_seen(hash(tag));
        if may_rise && taken * 10 > homes * 6 {
            reserved.taken.store(0, Ordering::Relaxed);
            let more = if homes < LAST_STEP_HOMES { homes * 4 } else { usize::MAX };
            reserved.homes.store(more.min(reserved.most_homes()), Ordering::Release);
        }
    }

    /// Shows the record in place of the one before it, if that one's token is noted.
    pub(super) fn replace(&self, replaced: Record<'_>, record: Record<'_>, guard: &Guard) {
        record.set_seen(replaced.seen());
        let Some(reserved) = self.reserved(guard).filter(|_| replaced.seen() != 0) else { return };
        let noted = |place: &&Place| place.id() == record.id() && place.version() == record.version();
        // The same token may be in two places while `homes` rises: one where no reader looks any more, and one where they do.
        for place in reserved.behind(replaced.seen()).iter().filter(noted) {
            place.write(place.tag(), record);
        }
    }

    /// Reserves memory for the tokens of so many secrets. What was noted is forgotten when that needs more than there is.
    pub(super) fn reserve(&self, secrets: usize, guard: &Guard) {
        let most = if secrets > MOST_HOMES { HOMES_OF_MANY } else { MOST_HOMES };
        let wanted = (secrets + secrets / 2).next_power_of_two().clamp(FIRST_HOMES, most) + WINDOW;
        if self.reserved(guard).is_some_and(|reserved| reserved.places == wanted) {
            return;
        }
        // Without memory for it every token is found by its digest, as it is the first time.
        let Some(reserved) = Reserved::map(wanted) else { return };
        let replaced = self.reserved.swap(Owned::new(reserved), Ordering::AcqRel, guard);
        if !replaced.is_null() {
            // SAFETY: no reader that pins from now on can reach it.
            unsafe { guard.defer_destroy(replaced) };
            guard.flush();
        }
    }

    /// Bytes of memory that may have been written to.
    pub(super) fn bytes(&self, guard: &Guard) -> usize {
        self.reserved(guard).map_or(0, |reserved| reserved.homes.load(Ordering::Relaxed) * size_of::<Place>())
    }

    fn reserved<'g>(&self, guard: &'g Guard) -> Option<&'g Reserved> {
        // SAFETY: one that was replaced is freed only after every guard of its time is dropped.
        unsafe { self.reserved.load(Ordering::Acquire, guard).as_ref() }
    }
}

impl Drop for Sightings {
    fn drop(&mut self) {
        let reserved = std::mem::replace(&mut self.reserved, Atomic::null());
        // SAFETY: `&mut self` proves that no reader is left.
        drop(unsafe { reserved.try_into_owned() });
    }
}

impl Reserved {
    fn map(places: usize) -> Option<Reserved> {
        let bytes = places * size_of::<Place>();
        // SAFETY: a new mapping, of memory that is zero, which free places are.
        let map = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }.ok()?;
        // SAFETY: advice about that mapping. Where there are no huge pages it is slower, no more.
        let _ = unsafe { madvise(map, bytes, Advice::LinuxHugepage) };
        Some(Reserved { map: map.cast(), places, homes: AtomicUsize::new(FIRST_HOMES), taken: AtomicUsize::new(0) })
    }

    fn most_homes(&self) -> usize {
        self.places - WINDOW
    }

    /// Says at the home of the token that a place has, if it is one that readers look at, that it has it no more.
    fn forget(&self, place: &Place) {
        let window = self.window(place.tag());
        if let Some(at) = window.iter().position(|other| std::ptr::eq(other, place)) {
            window[0].set_hops(window[0].hops() & !(1 << at));
        }
    }

    #[inline]
    fn window(&self, tag: Tag) -> &[Place] {
        self.behind(hash(tag))
    }

    #[inline]
    fn behind(&self, hash: u32) -> &[Place] {
        let homes = self.homes.load(Ordering::Acquire);
        let home = ((u64::from(hash) * homes as u64) >> 32) as usize;
        // SAFETY: a home is less than `homes`, which is at most `places - WINDOW`; the map has so many places, and any bytes are sound for them.
        unsafe { std::slice::from_raw_parts(self.map.add(home), WINDOW) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and `&mut self` proves that no reader is left.
        let _ = unsafe { munmap(self.map.cast(), self.places * size_of::<Place>()) };
    }
}

impl Place {
    /// Asks for its memory.
    #[inline]
    fn prefetch(&self) {
        fetch(&self.0[0]);
        fetch(&self.0[WORDS / 2]);
    }

    #[inline]
    fn tag(&self) -> Tag {
        [self.0[TAG].load(Ordering::Relaxed), self.0[TAG + 1].load(Ordering::Relaxed)]
    }

    /// Which places of the window that begins here have a token whose home is here, a bit each.
    #[inline]
    fn hops(&self) -> u8 {
        (self.0[LENGTHS].load(Ordering::Relaxed) >> HOPS_SHIFT) as u8
    }

    /// Readers that have the word already look at a place too many, or find the token by its digest.
    fn set_hops(&self, hops: u8) {
        let lengths = self.0[LENGTHS].load(Ordering::Relaxed);
        self.0[LENGTHS].store(lengths & !HOPS | u64::from(hops) << HOPS_SHIFT, Ordering::Relaxed);
    }

    fn id(&self) -> KeyId {
        key_id([self.0[ID].load(Ordering::Relaxed), self.0[ID + 1].load(Ordering::Relaxed)])
    }

    fn version(&self) -> u16 {
        self.0[LENGTHS].load(Ordering::Relaxed) as u16
    }

    #[inline]
    fn read(&self) -> Option<Sighting> {
        let before = self.0[0].load(Ordering::Acquire);
        let words = std::array::from_fn(|word| self.0[word].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (before.is_multiple_of(2) && self.0[0].load(Ordering::Relaxed) == before).then_some(Sighting(words))
    }

    fn write(&self, tag: Tag, record: Record<'_>) {
        let sequence = self.0[0].load(Ordering::Relaxed);
        self.0[0].store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let hops = self.0[LENGTHS].load(Ordering::Relaxed) & HOPS;
        let mut words = words(tag, record);
        words[LENGTHS] |= hops;
        for (word, value) in self.0.iter().zip(words).skip(TAG) {
            word.store(value, Ordering::Relaxed);
        }
        self.0[0].store(sequence + 2, Ordering::Release);
    }
}

impl Sighting {
    /// The secret. Guarded, because what is too long for a place is in the record.
    #[inline]
    pub(super) fn found<'a>(&'a self, _guard: &'a Guard) -> Found<'a> {
        let [version_low, version_high, flags, account_bytes, rules_bytes, _, given, _] = self.0[LENGTHS].to_le_bytes();
        let mut behind = INLINE;
        let instants = std::array::from_fn(|instant| {
            let is_given = usize::from(given >> instant & 1);
            let value = if is_given == 1 { self.0[behind] } else { NEVER };
            behind += is_given;
            value
        });
        let (rules, account) = if rules_bytes == IN_RECORD {
            // SAFETY: the record was in the index when the place was read, so it is not freed before the guard is dropped.
            let record: Record<'a> = unsafe { Record::at(self.0[behind]) };
            (record.rules(), record.account())
        } else {
            let (rules, rest) = bytes(&self.0[behind..]).split_at(usize::from(rules_bytes));
            // SAFETY: `words` copied it from a `str`.
            (Rules::from_bytes(rules), unsafe { std::str::from_utf8_unchecked(&rest[..usize::from(account_bytes)]) })
        };
        Found {
            id: key_id([self.0[ID], self.0[ID + 1]]),
            version: u16::from_le_bytes([version_low, version_high]),
            account,
            standing: standing(flags, instants),
            rules,
        }
    }
}

/// What a place says of a record; its first word is left out of this.
fn words(tag: Tag, record: Record<'_>) -> [u64; WORDS] {
    let (rules, account) = (record.rules().bytes(), record.account().as_bytes());
    let KeyId(id) = record.id();
    let id = [0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|i| id[at + i])));
    let mut words = [0; WORDS];
    let (mut given, mut behind) = (0, INLINE);
    for (bit, instant) in record.instants().into_iter().enumerate().filter(|(_, instant)| *instant != NEVER) {
        words[behind] = instant;
        behind += 1;
        given |= 1 << bit;
    }
    let mut inline = [0u8; INLINE_BYTES];
    let rules_bytes = if rules.len() + account.len() <= (WORDS - behind) * 8 {
        inline[..rules.len()].copy_from_slice(rules);
        inline[rules.len()..][..account.len()].copy_from_slice(account);
        rules.len() as u8
    } else {
        inline[..8].copy_from_slice(&record.address().to_ne_bytes());
        IN_RECORD
    };
    for (word, bytes) in words[behind..].iter_mut().zip(inline.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let [version_low, version_high] = record.version().to_le_bytes();
    let lengths = u64::from_le_bytes([version_low, version_high, record.flags(), account.len() as u8, rules_bytes, 0, given, 0]);
    words[TAG..INLINE].copy_from_slice(&[tag[0], tag[1], id[0], id[1], lengths]);
    words
}

/// The bytes that words were made of.
#[inline]
fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: as many bytes, of which any are sound.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn key_id(words: [u64; 2]) -> KeyId {
    let [low, high] = words.map(u64::to_ne_bytes);
    KeyId(std::array::from_fn(|i| if i < 8 { low[i] } else { high[i - 8] }))
}

fn hash(tag: Tag) -> u32 {
    (tag[0] >> 32) as u32
}

/// A hint, where the processor takes one.
#[inline]
pub(super) fn fetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
