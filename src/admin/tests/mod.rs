//! The admin socket as its callers meet it: a real store, a real socket, requests as text.

mod changes;
mod refusals;
mod transfer;
mod unusual;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::server::{Counters, Shared};
use super::{Access, AdminState, serve};
use crate::catalog::{Catalog, CatalogOptions, Time};
use crate::clock::Clock;
use crate::digest::{Pepper, Peppers, Recogniser};
use crate::geo::Geo;
use crate::index::Index;
use crate::key::Instant;
use crate::store::{Store, StoreOptions};
use crate::usage::Usage;
use crate::verify::Door;

/// A served admin socket, stopped when dropped.
struct Served {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    store: Store,
    clock: Arc<Clock>,
    _directory: Option<tempfile::TempDir>,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// The daemon's parts around a fresh store.
fn state(directory: &Path) -> AdminState {
    let store = Store::open(&directory.join("store"), StoreOptions::default()).unwrap();
    let index = Arc::new(Index::new());
    let peppers = || Peppers { current: Pepper::from_bytes([7; 32]), previous: None };
    let clock = Arc::new(Clock::start(Instant(0)));
    let now = Arc::clone(&clock);
    let catalog = Catalog::open(store, Arc::clone(&index), peppers(), move || Time::certain(now.now()), CatalogOptions::default()).unwrap();
    let (recogniser, geo, usage) = (Recogniser::new(), Arc::new(Geo::without_database()), Arc::new(Usage::new()));
    let door = Door { index, peppers: peppers(), recogniser, geo, usage };
    AdminState {
        catalog: Arc::new(catalog),
        door: Arc::new(door),
        judgement: Arc::default(),
        started_at: clock.now(),
        clock,
        access: Arc::new(parking_lot::RwLock::new(Access { own_uid: rustix::process::getuid().as_raw(), ..Access::default() })),
        verify_status: Arc::new(Default::default),
        latency: Arc::new(Default::default),
        flush_status: Arc::new(Default::default),
        troubles: Arc::new(Vec::new),
    }
}

fn shared(directory: &Path) -> Arc<Shared> {
    Arc::new(Shared {
        state: state(directory),
        counters: Counters::default(),
        checking: Arc::new(tokio::sync::Semaphore::new(1)),
        searches: Default::default(),
        pace: Default::default(),
    })
}

impl Served {
    fn start() -> Served {
        let directory = tempfile::tempdir().unwrap();
        Served::on(directory.path().to_owned(), Some(directory))
    }

    /// On the store in this directory, which is removed in the end if it is handed over.
    fn on(directory: PathBuf, removed: Option<tempfile::TempDir>) -> Served {
        let path = directory.join("admin.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let state = state(&directory);
        let (store, clock) = (state.catalog.store().clone(), Arc::clone(&state.clock));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve(listener, None, state, shutdown).unwrap());
        });
        Served { path, stop: Some(stop), thread: Some(thread), store, clock, _directory: removed }
    }

    /// What the admin socket reads.
    fn store(&self) -> &Store {
        &self.store
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes and reads until the daemon closes.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The daemon may refuse before it has read everything.
        let _ = stream.write_all(bytes);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        Answer::read(&String::from_utf8(text).unwrap())
    }

    fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.raw(
            format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}")
                .as_bytes(),
        )
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(method, path, "", body)
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    fn post(&self, path: &str, body: &str, status: u16) -> Value {
        let answer = self.ask("POST", path, body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        answer.json()
    }

    fn stop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Answer {
    fn read(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let head = head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        Answer { status, head, body }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The word of a problem and its field.
    fn problem(&self) -> (String, Option<String>) {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        let word = problem["type"].as_str().unwrap().strip_prefix(super::TYPE_PREFIX).unwrap();
        (word.to_owned(), problem["field"].as_str().map(str::to_owned))
    }
}

fn unchunked(mut text: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        text = &rest[length + 2..];
        if length == 0 {
            break;
        }
    }
    whole
}
