//! Rows by open addressing, in a mapping.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, compiler_fence};

use super::log::Owner;
use super::mapped::{self, Mapped};
use super::slot::Slot;

const MAGIC: [u8; 8] = *b"DWCOUNTS";
const FORMAT: u32 = 1;
const SLOTS_AT: usize = 4_096;
const PAGE: usize = 4_096;
/// The name of a table that has not taken the place of another yet. There is one at a time.
pub(super) const UNFINISHED: &str = "live.new";
/// Places that are looked at for a row. At 7/8 full, and rows apart by their hash, a free one is nearly always among them.
const PROBES: usize = 256;
/// Rows that are asked for ahead of the one that is looked at.
const AHEAD: usize = 16;

/// Places of the smallest table: 2 MiB. (Tests want to see it grow soon.)
pub(super) const FEWEST: usize = if cfg!(test) { 1 << 8 } else { 1 << 15 };
/// Places of the largest: 128 MiB.
pub(super) const MOST: usize = 1 << 21;

#[repr(C)]
struct Head {
    magic: [u8; 8],
    format: u32,
    places: u32,
    owner: Owner,
    generation: u64,
}

/// A table. One thread has it at a time.
pub(super) struct Live {
    mapped: Mapped,
    /// Its file, if it has one.
    path: Option<PathBuf>,
    /// Places, less one: a power of two, less one.
    mask: usize,
    /// The places that are taken, so that giving and emptying rows touches no page that counting did not.
    taken: Vec<u32>,
}

/// Where a row is or could be.
pub(super) enum Found {
    /// It is here.
    Row(u32),
    /// It is not there, and this place is free.
    Free(u32),
    /// Neither within reach.
    Nowhere,
}

impl Live {
    /// An empty table: in a new file in the place of any other, if there is a path.
    pub(super) fn create(path: Option<&Path>, owner: Owner, places: usize, generation: u64) -> io::Result<Live> {
        assert!(places.is_power_of_two() && places <= 1 << 31);
        let bytes = SLOTS_AT + places * size_of::<Slot>();
        let mapped = match path {
            Some(path) => Mapped::create(path, bytes)?,
            None => Mapped::anonymous(bytes)?,
        };
        let live = Live { mapped, path: path.map(Path::to_owned), mask: places - 1, taken: Vec::new() };
        let head = Head { magic: MAGIC, format: FORMAT, places: places as u32, owner, generation };
        // SAFETY: within the mapping, which nobody else knows yet.
        unsafe { live.mapped.place::<Head>(0).write(head) };
        Ok(live)
    }

    /// A table as it was left; none if it is not one of this owner, or holds what no table does.
    pub(super) fn open(path: &Path, owner: Owner) -> io::Result<Option<Live>> {
        let mapped = Mapped::open(path, SLOTS_AT + MOST * size_of::<Slot>())?;
        if mapped.bytes() < SLOTS_AT {
            return Ok(None);
        }
        // SAFETY: within the mapping; any bytes are a value of it.
        let head = unsafe { mapped.place::<Head>(0).read() };
        let places = head.places as usize;
        let whole = places.is_power_of_two() && places <= 1 << 31 && mapped.bytes() == SLOTS_AT + places * size_of::<Slot>();
        if (head.magic, head.format, head.owner) != (MAGIC, FORMAT, owner) || !whole {
            return Ok(None);
        }
        let mut live = Live { mapped, path: Some(path.to_owned()), mask: places - 1, taken: Vec::new() };
        live.look_again();
        let is_sound = live.taken.iter().all(|&place| live.row(place).is_sound());
        Ok(is_sound.then_some(live))
    }

    /// Notes anew which places are taken.
    pub(super) fn look_again(&mut self) {
        self.taken = (0..=self.mask as u32).filter(|&place| self.row(place).count != 0).collect();
    }

    pub(super) fn generation(&self) -> u64 {
        // SAFETY: within the mapping, and this thread has the table.
        unsafe { (*self.mapped.place::<Head>(0)).generation }
    }

    pub(super) fn set_generation(&mut self, generation: u64) {
        // SAFETY: as above.
        unsafe { (*self.mapped.place::<Head>(0)).generation = generation };
    }

    pub(super) fn rows(&self) -> usize {
        self.taken.len()
    }

    pub(super) fn places(&self) -> usize {
        self.mask + 1
    }

    pub(super) fn bytes(&self) -> usize {
        self.mapped.bytes()
    }

    /// The taken places, in no order.
    pub(super) fn taken(&self) -> &[u32] {
        &self.taken
    }

    /// The place of a row; it may be written to by who has the table.
    pub(super) fn place(&self, number: u32) -> *mut Slot {
        self.mapped.place::<Slot>(SLOTS_AT + (number as usize & self.mask) * size_of::<Slot>())
    }

