use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use crate::admin::wire::Problem;
use crate::key::KeyRef;

/// A line to the daemon's admin socket. Blocks until the answer is there.
pub(crate) struct Admin {
    socket: PathBuf,
    on_behalf_of: Option<String>,
    runtime: Runtime,
}

/// Bytes of an upload that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks of an upload that wait for the socket.
const CHUNKS_WAITING: usize = 4;
/// How long a connection waits where the daemon has more of them in its queue than it takes up.
const CROWDED_TIME: Duration = Duration::from_secs(5);
/// The pause before a question is asked again.
const ASKING_AGAIN: Duration = Duration::from_millis(20);

/// The word of a connection that ended before its answer.
const BROKEN: &str = "broken";

type Sent = Either<Full<Bytes>, Upload>;

/// A body that is read while it is sent.
struct Upload(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

impl Admin {
    /// Gets ready to speak to this socket.
    pub(crate) fn new(socket: PathBuf) -> Result<Admin, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::stream("cannot start the event loop", &error))?;
        Ok(Admin { socket, on_behalf_of: None, runtime })
    }

    /// Says whom the changes are made for.
    pub(crate) fn acting_for(mut self, who: Option<&str>) -> Admin {
        self.on_behalf_of = who.map(str::to_owned);
        self
    }

    /// Asks for a document.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Full::default(), None)
    }

    /// Asks for a change without a document.
    pub(crate) fn act<T: DeserializeOwned>(&self, method: Method, path: &str, revision: Option<u64>) -> Result<T, Failure> {
        self.ask(method, path, Full::default(), revision)
    }

    /// Sends a document.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        document: &impl Serialize,
        revision: Option<u64>,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(document).map_err(|error| Failure::software(format!("a request cannot be written: {error}")))?;
        self.ask(method, path, Full::new(Bytes::from(body)), revision)
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Full<Bytes>, revision: Option<u64>) -> Result<T, Failure> {
        let text = self.runtime.block_on(async {
            let response = self.exchange(method, path, "application/json", Either::Left(body), revision).await?;
            let text = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
            Ok::<_, Failure>(Zeroizing::new(text.to_vec()))
        })?;
        // A change without a document in its answer answers with nothing: null.
        let text: &[u8] = if text.is_empty() { b"null" } else { &text };
        serde_json::from_slice(text).map_err(|error| {
            Failure::software(format!(
                "the daemon's answer to {path} is not understood ({error}); are the command and the daemon of one version?"
            ))
        })
    }

    /// Sends what the reader gives while reading it. `sent` hears of each chunk's bytes and lines.
    pub(crate) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        mut reader: impl Read + Send + 'static,
        sent: impl Fn(&[u8]) + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        // The thread ends with its input, or when the receiver is gone because the daemon answered early.
        std::thread::spawn(move || {
            let mut buffer = Zeroizing::new(vec![0u8; CHUNK_BYTES]);
            loop {
                let chunk = match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                if let Ok(bytes) = &chunk {
                    sent(bytes);
                }
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        let text = self.runtime.block_on(async {
            let response = self.exchange(Method::POST, path, "application/jsonl", Either::Right(Upload(receiver)), None).await?;
            let text = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
            Ok::<_, Failure>(Zeroizing::new(text.to_vec()))
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::software(format!("the daemon's answer to {path} is not understood: {error}")))
    }

    /// Writes an answer out as it comes.
    pub(crate) fn download(&self, path: &str, writer: &mut dyn Write) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let response = self.exchange(Method::GET, path, "application/json", Either::Left(Full::default()), None).await?;
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                let Some(data) = frame.data_ref() else { continue };
                match writer.write_all(data) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    result => result.map_err(|error| Failure::stream("cannot write the export", &error))?,
                }
            }
            writer.flush().map_err(|error| Failure::stream("cannot write the export", &error))
        })
    }

    /// Asks for a document of many lines, and shows each as it comes. Whether the last was whole is for the caller to tell.
    pub(crate) fn lines(&self, method: Method, path: &str, mut show: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let response = self.exchange(method, path, "application/json", Either::Left(Full::default()), None).await?;
            let mut body = response.into_body();
            let mut waiting = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                let Some(data) = frame.data_ref() else { continue };
                waiting.extend_from_slice(data);
                while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = waiting.drain(..=end).collect();
                    show(&line)?;
                }
            }
            Ok(())
        })
    }

    /// A question whose connection breaks without an answer is asked again for a while: most likely the daemon closed it, as too many came of this user. A change is not: it may
    /// have been made.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Sent,
        revision: Option<u64>,
    ) -> Result<Response<Incoming>, Failure> {
        if method != Method::GET {
            return self.exchange_once(method, path, content_type, body, revision).await;
        }
        let until = Instant::now() + CROWDED_TIME;
        loop {
            let body = Either::Left(Full::default());
            match self.exchange_once(Method::GET, path, content_type, body, revision).await {
                Err(failure) if failure.kind.ends_with(BROKEN) && Instant::now() < until => tokio::time::sleep(ASKING_AGAIN).await,
                outcome => return outcome,
            }
        }
    }

    async fn exchange_once(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Sent,
        revision: Option<u64>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = connect(&self.socket, CROWDED_TIME).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => crowded(&self.socket),
            _ => unreachable(&self.socket, &error),
        })?;
        let stream = UnixStream::from_std(stream).map_err(|error| unreachable(&self.socket, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, "doorward");
        request = request.header(CONTENT_TYPE, content_type);
        if let Some(revision) = revision {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(who) = &self.on_behalf_of {
            request = request.header("X-Doorward-As", escaped(who));
        }
        let request = request.body(body).map_err(|error| Failure::software(format!("a request cannot be built: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let text = match response.into_body().collect().await {
            Ok(text) => text.to_bytes(),
            Err(error) => return self.broken(&error),
        };
        match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => Failure::from_problem(problem),
            Err(_) => {
                let detail = String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).take(300).collect::<String>();
                let problem = Problem {
                    kind: "urn:doorward:problem:http".into(),
                    title: "the daemon refused the request".into(),
                    status: status.as_u16(),
                    detail: format!("HTTP status {status}: {detail}"),
                    field: None,
                    line: None,
                    import: None,
                };
                Failure::from_problem(problem)
            }
        }
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        let detail = format!(
            "the connection to {} broke ({reason}); whether the request took effect is not known: look with 'doorward history'",
            self.socket.display()
        );
        Failure::new(Exit::Unavailable, BROKEN, "the connection broke", detail)
    }
}

