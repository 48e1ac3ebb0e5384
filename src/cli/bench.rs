use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use zeroize::Zeroizing;

use super::args::Everywhere;
use super::args::bench::{Bench, BenchEcho};
use super::exit::{Exit, Failure};
use super::screen::{Hue, Screen, grouped};
use super::table::{Grid, field};
use super::verify;
use crate::bench::script::{Expected, Requests};
use crate::bench::{self, BenchError, Plan, Progress, Report, Subject};
use crate::client::Request;

/// Keys of the daemon that is measured, when nothing is said.
const KEYS: u64 = 100_000;
/// Requests of `--tokens` that are taken, and the longest line.
const LINES: usize = 1_000_000;
const LINE_BYTES: u64 = 16 * 1024;
/// Requests in flight while the answers to expect are gathered.
const WINDOW: u64 = 64;

/// `bench`
pub(crate) fn bench(everywhere: &Everywhere, screen: &Screen, arguments: Bench) -> Result<Exit, Failure> {
    let running = everywhere.run_dir.is_some() || everywhere.verify_socket.is_some();
    let scenarios = arguments.scenarios();
    let subject = match (arguments.tokens, running) {
        (Some(file), true) => given(&everywhere.verify(), &file)?,
        (None, false) => Subject::Own { keys: arguments.keys.unwrap_or(KEYS), zipf: arguments.zipf, country_db: arguments.country_db },
        (Some(_), false) => {
            return Err(Failure::usage("bench: --tokens asks a daemon that runs: say which with --run-dir or --verify-socket"));
        }
        (None, true) => {
            return Err(Failure::usage(
                "bench: to ask a daemon that runs, it needs --tokens FILE; without --run-dir and --verify-socket it starts its own",
            ));
        }
    };
    let program = std::env::current_exe().map_err(|error| Failure::stream("cannot find this program", &error))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| Failure::stream("cannot wait for signals", &error))?;
    }
    let (seconds, rounds) = (arguments.seconds, arguments.rounds as usize);
    let plan = Plan { subject, scenarios, seconds, rounds, rate: arguments.rate.map(f64::from) };
    let bar = progress();
    let report = bench::run(&program, plan, &stop, &|progress| tell(&bar, progress));
    bar.finish_and_clear();
    let report = report.map_err(|error| failure(&error))?;
    screen.show(&report, || text(screen, &report))?;
    if !screen.json {
        eprint!("{}", remarks(&report, seconds, rounds));
    }
    Ok(Exit::Ok)
}

/// `bench-echo`
pub(crate) fn echo(arguments: &BenchEcho) -> Result<Exit, Failure> {
    bench::serve_echo(&arguments.socket).map_err(|error| Failure::file("listen on", &arguments.socket, &error))?;
    Ok(Exit::Ok)
}

fn failure(error: &BenchError) -> Failure {
    let detail = format!("bench: {error}");
    match error {
        BenchError::Interrupted => Failure::new(Exit::TempFail, "interrupted", "interrupted", detail),
        BenchError::System { .. } => Failure::new(Exit::Io, "bench", "the bench cannot go on", detail),
        BenchError::Population(_) => Failure::new(Exit::Data, "bench", "a country database that cannot be used", detail),
        BenchError::Daemon(_) | BenchError::Load { .. } | BenchError::Change(_) => {
            Failure::new(Exit::Software, "bench", "a server failed or answered wrongly", detail)
        }
    }
}

/// Reads what is to be asked, and asks it once, to know what the answers must be.
fn given(socket: &Path, file: &Path) -> Result<Subject, Failure> {
    let unreadable = |error: io::Error| Failure::file("read", file, &error);
    let input: Box<dyn Read> = if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file).map_err(unreadable)?) };
    let mut input = BufReader::new(input);
    let mut lines = Vec::new();
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES as usize));
    for number in 1.. {
        line.clear();
        if input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line).map_err(unreadable)? == 0 || lines.len() == LINES {
            break;
        }
        if !line.trim_ascii().is_empty() {
            lines.push(verify::parse(&line).map_err(|reason| refused(number, reason))?);
        }
    }
    if lines.is_empty() {
        return Err(Failure::new(Exit::Data, "bench", "nothing to ask", format!("there is no request in {}", file.display())));
    }
    let tokens = lines.iter().map(|line| line.token.as_str()).collect::<HashSet<_>>().len() as u64;
    let failed = |error| verify::failure(socket, &error);
    let mut client = verify::connect(socket)?;
    let mut requests = Requests::none();
    let mut sent = lines.iter();
    for line in &lines {
        for line in sent.by_ref().take((WINDOW - client.in_flight()) as usize) {
            let request = Request { token: line.token.as_bytes(), function: &line.function, address: line.ip };
            client.send(&request).map_err(failed)?;
        }
        let answer = client.receive().map_err(failed)?;
        let account_bytes = answer.key.map_or(0, |key| key.account.len());
        requests.push(line.token.as_bytes(), &line.function, line.ip, Expected::new(answer.verdict, account_bytes));
    }
    Ok(Subject::Running { verify_socket: socket.to_owned(), requests, tokens })
}

