//! The socket loop: who connects, how many at once, how long they may dawdle.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tracing::{debug, error, warn};

use super::AdminState;
use super::access::Peer;
use super::arrivals::{Admission, Arrival, Arrivals};
use super::metrics;
use super::pace::Pace;
use super::places::Place;
use super::problem::{Failure, Word};
use super::routes;
use super::searches::Searches;
use super::stall::Stalling;
use super::wire::AdminStatus;
use crate::clock::Quota;

/// Connections of peers who may do something. Scripts open one each and close it soon; where they do not, those that are idle make room.
pub(super) const CONNECTIONS: usize = 256;
/// Connections of peers who may do nothing: enough to tell them so, too few to take the others' place.
pub(super) const STRANGERS: usize = 16;
/// How long a request's head may take, from the end of the request before: also how long a connection may be idle.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(30);
/// The same for strangers.
const STRANGER_HEAD_TIME: Duration = Duration::from_secs(5);
/// Bytes of a request's head. The longest path is a percent-encoded `account/name` of 201 bytes.
pub(super) const HEAD_BYTES: usize = 16 << 10;
/// Header fields of a request.
pub(super) const HEADERS: usize = 64;
/// How long a peer may take nothing of its answer.
pub(super) const STALL_TIME: Duration = Duration::from_secs(30);
/// Refusals of a user are all logged, until there are so many; from then on one in this time.
const REFUSALS_LOGGED: u64 = 300;
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);
/// Users who each have a quota of their own, so that one who floods hides no other; all further ones share one.
const REFUSED_USERS: usize = 256;
/// A lasting want of descriptors or places is logged this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// How long requests that were begun may take to end after the order to stop.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Figures for `status`.
#[derive(Debug)]
pub(super) struct Counters {
    connections: AtomicU64,
    crowded: AtomicU64,
    forbidden: AtomicU64,
    ok: AtomicU64,
    /// Requests that failed, in the order of [`Word::ALL`].
    failed: [AtomicU64; Word::ALL.len()],
    /// Of what is refused and of what is wrong with connections, so much is logged.
    refusals: Refusals,
    pub(super) complaints: Quota,
    /// The same of those who connect without a pause, whom the others would hide.
    pub(super) floods: Quota,
}

/// How often a user's refusals are logged.
#[derive(Debug)]
struct Refusals {
    by_user: Mutex<HashMap<u32, Quota>>,
    of_others: Quota,
}

impl Refusals {
    /// One more. If it may be logged: how many of them were not.
    fn take(&self, uid: u32) -> Option<u64> {
        let mut by_user = self.by_user.lock();
        if by_user.len() >= REFUSED_USERS && !by_user.contains_key(&uid) {
            return self.of_others.take();
        }
        by_user.entry(uid).or_insert_with(|| Quota::new(REFUSALS_LOGGED, REFUSAL_INTERVAL)).take()
    }
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals { by_user: Mutex::default(), of_others: Quota::new(REFUSALS_LOGGED, REFUSAL_INTERVAL) }
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            connections: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            forbidden: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
            refusals: Refusals::default(),
            complaints: Quota::new(1, COMPLAINT_INTERVAL),
            floods: Quota::new(1, COMPLAINT_INTERVAL),
        }
    }
}

impl Counters {
    pub(super) fn status(&self) -> AdminStatus {
        AdminStatus {
            connections: self.connections.load(Ordering::Relaxed),
            max_connections: CONNECTIONS as u64,
            forbidden: self.forbidden.load(Ordering::Relaxed),
        }
    }

    /// Connections that were closed at once, because there were too many.
    pub(super) fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    /// One more of them.
    pub(super) fn crowd(&self) {
        self.crowded.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests by how they ended: `ok`, or the word of the problem.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failed = Word::ALL.into_iter().zip(&self.failed).map(|(word, count)| (word.describe().0, count));
        std::iter::once(("ok", &self.ok)).chain(failed).map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }

