//! Just enough HTTP to ask for many changes over one connection, and to know when an answer did not come.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// A connection to the admin socket.
pub(crate) struct Admin(BufReader<UnixStream>);

/// The connection broke: whether the change was made is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broke;

impl Admin {
    pub(crate) fn connect(run_dir: &Path) -> Result<Admin, Broke> {
        let stream = UnixStream::connect(run_dir.join("admin.sock")).map_err(|_| Broke)?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(|_| Broke)?;
        Ok(Admin(BufReader::new(stream)))
    }

    /// Sends a request and waits for the whole answer: its status and its document.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), Broke> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: d\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(request.as_bytes()).map_err(|_| Broke)?;
        let status = self.line()?;
        let status = status.get(9..12).and_then(|status| status.parse().ok()).ok_or(Broke)?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| Broke)?;
            }
        }
        let mut document = vec![0; length];
        self.0.read_exact(&mut document).map_err(|_| Broke)?;
        let document = if document.is_empty() { Value::Null } else { serde_json::from_slice(&document).expect("a JSON document") };
        Ok((status, document))
    }

    /// As `ask`, for what must succeed if it is answered.
    #[track_caller]
    pub(crate) fn done(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Broke> {
        let (status, document) = self.ask(method, path, body)?;
        assert!((200..300).contains(&status), "{method} {path} {body}: {status} {document}");
        Ok(document)
    }

    fn line(&mut self) -> Result<String, Broke> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(read) if read > 0 && line.ends_with('\n') => Ok(line.trim_end().to_owned()),
            _ => Err(Broke),
        }
    }
}