fn refused(line: u64, reason: String) -> Failure {
    let mut failure = Failure::new(Exit::Data, "bench", "a line is refused", reason);
    failure.line = Some(line);
    failure
}

/// A line on a terminal's standard error; nothing elsewhere.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("  {msg}") {
        bar.set_style(style);
    }
    bar
}

fn tell(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Drawing { done, of } => bar.set_message(format!("drawing keys: {} of {}", grouped(done), grouped(of))),
        // The import draws its own line.
        Progress::Importing(_) => bar.set_message(""),
        Progress::Starting => bar.set_message("starting again"),
        Progress::WarmingUp => bar.set_message("warming up"),
        Progress::Round { scenario, round, of } => bar.set_message(format!("{}: round {round} of {of}", scenario.name())),
    }
    bar.tick();
}

fn text(screen: &Screen, report: &Report) -> String {
    let titles =
        ["SCENARIO", "SERVER", "CONNECTIONS", "DEPTH", "PER SECOND", "P50 µs", "P99 µs", "P99.9 µs", "MAX µs", "RATIO OF", "RATIO"];
    let mut grid =
        Grid::new(&titles).wide_only("MAX µs", 110).wide_only("CONNECTIONS", 100).wide_only("DEPTH", 100).wide_only("P99.9 µs", 90);
    for right in ["CONNECTIONS", "DEPTH", "PER SECOND", "P50 µs", "P99 µs", "P99.9 µs", "MAX µs", "RATIO"] {
        grid = grid.right(right);
    }
    let micros = |ns: u64| format!("{:.2}", ns as f64 / 1_000.0);
    for row in &report.rows {
        let of = report.ratios.iter().find(|ratio| ratio.scenario == row.scenario);
        let depth = if row.depth == 0 { "when due".to_owned() } else { row.depth.to_string() };
        grid.row(vec![
            row.scenario.name().into(),
            field(row.server, if row.server == "doorward" { Hue::Strong } else { Hue::Plain }),
            row.connections.to_string().into(),
            depth.into(),
            if screen.terminal { grouped(row.per_second as u64) } else { format!("{:.0}", row.per_second) }.into(),
            micros(row.p50_ns).into(),
            micros(row.p99_ns).into(),
            micros(row.p999_ns).into(),
            micros(row.max_ns).into(),
            of.map_or("", |ratio| ratio.figure.name()).into(),
            field(format!("{:.3}", row.ratio), Hue::Strong),
        ]);
    }
    grid.render(screen)
}

/// What the table means, for people, on standard error.
fn remarks(report: &Report, seconds: f64, rounds: usize) -> String {
    let keys = report.rows.first().map_or(0, |row| row.keys);
    let asked = &report.requests;
    let mut text = format!(
        "\nMedians of {rounds} rounds in turns, {seconds} s a scenario, {} keys ({}), {:.0} % refused, every verdict checked.\n\
         Requests of {} bytes, answers of {}. RATIO: of the column that RATIO OF names, to the row of its scenario that has 1;\n\
         less is better for times, more for 'per second'.\n",
        grouped(keys),
        asked.keys,
        asked.refused_share * 100.0,
        asked.request_bytes,
        asked.answer_bytes
    );
    if let Some(daemon) = &report.daemon {
        let resident = &daemon.resident_bytes;
        let mb = |bytes: u64| bytes / 1_000_000;
        text.push_str(&format!(
            "Import {:.1} s, start to ready {:.2} s; resident {} MB when ready, {} MB at the end; store {} MB.\n",
            daemon.import_s,
            daemon.ready_s,
            mb(resident.when_ready),
            mb(resident.at_end),
            mb(daemon.store_bytes)
        ));
    }
    for note in &report.notes {
        text.push_str(&format!("{note}.\n"));
    }
    text
}
