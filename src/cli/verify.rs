use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant as Moment};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::args::tokens::Verify;
use super::ask;
use super::exit::{Exit, Failure};
use super::http::unreachable;
use super::screen::{Hue, Screen};
use super::table::card;
use crate::client::{Answer, Client, ClientError, Request};
use crate::key::{FunctionName, Instant, KeyId, Verdict};

/// Requests in flight on the one connection: enough to keep the daemon busy, few enough that the sockets' buffers hold them.
const WINDOW: u64 = 64;
/// The longest line that is read: a token, a function and an address, with every character escaped, are far shorter.
const LINE_BYTES: u64 = 16 * 1024;
/// How long the daemon may take for an answer: it takes microseconds, so by then it hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A verdict as scripts read it.
#[derive(Debug, Serialize)]
struct VerdictLine<'a> {
    verdict: Verdict,
    key_id: Option<KeyId>,
    version: Option<u16>,
    account: Option<&'a str>,
    expires_at: Option<Instant>,
    retires_at: Option<Instant>,
    retiring: bool,
}

impl VerdictLine<'_> {
    fn of(answer: &Answer) -> VerdictLine<'_> {
        let key = answer.key.as_ref();
        VerdictLine {
            verdict: answer.verdict,
            key_id: key.map(|key| key.id),
            version: key.map(|key| key.version),
            account: key.map(|key| key.account.as_str()),
            expires_at: key.and_then(|key| key.expires_at),
            retires_at: key.and_then(|key| key.retires_at),
            retiring: key.is_some_and(|key| key.retiring),
        }
    }
}

/// A line of `--jsonl`.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestLine {
    pub(super) token: String,
    pub(super) function: String,
    #[serde(default)]
    #[zeroize(skip)]
    pub(super) ip: Option<IpAddr>,
}

/// `verify`
pub(crate) fn verify(socket: &Path, screen: &Screen, arguments: &Verify) -> Result<Exit, Failure> {
    let Some(function) = &arguments.function else {
        return lines(socket, screen, arguments);
    };
    let token = ask::token(&arguments.token)?;
    let mut client = connect(socket)?;
    let request = Request { token: &token, function: function.as_str(), address: arguments.ip };
    let answer = client.verify(&request).map_err(|error| failure(socket, &error))?;
    screen.show(&VerdictLine::of(&answer), || text(screen, &answer))?;
    Ok(if answer.verdict == Verdict::Ok { Exit::Ok } else { Exit::No })
}

pub(super) fn connect(socket: &Path) -> Result<Client, Failure> {
    let mut client = Client::connect(socket).map_err(|error| failure(socket, &error))?;
    client.set_timeout(Some(TIMEOUT)).map_err(|error| failure(socket, &error))?;
    Ok(client)
}

pub(super) fn failure(socket: &Path, error: &ClientError) -> Failure {
    match error {
        ClientError::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            let detail = format!("no answer on {} for {} s: look with 'doorward status'", socket.display(), TIMEOUT.as_secs());
            Failure::new(Exit::Unavailable, "timeout", "the daemon does not answer", detail)
        }
        ClientError::Io(error) => unreachable(socket, error),
        ClientError::Closed => Failure::new(
            Exit::Unavailable,
            "closed",
            "the daemon closed the connection",
            format!("the daemon closed the connection on {}: it may be stopping; try again", socket.display()),
        ),
        ClientError::Refused { .. } if error.is_bad_request() => Failure::new(Exit::Data, "request", "a bad request", error.to_string()),
        ClientError::Refused { .. } if error.is_forbidden() => {
            Failure::new(Exit::NoPermission, "forbidden", "the daemon refused the connection", error.to_string())
        }
        ClientError::Refused { .. } => Failure::new(Exit::TempFail, "refused", "the daemon refused the connection", error.to_string()),
        ClientError::TooLong(_) => Failure::new(Exit::Data, "request", "a bad request", error.to_string()),
        ClientError::Protocol(_) => {
            let detail = format!("{error}; is {} the verify socket, and are the command and the daemon of one version?", socket.display());
            Failure::new(Exit::Software, "protocol", "another protocol", detail)
        }
    }
}

fn text(screen: &Screen, answer: &Answer) -> String {
    let line = VerdictLine::of(answer);
    let verdict = screen.paint(line.verdict.as_str(), if line.verdict == Verdict::Ok { Hue::Good } else { Hue::Bad });
    let number = line.version.map(|version| version.to_string()).unwrap_or_default();
    let retires = screen.moment_or(line.retires_at, "");
    let mut rows = vec![
        ("verdict", verdict),
        ("key_id", line.key_id.map(|id| id.to_string()).unwrap_or_default()),
        ("version", number),
        ("account", line.account.unwrap_or_default().to_owned()),
        ("expires_at", screen.moment_or(line.expires_at, "")),
        ("retires_at", retires),
    ];
    match (screen.terminal, line.retiring) {
        (true, true) => rows.push(("retiring", screen.paint("yes: its user should take the new secret", Hue::Warn))),
        (true, false) => (),
        (false, retiring) => rows.push(("retiring", retiring.to_string())),
    }
    card(screen, &rows)
}

