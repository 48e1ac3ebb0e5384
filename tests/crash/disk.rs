//! A disk that can lose its power and fail. `disk.c`, compiled here and preloaded into the daemon, writes down each change to a file below a folder and each answer on a
//! socket, in the order in which they happened, and makes the Nth of them fail.
//!
//! What a power failure leaves is worked out from what was written down. A file's contents are sure once the file was synced, a name once its directory was. Of what
//! was not: each write by itself is there, missing, or torn at a sector; the changes of a directory are there up to some point, in their order, as a journalling file system has
//! them. No file system is allowed to do worse than that, and many do better.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Dice;

/// Bytes that a disk writes whole.
const SECTOR: u64 = 512;

/// The preloaded library, if there is a C compiler.
pub(crate) fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/disk.c");
        for compiler in ["cc", "clang", "gcc"] {
            let made = Command::new(compiler).args(["-O1", "-shared", "-fPIC", "-o"]).arg(&target).arg(&source).status();
            if made.is_ok_and(|status| status.success()) {
                return Some(target);
            }
        }
        None
    });
    made.as_deref()
}

/// What the daemon is started with.
pub(crate) fn environment(home: &Path, journal: bool) -> Vec<(&'static str, PathBuf)> {
    let library = library().expect("a library").to_owned();
    let mut environment = vec![("LD_PRELOAD", library), ("DISK_ROOT", home.join("disk")), ("DISK_CONTROL", home.join("control"))];
    if journal {
        environment.push(("DISK_JOURNAL", home.join("journal")));
    }
    environment
}

/// Makes the folder of the disk, and the file that controls it.
pub(crate) fn prepare(home: &Path) {
    fs::create_dir_all(home.join("disk")).expect("a folder");
    fs::write(home.join("control"), [0; 28]).expect("the control");
}

/// Tells the disk what is to fail, and hears what did.
pub(crate) struct Control(fs::File);

impl Control {
    pub(crate) fn of(home: &Path) -> Control {
        Control(fs::File::options().read(true).write(true).open(home.join("control")).expect("the control"))
    }

    /// From now on the `at`th change of a file fails with `error`; and all after it, if it is to last.
    pub(crate) fn fail(&self, error: i32, at: u32, lasting: bool) {
        let words = [1, error as u32, at, u32::from(lasting), 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        // The switch last.
        self.0.write_all_at(&bytes[4..], 4).expect("the control");
        self.0.write_all_at(&bytes[..4], 0).expect("the control");
    }

    /// From now on no file can be read, or each can be again.
    pub(crate) fn fail_reads(&self, error: i32) {
        self.0.write_all_at(&error.to_le_bytes(), 24).expect("the control");
    }

    /// All is well again; how many failed.
    pub(crate) fn mend(&self) -> u32 {
        self.0.write_all_at(&[0; 4], 0).expect("the control");
        let mut failed = [0; 4];
        self.0.read_exact_at(&mut failed, 20).expect("the control");
        u32::from_le_bytes(failed)
    }
}

/// What happened, in order.
#[derive(Debug)]
pub(crate) enum Event {
    /// A file was opened: its handle, its path, whether it was made, whether it was emptied.
    Open(u64, String, bool, bool),
    Write(u64, u64, Vec<u8>),
    Truncate(u64, u64),
    Sync(u64),
    MakeDirectory(String),
    Rename(String, String),
    Link(String, String),
    Unlink(String),
    /// Something left on a socket.
    Answer(Vec<u8>),
}

/// Reads what was written down.
pub(crate) fn events(journal: &Path) -> Vec<Event> {
    let bytes = fs::read(journal).expect("the journal");
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while let Some((what, handle, number, one, two)) = next(&mut rest) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        events.push(match what {
            b'o' => Event::Open(handle, text(one), number & 1 != 0, number & 2 != 0),
            b'w' => Event::Write(handle, number, one.to_vec()),
            b't' => Event::Truncate(handle, number),
            b's' => Event::Sync(handle),
            b'd' => Event::MakeDirectory(text(one)),
            b'r' => Event::Rename(text(one), text(two)),
            b'l' => Event::Link(text(one), text(two)),
            b'u' => Event::Unlink(text(one)),
            b'a' => Event::Answer(one.to_vec()),
            other => panic!("a record of kind {other}"),
        });
    }
    events
}

/// A record: what, handle, number, and two runs of bytes.
type Written<'b> = (u8, u64, u64, &'b [u8], &'b [u8]);

/// The next record: one that is not whole was being written when the process was killed.
fn next<'b>(rest: &mut &'b [u8]) -> Option<Written<'b>> {
    let (head, mut after) = rest.split_at_checked(17)?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let mut part = || {
        let (length, bytes) = after.split_at_checked(4)?;
        let (part, left) = bytes.split_at_checked(u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize)?;
        after = left;
        Some(part)
    };
    let (one, two) = (part()?, part()?);
    *rest = after;
    Some((head[0], number(1), number(9), one, two))
}

/// A file's contents: what is sure, and what was done since.
#[derive(Debug, Clone, Default)]
struct File {
    sure: Vec<u8>,
    since: Vec<Done>,
}