/// Connects. Where the queue of the socket is full, it waits in the kernel for its turn, for so long: of those who wait there, who came first is first. One that does not wait
/// (as tokio's) fails at once.
fn connect(socket: &Path, patience: Duration) -> io::Result<StdUnixStream> {
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&stream, Timeout::Send, Some(patience))?;
    let address = SocketAddrUnix::new(socket)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&stream, &address))?;
    let stream = StdUnixStream::from(stream);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Too many connect to the admin socket.
fn crowded(socket: &Path) -> Failure {
    let detail = format!(
        "{} is crowded: more connections come than the daemon takes up, and this one waited {} s; nothing was asked, so try again. The daemon's log says whose they are ('too many \
         connections')",
        socket.display(),
        CROWDED_TIME.as_secs()
    );
    Failure::new(Exit::TempFail, "crowded", "the admin socket is crowded", detail)
}

/// Why a socket of the daemon cannot be reached, and what to do.
pub(crate) fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let place = socket.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        let detail = format!("you may not open {place}: run this as root, or as a user whom the configuration admits to that socket");
        return Failure::new(Exit::NoPermission, "permission", "not allowed", detail);
    }
    let reason = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {place}"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens on {place}"),
        _ => format!("cannot connect to {place}: {error}"),
    };
    let detail = format!(
        "{reason}; is the daemon running? Start it with 'systemctl start doorward' or 'doorward serve --config FILE', or say where it is with --run-dir DIR"
    );
    Failure::new(Exit::Unavailable, "unreachable", "the daemon cannot be reached", detail)
}

/// A text as one segment of a path, a value of a query or a header: all but unreserved characters (RFC 3986 2.3) percent-encoded.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The path of a key, and of what belongs to it: `key_path(key, "/rotate")`.
pub(crate) fn key_path(key: &KeyRef, rest: &str) -> String {
    format!("/v1/keys/{}{rest}", escaped(&key.to_string()))
}

/// A path with a query of those values that are there.
pub(crate) fn with_query(path: &str, values: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<String> =
        values.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", escaped(value)))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_percent_encoded() {
        let key: KeyRef = "acme/a b/ü?#%".parse().unwrap();
        assert_eq!(key_path(&key, "/rotate"), "/v1/keys/acme%2Fa%20b%2F%C3%BC%3F%23%25/rotate");
        assert_eq!(with_query("/v1/keys", &[("tag", Some("a=b&c".into())), ("name", None)]), "/v1/keys?tag=a%3Db%26c");
        assert_eq!(with_query("/v1/keys", &[("name", None)]), "/v1/keys");
    }

    /// A command whose connection found the queue full failed at once, and asked whether the daemon was running.
    #[test]
    fn a_full_queue_is_waited_for_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let brief = Duration::from_millis(50);
        let queued: Vec<StdUnixStream> = std::iter::from_fn(|| connect(&path, brief).ok()).collect();
        assert_eq!(queued.len(), 2, "what a queue of 1 holds");
        assert_eq!(connect(&path, brief).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || connect(&path, Duration::from_secs(20)).map(drop)
        });
        std::thread::sleep(brief);
        assert!(!waiting.is_finished());
        let _accepted = rustix::net::accept(&listener).unwrap();
        waiting.join().unwrap().unwrap();
        let failure = Admin::new(path).unwrap().get::<()>("/v1/status").unwrap_err();
        assert_eq!((failure.exit, &*failure.kind), (Exit::TempFail, "urn:doorward:problem:crowded"));
        assert!(failure.detail.contains("is crowded") && !failure.detail.contains("running"), "{}", failure.detail);
    }

    /// The daemon closes connections at once of a user who opens too many: each command of that user failed.
    #[test]
    fn a_question_whose_connection_breaks_is_asked_again_and_a_change_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let serving = std::thread::spawn(move || {
            let next = || listener.accept().unwrap().0;
            (0..3).for_each(|_| drop(next()));
            let mut stream = next();
            let mut request = [0; 1_000];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /v1/status "));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7").unwrap();
        });
        let admin = Admin::new(path).unwrap();
        let failure = admin.act::<u64>(Method::POST, "/v1/keys/x/enable", None).unwrap_err();
        assert!(failure.detail.contains("is not known"), "{}", failure.detail);
        assert_eq!(admin.get::<u64>("/v1/status").unwrap(), 7);
        serving.join().unwrap();
    }

    #[test]
    fn a_missing_daemon_is_unavailable_and_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let failure = Admin::new(socket.clone()).unwrap().get::<()>("/v1/status").unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.detail.contains(&*socket.to_string_lossy()) && failure.detail.contains("doorward serve"), "{}", failure.detail);
    }
}
