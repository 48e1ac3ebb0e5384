//! `/metrics` over TCP, for monitoring systems that know no Unix sockets. Whoever reaches the port may read it, and nothing else is there.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tracing::{debug, warn};

use super::super::server::Shared;
use super::page;
use super::text::Format;

/// Connections at once; one more is closed. Monitoring systems need one each.
const CONNECTIONS: usize = 16;
/// How long a connection may last, all told: one request and its answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long the request may take to come, so that who says nothing does not keep a place for long.
const HEAD_TIME: Duration = Duration::from_secs(1);
/// Bytes of a request's head, and its fields.
const HEAD_BYTES: usize = 8 << 10;
const HEADERS: usize = 64;
/// A page is made no more often than this, however many ask for it: anybody on the host may.
const FRESH: Duration = Duration::from_secs(1);

/// The last page of each format.
type Kept = Arc<Mutex<[Option<(Instant, String)>; 2]>>;

/// Serves `/metrics` until the task is dropped.
///
/// # Errors
/// The listener cannot be watched by the runtime.
pub(in crate::admin) async fn listen(listener: StdTcpListener, shared: Arc<Shared>) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (places, kept) = (Arc::new(Semaphore::new(CONNECTIONS)), Kept::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let (shared, kept) = (Arc::clone(&shared), Arc::clone(&kept));
                tokio::spawn(async move {
                    if tokio::time::timeout(CONNECTION_TIME, serve(stream, shared, kept)).await.is_err() {
                        debug!("metrics: a connection was cut after {} s", CONNECTION_TIME.as_secs());
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(before) = shared.counters.complaints.take() {
                    warn!(%error, before, "metrics: cannot accept");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, kept: Kept) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (shared, kept) = (Arc::clone(&shared), Arc::clone(&kept));
        async move { Ok::<Response, Infallible>(answer(&request, &shared, &kept).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "metrics: a connection broke off");
    }
}

async fn answer(request: &Request<Incoming>, shared: &Arc<Shared>, kept: &Kept) -> Response {
    if request.uri().path() != "/metrics" {
        return (StatusCode::NOT_FOUND, "only /metrics is here\n").into_response();
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "only GET is taken here\n").into_response();
    }
    let format = Format::accepted(request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    // Held while the page is made, so that those who ask meanwhile wait for it and do not make it, too.
    let mut kept = kept.lock().await;
    let kept = &mut kept[format as usize];
    if kept.as_ref().is_none_or(|(made_at, _)| made_at.elapsed() >= FRESH) {
        match page(shared, format).await {
            Ok(page) => *kept = Some((Instant::now(), page)),
            Err(failure) => return failure.into_response(),
        }
    }
    let page = kept.as_ref().map(|(_, page)| page.clone()).unwrap_or_default();
    ([(header::CONTENT_TYPE, format.content_type())], Body::from(page)).into_response()
}