/// A line that waits for its turn to be printed.
enum Slot {
    Asked(Moment),
    Refused(String),
}

/// The requests of standard input on one connection.
struct Pipeline<'s, W: Write> {
    socket: &'s Path,
    client: Client,
    slots: VecDeque<Slot>,
    out: W,
    bad: u64,
    verdicts: BTreeMap<&'static str, u64>,
    latency_ns: Histogram<u64>,
}

/// `verify --jsonl`
fn lines(socket: &Path, screen: &Screen, arguments: &Verify) -> Result<Exit, Failure> {
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin());
    let latency_ns = latencies()?;
    let mut pipeline = Pipeline {
        socket,
        client: connect(socket)?,
        slots: VecDeque::new(),
        out: BufWriter::new(io::stdout().lock()),
        bad: 0,
        verdicts: BTreeMap::new(),
        latency_ns,
    };
    let started = Moment::now();
    let outcome = pipeline.run(&mut input, arguments.rate, started);
    if let Err(Stop::ReaderGone) = outcome {
        return Ok(Exit::Ok);
    }
    if arguments.summary {
        pipeline.summary(screen, started.elapsed());
    }
    match outcome {
        Err(Stop::Failed(failure)) => Err(failure),
        _ => Ok(if pipeline.bad > 0 { Exit::Data } else { Exit::Ok }),
    }
}

/// Latencies in nanoseconds up to the timeout. Three figures are within the noise of any such measurement.
fn latencies() -> Result<Histogram<u64>, Failure> {
    let longest = u64::try_from(TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_max(longest, 3).map_err(|error| Failure::software(error.to_string()))
}

/// Why the pipeline ended before its input did.
enum Stop {
    /// Nobody reads the verdicts any more.
    ReaderGone,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl<W: Write> Pipeline<'_, W> {
    fn run<R: Read>(&mut self, input: &mut BufReader<R>, rate: Option<u32>, started: Moment) -> Result<(), Stop> {
        let mut line = Vec::new();
        for number in 0u64.. {
            // Before waiting for a slow writer, everything that was asked is answered.
            if input.buffer().is_empty() {
                self.drain(0)?;
            }
            self.pace(rate, number, started)?;
            line.zeroize();
            let length = input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
            let length = length.map_err(|error| Failure::stream("cannot read standard input", &error))?;
            if length == 0 {
                break;
            }
            if line.last() != Some(&b'\n') && length as u64 == LINE_BYTES {
                skip_line(input).map_err(|error| Failure::stream("cannot read standard input", &error))?;
                self.slots.push_back(Slot::Refused(format!("the line is longer than {LINE_BYTES} bytes")));
            } else if !line.trim_ascii().is_empty() {
                self.ask(&line)?;
            }
            if self.client.in_flight() >= WINDOW || self.slots.len() as u64 >= 4 * WINDOW {
                self.drain(WINDOW / 2)?;
            }
        }
        self.drain(0)
    }

    /// Waits until the request of this number is due.
    fn pace(&mut self, rate: Option<u32>, number: u64, started: Moment) -> Result<(), Stop> {
        let Some(rate) = rate else { return Ok(()) };
        let due = started + Duration::from_secs_f64(number as f64 / f64::from(rate));
        if due > Moment::now() {
            self.drain(0)?;
            std::thread::sleep(due.saturating_duration_since(Moment::now()));
        }
        Ok(())
    }

    fn ask(&mut self, line: &[u8]) -> Result<(), Failure> {
        let slot = match parse(line) {
            Err(reason) => Slot::Refused(reason),
            Ok(request) => {
                let request = Request { token: request.token.as_bytes(), function: &request.function, address: request.ip };
                match self.client.send(&request) {
                    Ok(()) => Slot::Asked(Moment::now()),
                    Err(error @ ClientError::TooLong(_)) => Slot::Refused(error.to_string()),
                    Err(error) => return Err(failure(self.socket, &error)),
                }
            }
        };
        self.slots.push_back(slot);
        Ok(())
    }

    /// Prints answers in order until no more than so many requests are in flight, and all lines that need none.
    fn drain(&mut self, in_flight: u64) -> Result<(), Stop> {
        while self.client.in_flight() > in_flight || matches!(self.slots.front(), Some(Slot::Refused(_))) {
            match self.slots.pop_front() {
                None => break,
                Some(Slot::Refused(reason)) => self.refused(&reason)?,
                Some(Slot::Asked(asked)) => match self.client.receive() {
                    Ok(answer) => {
                        self.latency_ns.saturating_record(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
                        *self.verdicts.entry(answer.verdict.as_str()).or_default() += 1;
                        self.print(&VerdictLine::of(&answer))?;
                    }
                    Err(error) if error.is_bad_request() => self.refused(&error.to_string())?,
                    Err(error) => return Err(failure(self.socket, &error).into()),
                },
            }
        }
        self.out.flush().map_err(stopped)
    }

    fn refused(&mut self, reason: &str) -> Result<(), Stop> {
        self.bad += 1;
        self.print(&json!({ "error": reason }))
    }

    fn print(&mut self, document: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string(document).map_err(|error| Failure::software(error.to_string()))?;
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.write_all(b"\n")).map_err(stopped)
    }

    /// What was answered, and how fast, on standard error.
    fn summary(&self, screen: &Screen, elapsed: Duration) {
        let answered = self.latency_ns.len();
        let seconds = elapsed.as_secs_f64();
        let per_second = if seconds > 0.0 { (answered as f64 / seconds) as u64 } else { 0 };
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
        if screen.json {
            let latency: BTreeMap<&str, f64> =
                quantiles.iter().map(|(name, q)| (*name, self.latency_ns.value_at_quantile(*q) as f64 / 1_000.0)).collect();
            let document = json!({
                "answered": answered, "errors": self.bad, "seconds": seconds, "per_second": per_second,
                "verdicts": self.verdicts, "latency_us": latency,
            });
            eprintln!("{document}");
            return;
        }
        eprintln!("answered    {answered} in {seconds:.2} s ({per_second} per second), {} lines refused", self.bad);
        let verdicts: Vec<String> = self.verdicts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        eprintln!("verdicts    {}", verdicts.join(", "));
        let latency: Vec<String> =
            quantiles.iter().map(|(name, q)| format!("{name} {:.1}", self.latency_ns.value_at_quantile(*q) as f64 / 1_000.0)).collect();
        eprintln!("latency µs  {} (up to {WINDOW} requests in flight)", latency.join(", "));
    }
}

fn stopped(error: io::Error) -> Stop {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Stop::ReaderGone;
    }
    Stop::Failed(Failure::stream("cannot write to standard output", &error))
}

