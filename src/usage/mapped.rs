//! Memory that other processes can find again: whole files, allocated in full before they are mapped, so that no later write to them can fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A mapping, which begins with zeros.
pub(super) struct Mapped {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is memory; who may touch which part of it, and when, is for those to say who do.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Memory of this process alone.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Mapped> {
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
        Mapped::at(start.cast(), bytes)
    }

    /// A new file in the place of any other, which only this user can read.
    pub(super) fn create(path: &Path, bytes: usize) -> io::Result<Mapped> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let mapped = allocate(&file, bytes).and_then(|()| Mapped::file(&file, bytes));
        if mapped.is_err() {
            // Half a file would only be in the way of others.
            let _ = fs::remove_file(path);
        }
        mapped
    }

    /// A file as it is, if it is an ordinary one of at most so many bytes; else an error of the kind `InvalidData`.
    pub(super) fn open(path: &Path, most: usize) -> io::Result<Mapped> {
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let not_ours = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let opened = OpenOptions::new().read(true).write(true).custom_flags(nofollow).open(path);
        let file = opened.map_err(|error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::ISDIR | rustix::io::Errno::LOOP) => not_ours("it is a directory or a link"),
            _ => error,
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(not_ours("it is empty or no file"));
        }
        let bytes = usize::try_from(metadata.len()).ok().filter(|bytes| *bytes <= most).ok_or_else(|| not_ours("it is too large"))?;
        // What was allocated once stays allocated, unless somebody else made this file.
        allocate(&file, bytes)?;
        Mapped::file(&file, bytes)
    }

    fn file(file: &File, bytes: usize) -> io::Result<Mapped> {
        // SAFETY: a new mapping at a place that the kernel chooses. The file is not cut while it is mapped: nobody else may write to it.
        let start = unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file.as_fd(), 0) }?;
        Mapped::at(start.cast(), bytes)
    }

    fn at(start: *mut u8, bytes: usize) -> io::Result<Mapped> {
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapped { start, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where a value lies that is `offset` bytes from the start.
    pub(super) fn place<T>(&self, offset: usize) -> *mut T {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + size_of::<T>() <= self.bytes);
        // SAFETY: within the mapping, as just seen.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing points into it any more. (An error could only mean that it is none.)
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Whether the file system of a directory has room for so many bytes and as many again, so that others who use it are left with some.
pub(super) fn has_room(directory: &Path, bytes: usize) -> bool {
    let Ok(directory) = File::open(directory) else { return false };
    fstatvfs(&directory).is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) / 2 >= bytes as u64)
}
