//! The verify path allocates nothing and frees nothing: no lock of an allocator, no page of the kernel's, no request slower because of another's.
//!
//! What a change replaces is freed by whichever thread pins next, so this holds while nobody changes keys. The check was tried on a `to_vec` of
//! the token in `Door::verify`: two calls of the allocator for each request.

#[path = "../gate/src/scene.rs"]
mod scene;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use doorward::protocol::{Hello, Kind, MAGIC, encode, encode_body};
use doorward::verify_socket::connection::Conversation;

use scene::{NOW, Request, Scene};

const VERIFIES: usize = 100_000;

/// The system's allocator, with how often this thread went to it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static VISITS: Cell<u64> = const { Cell::new(0) };
}

/// Not counted while the thread ends.
fn count() {
    let _ = VISITS.try_with(|visits| visits.set(visits.get() + 1));
}

// SAFETY: everything is the system allocator's work; counting beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, bytes) }
    }
}

#[test]
fn verifying_allocates_and_frees_nothing() {
    let scene = Scene::set(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/country/flat.mmdb")));
    let requests: Vec<&Request> = scene.known.iter().chain(&scene.strangers).collect();
    let frames: Vec<Vec<u8>> = requests.iter().map(|request| request.frame()).collect();
    let forms = [
        ("a frame at a time", frames.clone()),
        ("frames that arrive together", vec![frames.concat()]),
        ("batches", requests.chunks(250).map(batch).collect()),
    ];
    let mut out = Vec::with_capacity(1 << 20);
    let mut conversation = Conversation::new(0);
    // How often the verify path went to the allocator; that the counters' own thread does is no matter.
    let mut verify_all = |pieces: &[Vec<u8>]| {
        scene.door.usage.drain();
        let visits = VISITS.get();
        for bytes in pieces {
            out.clear();
            let progress = conversation.advance(bytes, &scene.door, &|| NOW, &mut out);
            assert_eq!((progress.used, progress.errors), (bytes.len(), 0));
        }
        VISITS.get() - visits
    };
    let mut hello = Vec::new();
    encode(&mut hello, Kind::Hello, [0; 8], |out| encode_body(out, &Hello { magic: MAGIC, lowest: 1, highest: 1 }));
    // A thread registers itself with the index once; and frees what the making of the scene left behind.
    verify_all(&[hello]);
    (0..64).for_each(|_| drop(scene.door.index.pin()));
    for turn in 0..20 {
        forms.iter().for_each(|(_, pieces)| _ = verify_all(pieces));
        assert!(turn > 0 || scene.door.usage.totals().iter().all(|verdicts| *verdicts > 0), "{:?}", scene.door.usage.totals());
    }

    for (form, pieces) in &forms {
        let visits: u64 = (0..VERIFIES.div_ceil(requests.len())).map(|_| verify_all(pieces)).sum();
        assert_eq!(visits, 0, "calls of the allocator, {form}");
    }
}

/// What is counted is seen: the check itself can fail.
#[test]
fn an_allocation_is_counted() {
    let visits = VISITS.get();
    drop(std::hint::black_box(Vec::<u8>::with_capacity(16)));
    assert_eq!(VISITS.get() - visits, 2);
}

/// A frame with many requests.
fn batch(requests: &[&Request]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(&mut frame, Kind::Batch, [2; 8], |out| {
        out.push(requests.len() as u8);
        requests.iter().for_each(|request| encode_body(out, &request.verify()));
    });
    frame
}