/// Reads a request. The reason for a refusal never repeats the line, since the line holds a token.
pub(super) fn parse(line: &[u8]) -> Result<RequestLine, String> {
    const SHAPE: &str = "expected {\"token\": TEXT, \"function\": NAME, \"ip\": ADDRESS}, where ip may be absent";
    let request: RequestLine = serde_json::from_slice(line).map_err(|error| {
        let place = error.column();
        match error.classify() {
            serde_json::error::Category::Data => format!("a field is missing, unknown or of a wrong type near column {place}; {SHAPE}"),
            _ => format!("not JSON near column {place}; {SHAPE}"),
        }
    })?;
    if FunctionName::is_valid(request.function.as_bytes()) {
        Ok(request)
    } else {
        Err("function: expected 1 to 128 of A-Z a-z 0-9 . _ : / -".to_owned())
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (length, ended) = match buffer.iter().position(|&b| b == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(length);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_or_refused_without_its_token() {
        let request = parse(br#"{"token":"dw_x","function":"leads.insert","ip":"203.0.113.9"}"#).ok().unwrap();
        assert_eq!((request.token.as_str(), request.ip.unwrap().to_string().as_str()), ("dw_x", "203.0.113.9"));
        for bad in [
            r#"{"token":"dw_secret"}"#,
            r#"{"token":"dw_secret","function":"a b"}"#,
            r#"{"token":"dw_secret","function":"a","ip":"dw_secret"}"#,
            r#"{"token":"dw_secret","function":"a","dw_secret":1}"#,
            r#"{"function":"a","token":["dw_secret"]}"#,
            r#"dw_secret"#,
            r#"["dw_secret"]"#,
        ] {
            let reason = parse(bad.as_bytes()).err().unwrap();
            assert!(!reason.contains("dw_secret"), "{reason}");
        }
    }

    /// A histogram that is made without its range keeps everything at its smallest value.
    #[test]
    fn latencies_keep_their_figures() {
        let mut latency_ns = latencies().unwrap();
        (1..=1_000).for_each(|us| latency_ns.saturating_record(us * 1_000));
        assert!((499_000..502_000).contains(&latency_ns.value_at_quantile(0.5)));
        assert!((999_000..1_002_000).contains(&latency_ns.max()));
    }

    #[test]
    fn the_rest_of_a_long_line_is_skipped() {
        let mut input = BufReader::with_capacity(4, &b"abcdefgh\nnext\n"[..]);
        skip_line(&mut input).unwrap();
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "next\n");
    }
}
