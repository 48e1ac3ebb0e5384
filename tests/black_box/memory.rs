//! What stands in the memory of a process, and in what kind of pages.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use doorward::key::Token;
use sha2::block_api::compress256;

use crate::canary::piece_of;
use crate::daemon::{Daemon, eventually};

/// The memory of a process that this one may look into; root may, whatever the process asked for.
pub(crate) struct MemoryOf(u32);

/// Pages that were mapped together.
struct Mapping {
    /// The line of `/proc/PID/smaps` that begins it.
    line: String,
    from: u64,
    to: u64,
    /// `VmFlags`, two letters each: `lo` is locked, `dd` is left out of dumps.
    flags: Vec<String>,
}

impl MemoryOf {
    pub(crate) fn new(pid: u32) -> MemoryOf {
        MemoryOf(pid)
    }

    /// Where a piece stands first, if it does.
    pub(crate) fn finds(&self, piece: &[u8]) -> Option<String> {
        self.all(piece).map(|(_, place)| place).next()
    }

    /// Each place of a piece in what may be written to, with the flags of its pages.
    pub(crate) fn all(&self, piece: &[u8]) -> impl Iterator<Item = (Vec<String>, String)> {
        let memory = fs::File::open(format!("/proc/{}/mem", self.0));
        if memory.is_err() {
            eprintln!("its memory may not be read here: not looked through");
        }
        let piece = piece.to_owned();
        let mappings = if memory.is_ok() { self.mappings() } else { Vec::new() };
        mappings.into_iter().flat_map(move |mapping| {
            let mut found = Vec::new();
            let mut chunk = vec![0; 1 << 20];
            let mut at = mapping.from;
            while at < mapping.to {
                let want = chunk.len().min((mapping.to - at) as usize);
                let Some(read) = memory.as_ref().ok().and_then(|memory| memory.read_at(&mut chunk[..want], at).ok()) else { break };
                for (offset, _) in chunk[..read].windows(piece.len()).enumerate().filter(|(_, window)| *window == piece) {
                    let around = &chunk[offset.saturating_sub(64)..(offset + 64).min(read)];
                    let place = format!("{} at {:x}: {}", mapping.line, at + offset as u64, String::from_utf8_lossy(around));
                    found.push((mapping.flags.clone(), place));
                }
                // A piece may lie across two chunks.
                at += if at + (read as u64) < mapping.to { (read - piece.len().min(read - 1)) as u64 } else { read as u64 };
            }
            found
        })
    }

    fn mappings(&self) -> Vec<Mapping> {
        let mut mappings: Vec<Mapping> = Vec::new();
        for line in fs::read_to_string(format!("/proc/{}/smaps", self.0)).expect("its mappings").lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let flags = flags.split_whitespace().map(str::to_owned).collect();
                mappings.last_mut().expect("a mapping before its flags").flags = flags;
            } else if let Some((from, to)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) {
                let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).expect("an address"));
                mappings.push(Mapping { line: line.to_owned(), from, to, flags: Vec::new() });
            }
        }
        mappings.retain(|mapping| mapping.line.split_whitespace().nth(1).is_some_and(|mode| mode.starts_with("rw")));
        mappings
    }
}

/// The search is shown what it must find: a token in the memory of a process that holds it.
#[test]
fn a_token_in_memory_is_found() {
    let mut holder = Command::new("sh");
    holder.args(["-c", "read held; echo ready; read more; echo \"$held\" >/dev/null"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    let token = Token::generate("dw").expect("a token");
    let text = token.expose_text().expect("text");
    let mut input = holder.stdin.take().expect("its input");
    writeln!(input, "{text}").expect("a line");
    let mut ready = [0; 6];
    holder.stdout.as_mut().expect("its output").read_exact(&mut ready).expect("it says that it holds it");
    let found: Vec<_> = MemoryOf::new(holder.id()).all(piece_of(text)).collect();
    assert!(found.iter().any(|(flags, _)| !flags.is_empty() && !flags.iter().any(|flag| flag == "lo")), "{found:?}");
    drop(input);
    holder.wait().expect("its end");
}

/// The states that stand for a pepper were locked where they ended up; where they had been moved from (the main thread's stack, a piece of the heap), copies stayed
/// that a dump or the swap would have had. Each copy of each of both peppers is in pages that are locked and left out of dumps.
#[test]
fn a_pepper_is_nowhere_but_in_guarded_pages() {
    let mut daemon = Daemon::start_configured("data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n");
    let old = daemon.home().join("old");
    fs::copy(daemon.home().join("data/pepper"), &old).expect("the pepper");
    daemon.create("acme/old", &[]);
    let new = [0x5e; 32];
    fs::write(daemon.home().join("data/pepper"), new).expect("another pepper");
    let both = format!("\nprevious_pepper_file = \"{}\"\n", old.display());
    let config = daemon.home().join("doorward.toml");
    fs::write(&config, fs::read_to_string(&config).expect("the configuration") + &both).expect("the configuration");
    daemon.restart();
    // Digests are made for a change, and for a token that is not recognised.
    let token = daemon.create("acme/new", &[]).token;
    (0..3).for_each(|_| assert_eq!(daemon.verdict(&token, "f", None), "function_unknown"));
    eventually("connections are closed", || daemon.json(&["status"])["verify"]["connections"] == 0);
    let memory = MemoryOf::new(daemon.pid());
    for pepper in [new, fs::read(&old).expect("the pepper").try_into().expect("32 bytes")] {
        assert_eq!(memory.finds(&pepper[..16]), None, "as it was read");
        let states = states_of(&pepper).map(|state| memory.all(&state).collect::<Vec<_>>());
        for found in &states {
            for (flags, place) in found {
                assert!(["lo", "dd"].iter().all(|wanted| flags.iter().any(|flag| flag == wanted)), "{flags:?} {place}");
            }
        }
        let readable = fs::File::open(format!("/proc/{}/mem", daemon.pid())).is_ok();
        assert_eq!(states.map(|found| !found.is_empty()), [readable; 2], "what is looked for is what the daemon has");
    }
}

/// Half of each of the two states of SHA-256 that HMAC under this key begins with, as words in memory.
fn states_of(pepper: &[u8; 32]) -> [[u8; 16]; 2] {
    [0x36, 0x5c].map(|pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(pepper).for_each(|(byte, key)| *byte ^= key);
        let mut state = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
        compress256(&mut state, &[block]);
        std::array::from_fn(|byte| state[byte / 4].to_ne_bytes()[byte % 4])
    })
}