    pub(super) fn row(&self, place: u32) -> &Slot {
        // SAFETY: within the mapping; any bytes are a value of it, and this thread has the table.
        unsafe { &*self.place(place) }
    }

    /// Notes a later time of the last use in a row that counts nothing: one number, so a kill finds the one or the other.
    pub(super) fn seen_at(&mut self, place: u32, seen: &Slot) {
        // SAFETY: within the mapping, and this thread has the table.
        unsafe { (*self.place(place)).used_at(seen.last_at()) };
    }

    /// Asks for the line in which a row of this hash begins to be looked for.
    pub(super) fn prefetch(&self, hash: u64) {
        self.prefetch_place(hash as u32);
    }

    /// The rows of places, in their order; each is asked for before it is needed.
    pub(super) fn rows_of<'a>(&'a self, places: &'a [impl Copy + Into<u32>]) -> impl Iterator<Item = &'a Slot> {
        places.iter().enumerate().map(|(at, &place)| {
            if let Some(&later) = places.get(at + AHEAD) {
                self.prefetch_place(later.into());
            }
            self.row(place.into())
        })
    }

    fn prefetch_place(&self, number: u32) {
        let place = self.place(number);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which reads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_ET0>(place.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = place;
    }

    /// Looks for a row, from where its hash says.
    #[inline]
    pub(super) fn find(&self, row: &Slot, hash: u64) -> Found {
        for probe in 0..PROBES {
            let place = (hash as usize).wrapping_add(probe) & self.mask;
            let found = self.row(place as u32);
            if found.count == 0 {
                return Found::Free(place as u32);
            }
            if found.same_row(row) {
                return Found::Row(place as u32);
            }
        }
        Found::Nowhere
    }

    /// Gives a free place this row, at once as a kill sees it: what stands in a place counts from when its count does.
    pub(super) fn put(&mut self, place: u32, row: &Slot) {
        let (at, mut without_count) = (self.place(place), *row);
        without_count.count = 0;
        // SAFETY: within the mapping, and this thread has the table.
        unsafe { at.write(without_count) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { (*at).count = row.count };
        self.was_taken(place);
    }

    /// To be told when a free place was given a row.
    pub(super) fn was_taken(&mut self, place: u32) {
        self.taken.push(place);
    }

    /// An empty table with so many places, beside the others in this directory, that has its memory already; if that leaves others some room.
    pub(super) fn prepare(directory: Option<&Path>, owner: Owner, places: usize) -> io::Result<Live> {
        if directory.is_some_and(|directory| !mapped::has_room(directory, places * size_of::<Slot>())) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = directory.map(|directory| directory.join(UNFINISHED));
        let live = Live::create(path.as_deref(), owner, places, 0)?;
        for place in (0..places as u32).step_by(PAGE / size_of::<Slot>()) {
            // SAFETY: within the mapping, which nobody else knows yet.
            unsafe { live.place(place).write(Slot::FREE) };
        }
        Ok(live)
    }

    /// Takes over the rows, the generation and the file's name of another table, whose file is gone when this is whole.
    pub(super) fn take_over(&mut self, other: &Live, mut step: impl FnMut()) -> io::Result<()> {
        self.set_generation(other.generation());
        // In the order of the places: so the new places come in a few rising orders, too, and none is waited for.
        for row in (0..=other.mask as u32).map(|place| other.row(place)).filter(|row| row.count != 0) {
            let Found::Free(place) = self.find(row, row.hash()) else {
                return Err(io::Error::other("a row found no place in a larger table"));
            };
            // SAFETY: within the mapping, which nobody else knows yet.
            unsafe { self.place(place).write(*row) };
            self.taken.push(place);
        }
        step();
        if let (Some(unfinished), Some(path)) = (&self.path, &other.path) {
            fs::rename(unfinished, path)?;
            self.path = Some(path.clone());
        }
        step();
        Ok(())
    }

    /// Ends a table that is not needed, with its file.
    pub(super) fn remove(self) {
        if let Some(path) = &self.path {
            // What stays is removed by the next that has this name.
            let _ = fs::remove_file(path);
        }
    }

    /// Forgets every row.
    pub(super) fn clear(&mut self, mut step: impl FnMut()) {
        if self.rows() > self.places() / 4 {
            // SAFETY: all places, which lie in the mapping one behind the other; this thread has the table.
            unsafe { self.place(0).write_bytes(0, self.places()) };
        } else {
            for &place in &self.taken {
                // SAFETY: within the mapping, and this thread has the table.
                unsafe { self.place(place).write(Slot::FREE) };
                step();
            }
        }
        self.taken.clear();
    }
}
