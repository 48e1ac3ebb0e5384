//! The gate: how many instructions each step of the verify path takes, held against `gate/counts.toml`.
//!
//! Times on a shared machine say nothing about a change of five percent; instructions do, and repeat. They are counted by valgrind's callgrind, in
//! one run for all steps, between client requests (the crate `valgrind-requests`). Keys, requests and the recogniser's key are the same in every
//! run. What is left to chance is where names fall in the functions' map, under its random keys: runs differed by 0.2 % at most, in `function` by
//! 0.8 %. Valgrind shows the program neither SHA-NI nor AVX-512,
//! so `digest`, and `verify_stranger` which has one in it, count SHA-256 in plain instructions: far more than the processor executes, and as good for
//! seeing that one was added. No other step has a digest in it.
//!
//! What it does not see is waiting for memory: that is what `cargo bench --bench steps` is for.
//!
//! It was shown what it must catch: with one SHA-256 of the token more in `Door::verify` it failed on `verify_one` (1,710 became
//! 5,232), `verify_round`, `verify_stranger` and `conversation`, and on no other step.

mod counts;
mod scene;
mod steps;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use counts::{Counts, Measured};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.toml");
const COUNTRY_DB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/country/flat.mmdb");

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let outcome = match argument.as_deref() {
        None => check(),
        Some("--accept") => accept(),
        Some("--count") => {
            steps::count_all(Path::new(COUNTRY_DB));
            Ok(String::new())
        }
        Some(_) => Err("usage: doorward-gate [--accept]".into()),
    };
    match outcome {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprintln!("{}", report.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<String, String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Ok("gate: the counts are those of x86_64; nothing is compared here\n".into());
    }
    Counts::read(&text()?)?.compare(&measure()?, &compiler()?)
}

fn accept() -> Result<String, String> {
    let measured = measure()?;
    fs::write(FILE, counts::accepted(&text()?, &measured, &compiler()?)?).map_err(|error| format!("gate: {FILE}: {error}"))?;
    Ok("gate: wrote gate/counts.toml; commit it with the reason\n".into())
}

fn text() -> Result<String, String> {
    fs::read_to_string(FILE).map_err(|error| format!("gate: {FILE}: {error}"))
}

/// Runs this program under callgrind, which writes a file for each step.
fn measure() -> Result<Measured, String> {
    let failed = |error: std::io::Error| format!("gate: {error}");
    let folder = tempfile::tempdir().map_err(failed)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--instr-atstart=no", "--dump-instr=no", "--dump-line=no"]);
    valgrind.arg(format!("--callgrind-out-file={}/dump", folder.path().display()));
    valgrind.arg(std::env::current_exe().map_err(failed)?).arg("--count");
    let output = valgrind.output().map_err(|error| format!("gate: valgrind: {error}; install it (on Debian: apt-get install valgrind)"))?;
    if !output.status.success() {
        return Err(format!("gate: the steps did not run under valgrind:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut measured = Measured::new();
    for entry in fs::read_dir(folder.path()).map_err(failed)? {
        let dump = fs::read_to_string(entry.map_err(failed)?.path()).map_err(failed)?;
        measured.extend(counts::dumped(&dump));
    }
    if measured.is_empty() {
        return Err("gate: no step was counted; if this was built before valgrind was there: cargo clean -p valgrind-requests".into());
    }
    Ok(measured)
}

fn compiler() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output().map_err(|error| format!("gate: rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