    fn answered(&self, response: &Response) {
        let count = response.extensions().get::<Word>().map_or(&self.ok, |word| &self.failed[*word as usize]);
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and logs a refusal.
    pub(super) fn forbid(&self, peer: &Peer, what: &str) {
        self.forbidden.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.refusals.take(peer.uid) {
            if before > 0 {
                warn!(uid = peer.uid, refusals = before, "admin socket: refused more than is logged");
            }
            warn!(uid = peer.uid, user = peer.user.as_deref().unwrap_or("?"), what, "admin socket: refused");
        }
    }
}

/// What every handler gets.
pub(super) struct Shared {
    pub(super) state: AdminState,
    pub(super) counters: Counters,
    /// One place: a check reads the whole store.
    pub(super) checking: Arc<Semaphore>,
    pub(super) searches: Searches,
    pub(super) pace: Pace,
}

/// Serves the admin socket until `shutdown` is done, then lets begun requests end, for at most five seconds. Beside it, `/metrics` over TCP,
/// if there is a listener for it. Connections are accepted, by a thread of its own, from this call on; what it gives runs in a tokio runtime with io and
/// time enabled.
///
/// # Errors
/// The kernel gives no thread; later, a listener cannot be watched by the runtime.
pub fn serve(
    listener: StdUnixListener,
    metrics_listener: Option<StdTcpListener>,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<impl Future<Output = ()> + Send> {
    let (checking, searches) = (Arc::new(Semaphore::new(1)), Searches::default());
    let shared = Arc::new(Shared { state, counters: Counters::default(), checking, searches, pace: Pace::default() });
    let (arrivals, mut arriving) = Arrivals::accept(listener, Arc::clone(&shared))?;
    Ok(async move {
        let metrics = metrics_listener.map(|listener| tokio::spawn(metrics::listen(listener, Arc::clone(&shared))));
        let router = routes::router(Arc::clone(&shared));
        let (stop, stopping) = watch::channel(false);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(arrival) = arriving.recv() => receive(arrival, &router, &shared, &stopping),
            }
        }
        arrivals.stop();
        while let Ok(arrival) = arriving.try_recv() {
            receive(arrival, &router, &shared, &stopping);
        }
        metrics.inspect(|metrics| metrics.abort());
        drop(stopping);
        // Nobody listens when no connection is open.
        let _ = stop.send(true);
        if tokio::time::timeout(STOP_TIME, stop.closed()).await.is_err() {
            warn!("admin socket: requests were still running {} s after the order to stop", STOP_TIME.as_secs());
        }
    })
}

/// Serves somebody in a task of their own.
fn receive(arrival: Arrival, router: &Router, shared: &Arc<Shared>, stopping: &watch::Receiver<bool>) {
    let Arrival { stream, peer, admission } = arrival;
    let (router, shared, stopping) = (router.clone(), Arc::clone(shared), stopping.clone());
    tokio::spawn(async move {
        let standing = match admission {
            Admission::Stranger(place) => Standing::Stranger { _place: place },
            Admission::Known(claim) => match claim.place().await {
                Some(place) => Standing::Known(place),
                None => return shared.counters.crowd(),
            },
        };
        let stream = match stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)) {
            Ok(stream) => stream,
            Err(error) => return debug!(%error, uid = peer.uid, "admin socket: a connection cannot be watched"),
        };
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        Visit { peer: Arc::new(peer.named()), standing, router, shared, answered: AtomicBool::new(false) }.serve(stream, stopping).await;
    });
}

/// One connection.
struct Visit {
    peer: Arc<Peer>,
    standing: Standing,
    router: Router,
    shared: Arc<Shared>,
    /// A request of it was.
    answered: AtomicBool,
}

/// Whether somebody may do anything, with the place that the connection takes.
enum Standing {
    Known(Place),
    Stranger { _place: OwnedSemaphorePermit },
}