#[derive(Debug, Clone)]
enum Done {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

/// A change of a directory that is not sure yet.
#[derive(Debug, Clone)]
enum Named {
    Put(String, Node),
    Move(String, String),
    Remove(String),
}

/// The disk at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, Node>,
    sure_names: BTreeMap<String, Node>,
    /// By directory.
    since: BTreeMap<String, Vec<Named>>,
    open: HashMap<u64, (String, Option<usize>)>,
}

impl Disk {
    /// One more thing happened.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Open(handle, path, made, emptied) => {
                if *made {
                    self.files.push(File::default());
                    self.put(path.clone(), Node::File(self.files.len() - 1));
                }
                let file = match self.names.get(path) {
                    Some(Node::File(file)) => Some(*file),
                    _ => None,
                };
                if let (Some(file), true) = (file, *emptied) {
                    self.files[file].since.push(Done::Truncate(0));
                }
                self.open.insert(*handle, (path.clone(), file));
            }
            Event::Write(handle, at, bytes) => self.file(*handle, |file| file.since.push(Done::Write(*at, bytes.clone()))),
            Event::Truncate(handle, length) => self.file(*handle, |file| file.since.push(Done::Truncate(*length))),
            Event::Sync(handle) => match self.open.get(handle).cloned() {
                Some((_, Some(file))) => {
                    let file = &mut self.files[file];
                    for done in std::mem::take(&mut file.since) {
                        apply(&mut file.sure, &done);
                    }
                }
                Some((path, None)) => {
                    for named in self.since.remove(&path).unwrap_or_default() {
                        name(&mut self.sure_names, &named);
                    }
                }
                None => (),
            },
            Event::MakeDirectory(path) => self.put(path.clone(), Node::Directory),
            Event::Rename(from, to) => {
                // What is below a directory goes with it, sure or not: it hangs on its directory's entry.
                let node = self.names.remove(from).unwrap_or_else(|| panic!("{from} is renamed, and was never made"));
                assert!(node != Node::Directory, "directories are not renamed here");
                self.names.insert(to.clone(), node);
                assert_eq!(parent(from), parent(to), "renamed within its directory");
                self.since.entry(parent(from)).or_default().push(Named::Move(from.clone(), to.clone()));
            }
            Event::Link(from, to) => {
                let node = self.names[from];
                self.put(to.clone(), node);
            }
            Event::Unlink(path) => {
                self.names.remove(path);
                self.since.entry(parent(path)).or_default().push(Named::Remove(path.clone()));
            }
            Event::Answer(_) => (),
        }
    }

    fn put(&mut self, path: String, node: Node) {
        self.names.insert(path.clone(), node);
        self.since.entry(parent(&path)).or_default().push(Named::Put(path, node));
    }

    fn file(&mut self, handle: u64, change: impl FnOnce(&mut File)) {
        if let Some((_, Some(file))) = self.open.get(&handle) {
            change(&mut self.files[*file]);
        }
    }

    /// Writes into a folder what may be left when the power fails now. How much of what is not sure survives is thrown for each time anew.
    pub(crate) fn lose_power(&self, folder: &Path, dice: &mut Dice) {
        let survive = [0, 30, 70, 100][dice.below(4) as usize];
        let mut names = self.sure_names.clone();
        for changes in self.since.values() {
            let kept = if dice.percent(survive) { changes.len() as u64 } else { dice.below(changes.len() as u64 + 1) };
            let kept = if survive == 0 { 0 } else { kept };
            changes.iter().take(kept as usize).for_each(|change| name(&mut names, change));
        }
        for (path, node) in &names {
            // What is below a directory that is not there is not there.
            let reachable = Path::new(path)
                .ancestors()
                .skip(1)
                .all(|above| above.as_os_str().is_empty() || names.get(&*above.to_string_lossy()) == Some(&Node::Directory));
            if !reachable {
                continue;
            }
            match node {
                Node::Directory => fs::create_dir_all(folder.join(path)).expect("a folder"),
                Node::File(file) => {
                    let target = folder.join(path);
                    fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
                    fs::write(&target, self.contents(*file, survive, dice)).expect("a file");
                    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                    fs::set_permissions(&target, private).expect("its mode");
                }
            }
        }
    }

    fn contents(&self, file: usize, survive: u64, dice: &mut Dice) -> Vec<u8> {
        let file = &self.files[file];
        let mut bytes = file.sure.clone();
        for done in &file.since {
            if dice.percent(survive) {
                apply(&mut bytes, done);
            } else if let (Done::Write(at, whole), true) = (done, survive > 0 && dice.percent(50)) {
                // Torn: it is there up to a sector's beginning.
                let sectors = (at + whole.len() as u64) / SECTOR - at / SECTOR;
                let end = (at / SECTOR + dice.below(sectors + 1)) * SECTOR;
                let length = end.saturating_sub(*at).min(whole.len() as u64);
                apply(&mut bytes, &Done::Write(*at, whole[..length as usize].to_vec()));
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Truncate(length) => bytes.resize(*length as usize, 0),
        Done::Write(at, written) => {
            let end = *at as usize + written.len();
            if bytes.len() < end && !written.is_empty() {
                bytes.resize(end, 0);
            }
            if !written.is_empty() {
                bytes[*at as usize..end].copy_from_slice(written);
            }
        }
    }
}

fn name(names: &mut BTreeMap<String, Node>, change: &Named) {
    match change {
        Named::Put(path, node) => drop(names.insert(path.clone(), *node)),
        Named::Move(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Named::Remove(path) => drop(names.remove(path)),
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned())
}
