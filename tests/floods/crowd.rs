//! What broken and hostile processes do to the sockets, besides connecting without pause.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{hello, question};

/// What each process does, on which socket, and how many there are.
pub(super) const CROWDS: [(&str, &str, usize); 19] = [
    ("10,000 that stop in a frame", "verify.sock", 1),
    ("1,000 that send a byte each 0.1 s", "verify.sock", 1),
    ("8 that ask and do not read", "verify.sock", 1),
    ("4 that guess", "verify.sock", 1),
    ("4 that guess in batches of 250", "verify.sock", 1),
    ("4 that send a wrong body", "verify.sock", 1),
    ("4 that connect and send 64 bytes of garbage", "verify.sock", 1),
    ("4 that connect and send 4000 bytes of garbage", "verify.sock", 1),
    ("1 that connects, shakes hands and closes", "verify.sock", 1),
    ("4 that connect, shake hands and close", "verify.sock", 1),
    ("1 that guess", "verify.sock", 8),
    ("1 that connects, shakes hands and closes", "verify.sock", 8),
    ("8 that connect, ask for /v1/status and close", "admin.sock", 1),
    ("8 that ask for /v1/status", "admin.sock", 1),
    ("8 that ask for /v1/keys", "admin.sock", 1),
    ("8 that ask for /v1/unusual", "admin.sock", 1),
    ("4 that connect and send 8000 bytes of garbage", "admin.sock", 1),
    ("300 that stop in a request", "admin.sock", 1),
    ("8 that ask and do not read", "admin.sock", 1),
];

/// Does that until it is killed: so many connections, each without an end.
pub(super) fn harm(what: &str, socket: &Path) -> ! {
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    let (many, what) = what.split_once(' ').expect("how many do what");
    let many = many.replace(',', "").parse().expect("a number");
    let admin = socket.ends_with("admin.sock");
    match what {
        "that stop in a frame" => hold(socket, many, &[hello(), question(b"x")[..20].to_vec()].concat(), None),
        "that stop in a request" => hold(socket, many, b"GET /v1/status HTT", None),
        "that send a byte each 0.1 s" => hold(socket, many, &hello(), Some(&question(&[b'x'; 200]))),
        _ => {
            let threads = (0..many).map(|_| {
                let (what, socket) = (what.to_owned(), socket.to_owned());
                thread::spawn(move || each(&what, &socket, admin))
            });
            threads.collect::<Vec<_>>().into_iter().for_each(|thread| drop(thread.join()));
            panic!("they do it without an end");
        }
    }
}

/// The least that any server can do with such a crowd, until it is killed: who connects without a pause is closed at once, and whoever asks gets the same bytes for whatever was read.
pub(super) fn serve(what: &str, socket: &Path) -> ! {
    let listener = UnixListener::bind(socket).expect("a socket");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).expect("others may connect");
    for stream in listener.incoming().flatten() {
        if !what.contains("connect") {
            thread::spawn(|| answers(stream));
        }
    }
    unreachable!("connections come without an end")
}

fn answers(mut stream: UnixStream) {
    let mut buffer = [0; 1 << 16];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) && stream.write_all(&buffer[..200]).is_ok() {}
}

/// Connections that have sent a piece, and send one byte after the other of a second one; those that are cut are opened again.
fn hold(socket: &Path, many: usize, piece: &[u8], dribbled: Option<&[u8]>) -> ! {
    let open = || {
        let stream = UnixStream::connect(socket).and_then(|mut stream| stream.write_all(piece).map(|()| stream));
        stream.inspect(|stream| _ = stream.set_nonblocking(true)).ok()
    };
    let mut held: Vec<Option<UnixStream>> = (0..many).map(|_| open()).collect();
    for at in 0.. {
        thread::sleep(Duration::from_millis(100));
        for stream in &mut held {
            let sent = match (dribbled, &mut *stream) {
                (Some(bytes), Some(stream)) => stream.write(&bytes[at % bytes.len()..][..1]).is_ok(),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if !sent {
                *stream = open();
            }
        }
    }
    unreachable!("there are more numbers than time")
}

/// What one of the connections does, again and again.
fn each(what: &str, socket: &Path, admin: bool) -> ! {
    let batch = {
        let request = &question(b"x")[16..];
        let body = [&[250], &*request.repeat(250)].concat();
        [&(body.len() as u32).to_le_bytes()[..], &[3, 0, 0, 0], &[0; 8], &body].concat()
    };
    let wrong = {
        let mut frame = question(b"x");
        frame[16] = 251;
        frame
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let words: Vec<&str> = what.split(' ').collect();
    loop {
        let Ok(mut stream) = UnixStream::connect(socket) else { continue };
        // Each of these is cut sooner or later, and then begins anew.
        let _ = match words[..] {
            ["that", "guess"] => asks(&mut stream, &hello(), &question(b"x")),
            ["that", "guess", ..] => asks(&mut stream, &hello(), &batch),
            ["that", "send", "a", "wrong", "body"] => asks(&mut stream, &hello(), &wrong),
            ["that", "ask", "for", path] => asks(&mut stream, b"", &get(path)),
            ["that", "connect,", "ask", "for", path, ..] => once(&mut stream, &get(path)),
            ["that", _, "shake" | "shakes", ..] => once(&mut stream, &hello()),
            ["that", "connect", "and", "send", bytes, ..] => stream.write_all(&vec![b'x'; bytes.parse().expect("a number")]),
            ["that", "ask", "and", ..] if admin => never_reads(&mut stream, b"", &get("/v1/openapi.json")),
            ["that", "ask", "and", ..] => never_reads(&mut stream, &hello(), &question(b"x")),
            _ => panic!("nobody does '{what}'"),
        };
    }
}

fn once(stream: &mut UnixStream, question: &[u8]) -> std::io::Result<()> {
    stream.write_all(question)?;
    stream.read(&mut [0; 4_096]).map(drop)
}

/// The answer to one request is there before the next one is sent.
fn asks(stream: &mut UnixStream, first: &[u8], question: &[u8]) -> std::io::Result<()> {
    stream.write_all(first)?;
    loop {
        stream.write_all(question)?;
        if stream.read(&mut [0; 1 << 16])? == 0 {
            return Ok(());
        }
    }
}

fn never_reads(stream: &mut UnixStream, first: &[u8], question: &[u8]) -> std::io::Result<()> {
    stream.write_all(first)?;
    loop {
        stream.write_all(question)?;
    }
}