impl Standing {
    /// Waits until the connection has to make room: a stranger's never has.
    async fn told_to_go(&self) {
        match self {
            Standing::Known(place) => place.told_to_go().await,
            Standing::Stranger { .. } => std::future::pending().await,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Visit {
    async fn serve(self, stream: UnixStream, mut stopping: watch::Receiver<bool>) {
        let stranger = matches!(self.standing, Standing::Stranger { .. });
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&self.peer));
            let router = self.router.clone();
            let (shared, answered) = (Arc::clone(&self.shared), &self.answered);
            let busy = if let Standing::Known(place) = &self.standing { Some(place.busy()) } else { None };
            async move {
                let response = answer(router, request).await;
                shared.counters.answered(&response);
                answered.store(true, Ordering::Relaxed);
                // Busy until the last of the body is sent: an export is longer than its handler.
                let whole = |body: Body| {
                    Body::new(body.map_frame(move |frame| {
                        let _busy = &busy;
                        frame
                    }))
                };
                Ok::<Response, std::convert::Infallible>(response.map(whole))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if stranger { STRANGER_HEAD_TIME } else { HEAD_TIME })
            .keep_alive(!stranger)
            .max_headers(HEADERS)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(HEAD_BYTES * 4)
            .serve_connection(TokioIo::new(Stalling::new(stream, STALL_TIME)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = ordered_to_stop(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.standing.told_to_go() => match &self.standing {
                Standing::Known(place) if place.may_finish() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                _ => return,
            },
        };
        match ended {
            Ok(()) if self.answered.load(Ordering::Relaxed) && !stranger => self.shared.pace.give_back((self.peer.uid, self.peer.pid)),
            Ok(()) => {}
            Err(error) => debug!(%error, uid = self.peer.uid, "admin socket: a connection broke off"),
        }
    }
}

async fn ordered_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the socket loop is gone, which is an order too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Runs a request in a task of its own, and a change to its end: a caller that hangs up half-way stops none, and a panic ends this task alone.
async fn answer(router: Router, request: Request) -> Response {
    let what = routes::named(&request);
    let only_looks = routes::only_looks(&request);
    let running = tokio::spawn(route(router, request));
    let _look = only_looks.then(|| Look(running.abort_handle()));
    running.await.unwrap_or_else(|error| {
        error!(what, panicked = error.is_panic(), "admin socket: a handler died");
        Failure::new(Word::Internal, "the daemon failed on this request; its log says where. Other requests are not affected")
            .into_response()
    })
}

/// A request that changes nothing, which ends when nobody waits for it any more: else who asks and hangs up, again and again, has a thousand of them wait.
struct Look(AbortHandle);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn route(router: Router, request: Request) -> Response {
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of one user's refusals hid who else was refused meanwhile.
    #[test]
    fn a_user_who_floods_hides_no_other() {
        let refusals = Refusals::default();
        let logged = (0..10 * REFUSALS_LOGGED).filter(|_| refusals.take(1).is_some()).count() as u64;
        assert!((REFUSALS_LOGGED..2 * REFUSALS_LOGGED).contains(&logged), "{logged}");
        assert_eq!(refusals.take(2), Some(0));
        assert!((3..1_000).all(|uid| refusals.take(uid) == Some(0) || uid > 256), "all but a flood of users");
        assert!(refusals.by_user.lock().len() <= REFUSED_USERS);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let router = Router::new().route("/", axum::routing::get(async || -> &'static str { panic!("planted") }));
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        assert_eq!(answer(router, request).await.status(), 500);
    }

    /// Who searched by HEAD instead of GET and hung up, again and again, had as many searches wait, and each of them run to its end.
    #[tokio::test]
    async fn a_look_ends_with_its_caller_and_a_change_does_not() {
        for (method, path, ends) in [("GET", "/", true), ("HEAD", "/", true), ("POST", "/v1/explain", true), ("POST", "/", false)] {
            let running = Arc::new(());
            let held = Arc::clone(&running);
            let router = Router::new().fallback(move || {
                let held = Arc::clone(&held);
                async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                }
            });
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            assert!(tokio::time::timeout(Duration::from_millis(10), answer(router, request)).await.is_err());
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(Arc::strong_count(&running) == 1, ends, "{method} {path}");
        }
    }
}
