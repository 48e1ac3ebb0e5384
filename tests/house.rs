//! The rules of the house: who may know whom, how long a file may grow, and that documents say what the code says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which room may name which, in full. Rooms depend only downwards, and siblings never know each other; `docs/architecture.md`
/// draws it. A new edge is a decision: it is made here, in the same commit, with its reason.
const EDGES: &[(&str, &[&str])] = &[
    ("admin", &["advise", "catalog", "clock", "key", "peer", "policy", "store", "turnstile", "unusual", "verify", "wire"]),
    ("advise", &["key"]),
    // Copies a checkpoint, and looks at everything in the copy.
    ("backup", &["catalog", "digest", "key", "store"]),
    // A user of the daemon like any other: what its sockets speak, and what its keys are made of. It never looks inside.
    ("bench", &["admin", "digest", "geo", "key", "protocol"]),
    ("catalog", &["digest", "index", "key", "store"]),
    ("cli", &["admin", "advise", "backup", "bench", "catalog", "client", "config", "daemon", "key", "systemd", "unusual"]),
    ("client", &["key", "protocol"]),
    ("clock", &["key"]),
    // The limits of what is judged are defined where it is judged.
    ("config", &["advise", "key", "regular_file", "unusual"]),
    (
        "daemon",
        &[
            "admin",
            "backup",
            "catalog",
            // The daemon asks itself before it tells systemd that it is well.
            "client",
            "clock",
            "config",
            "digest",
            "flush",
            "geo",
            "index",
            "key",
            "regular_file",
            "store",
            "systemd",
            "usage",
            "verify",
            "verify_socket",
        ],
    ),
    ("digest", &["key"]),
    ("flush", &["clock", "key", "store", "usage"]),
    // Only the wall's time, to say when a database was loaded.
    ("geo", &["clock", "key", "regular_file"]),
    ("index", &["key"]),
    ("main", &["cli", "wiping"]),
    ("policy", &["key"]),
    ("protocol", &["key"]),
    ("record", &["key"]),
    ("store", &["key", "record"]),
    ("unusual", &["key"]),
    ("usage", &["key"]),
    ("verify", &["digest", "geo", "index", "key", "policy", "protocol", "usage"]),
    ("verify_socket", &["clock", "key", "peer", "protocol", "turnstile", "verify"]),
    // The end of a history is told, and asked for, in the form that the record has.
    ("wire", &["key", "record"]),
];

/// Lines of a source file. Past 500 it asks to be cut; past this it must be.
const FILE_LINES: usize = 600;

/// Words that announce what is not done. Spelled in pieces, so that this file does not trip over itself.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("for ", "now")];

/// Rooms that say nothing about what is in them.
const NAMELESS: &[&str] = &["utils", "util", "helpers", "common", "manager", "misc"];

#[test]
fn rooms_know_only_whom_they_may() {
    let found = edges_of_the_sources();
    let allowed = allowed_edges();
    let forbidden: Vec<String> =
        found.iter().filter(|(edge, _)| !allowed.contains(edge)).map(|(edge, file)| describe(edge, file)).collect();
    assert!(forbidden.is_empty(), "edges that are not in the table of tests/house.rs:\n{}", forbidden.join("\n"));
    let unused: Vec<_> = allowed.iter().filter(|edge| !found.contains_key(*edge)).collect();
    assert!(unused.is_empty(), "edges in the table of tests/house.rs that no source needs: {unused:?}");
}

#[test]
fn the_table_itself_has_no_cycle() {
    let allowed = allowed_edges();
    let mut rooms: BTreeSet<&str> = EDGES.iter().map(|(room, _)| *room).collect();
    // A room whose neighbours are all gone may go: what stays is in a cycle or above one.
    while let Some(leaf) = rooms.iter().copied().find(|room| !allowed.iter().any(|(from, to)| from == room && rooms.contains(to.as_str())))
    {
        rooms.remove(leaf);
    }
    assert!(rooms.is_empty(), "a cycle among {rooms:?}");
}

/// The check is shown what it must catch: each way in which a source can name another room, and each in which it does not.
#[test]
fn a_planted_edge_is_caught() {
    let named = |depth, source| rooms_named(source, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(named(1, "use crate::store::Store;"), ["store"]);
    assert_eq!(named(1, "use crate::{catalog::Catalog, key::{Key, KeyId}};"), ["catalog", "key"]);
    assert_eq!(named(1, "use crate::{\n    index,\n    store::{self, Batch},\n};"), ["index", "store"]);
    assert_eq!(named(1, "fn f(x: &crate::store::Store) {}"), ["store"]);
    assert_eq!(named(1, "pub(crate) fn f() { let c = '\"'; crate::admin::serve() }"), ["admin"]);
    assert_eq!(named(2, "use super::super::store;"), ["store"]);
    assert_eq!(named(1, "use super::store;"), ["store"]);
    assert!(named(2, "use super::store;").is_empty(), "a neighbour in the same room");
    assert!(named(1, "// crate::store\n/// [`crate::store`]\n/* crate::store /* crate::index */ */").is_empty());
    assert!(named(1, "const S: &str = \"crate::store\"; const R: &str = r#\"crate::\"index\"#;").is_empty());
    assert!(named(1, "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n    fn f() { let b = \"}\"; }\n}\n").is_empty());
    assert!(named(1, "#[cfg(test)]\nuse crate::store::Store;\n").is_empty());
    assert_eq!(named(1, "#[cfg(test)]\nmod tests { use crate::store; }\nuse crate::index::Index;"), ["index"]);
    assert!(!allowed_edges().contains(&("verify".to_owned(), "store".to_owned())), "no code path lets a request touch the disk");
}

#[test]
fn modules_of_tests_are_compiled_for_tests_only() {
    for (_, path) in sources() {
        let source = without_tests(&without_comments_and_strings(&read(&path)));
        assert!(!source.contains("mod tests"), "{}: 'mod tests' without #[cfg(test)]", path.display());
    }
}

#[test]
fn only_the_store_names_rocksdb() {
    for (room, path) in sources() {
        let source = without_tests(&without_comments_and_strings(&read(&path)));
        assert!(room == "store" || !source.contains("rocksdb"), "{}", path.display());
    }
}

#[test]
fn files_stay_short_and_named_for_what_is_in_them() {
    for path in rust_files(&["src", "tests", "benches", "fuzz/fuzz_targets", "gate/src"]) {
        let lines = read(&path).lines().count();
        assert!(lines <= FILE_LINES, "{} has {lines} lines: cut it where the domain cuts", path.display());
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!NAMELESS.contains(&stem.as_str()), "{}: a name that says nothing", path.display());
    }
}

/// Whoever meets an exception later must see since when it stands, and why.
#[test]
fn exceptions_of_dependencies_have_a_date_and_a_reason() {
    let undated = |text: &str| {
        let mut above = "";
        let mut found = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with("deny = ")) {
            let reason = line.split_once("reason = \"").map_or(above.trim_start_matches("# "), |(_, reason)| reason);
            let dated = reason.split_once(": ").is_some_and(|(date, why)| date.starts_with("20") && date.len() >= 7 && !why.is_empty());
            if (line.contains("{ id = ") || line.contains("{ crate = ")) && !dated {
                found.push(line.to_owned());
            }
            // Of several lines of a comment the first has the date.
            if !(line.starts_with('#') && above.starts_with('#')) {
                above = line;
            }
        }
        found
    };
    assert_eq!(undated(&read(&root().join("deny.toml"))), Vec::<String>::new());
    let text = "# a reason\nexceptions = [{ crate = \"a\" }]\n# 2026-11: b\nexceptions = [{ crate = \"b\" }]\n    { id = \"c\", reason = \"2026\" },";
    assert_eq!(undated(text), ["exceptions = [{ crate = \"a\" }]", "    { id = \"c\", reason = \"2026\" },"]);
}

#[test]
fn nothing_is_left_for_later_in_silence() {
    let mut paths = rust_files(&["src", "tests", "benches", "fuzz/fuzz_targets", "gate/src"]);
    paths.extend(documents());
    for path in paths {
        for (number, line) in read(&path).lines().enumerate() {
            let word = UNFINISHED.iter().find(|word| line.contains(*word));
            assert!(word.is_none(), "{}:{}: '{}'", path.display(), number + 1, word.unwrap_or(&""));
        }
    }
}

#[test]
fn every_limit_is_documented_with_its_value() {
    let page = read(&root().join("docs/limits.md"));
    let limits = constants(&read(&root().join("src/key/limits.rs")));
    assert!(limits.len() > 10, "the constants are read");
    for (name, value) in &limits {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/limits.md does not name {name}"));
        let cell: String = row.split('|').nth(2).unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        assert_eq!(cell, value.to_string(), "docs/limits.md on {name}");
    }
    let documented = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for name in documented.filter(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')) {
        assert!(limits.contains_key(name), "docs/limits.md names {name}, which src/key/limits.rs does not have");
    }
}

/// Who is on duty finds each warning and each error of the daemon on the page, and nothing there that the daemon does not say.
#[test]
fn every_line_that_wants_somebody_is_on_the_operations_page() {
    let page = read(&root().join("docs/operations.md"));
    let (_, table) = page.split_once("## What the log says").expect("the table");
    let table = table.split_once("\n## ").map_or(table, |(table, _)| table);
    let cells = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line[2..].split(" | ").next());
    let named: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let daemon: Vec<String> =
        sources().iter().filter(|(room, _)| !["bench", "cli", "main"].contains(&room.as_str())).map(|(_, path)| read(path)).collect();
    let said: Vec<String> = daemon.iter().flat_map(|source| messages(source)).collect();
    assert!(named.len() > 30 && said.len() > 30, "both are found");
    for message in said.iter().filter(|message| !message.starts_with('{')) {
        assert!(named.iter().any(|name| message.contains(name)), "the page does not tell what to do about '{message}'");
    }
    for name in named {
        assert!(daemon.iter().any(|source| source.contains(name)), "the daemon does not say '{name}'");
    }
    assert_eq!(messages("warn!(%error, x = a(\"no\"), \"a message: {}\", 1);\nerror!(\n  \"b\"\n)"), ["a message: {}", "b"]);
}

/// What the warnings and errors of a source say: the longest text in each.
fn messages(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in ["warn!(", "error!("].iter().flat_map(|call| source.match_indices(call)) {
        let mut depth = 0;
        let end = source[at..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            *c == ')' && depth == 0
        });
        let call = end.map_or("", |(end, _)| &source[at..at + end]);
        found.extend(call.split('"').skip(1).step_by(2).max_by_key(|text| text.len()).map(str::to_owned));
    }
    found
}

#[test]
fn links_between_documents_resolve() {
    let mut broken = Vec::new();
    for page in documents() {
        let text = read(&page);
        for target in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap_or(Path::new("/")).join(file) };
            let anchored = anchor.is_empty() || path.is_dir() || headings(&fs::read_to_string(&path).unwrap_or_default()).contains(anchor);
            if !path.exists() || !anchored {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert_eq!(links("a [b](c.md#d) [e](https://f) `[g](h)`"), ["c.md#d"]);
    assert!(headings("## A `b` of C, d\n").contains("a-b-of-c-d"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn describe((from, to): &(String, String), file: &Path) -> String {
    format!("  {from} -> {to}   ({})", file.display())
}

fn allowed_edges() -> BTreeSet<(String, String)> {
    EDGES.iter().flat_map(|(from, tos)| tos.iter().map(|to| ((*from).to_owned(), (*to).to_owned()))).collect()
}

/// Every edge between two rooms, with a file that has it.
fn edges_of_the_sources() -> BTreeMap<(String, String), PathBuf> {
    let mut edges = BTreeMap::new();
    for (room, path) in sources().into_iter().filter(|(room, _)| room != "lib") {
        let relative = path.strip_prefix(root().join("src")).expect("a source").with_extension("");
        let depth = relative.components().filter(|part| part.as_os_str() != "mod").count();
        for other in rooms_named(&read(&path), depth) {
            if other != room {
                edges.entry((room.clone(), other)).or_insert_with(|| path.clone());
            }
        }
    }
    edges
}

/// Each source file with its room: the first part of its path. Modules named `tests` are left out; that they are only compiled for tests is a test of its own.
fn sources() -> Vec<(String, PathBuf)> {
    let room = |path: &Path| {
        let relative = path.strip_prefix(root().join("src")).expect("a source").with_extension("");
        relative.components().next().expect("a name").as_os_str().to_string_lossy().into_owned()
    };
    let folder = root().join("src");
    let for_tests = |path: &Path| path.strip_prefix(&folder).is_ok_and(|path| path.with_extension("").iter().any(|part| part == "tests"));
    rust_files(&["src"]).into_iter().filter(|path| !for_tests(path)).map(|path| (room(&path), path)).collect()
}

/// The rooms that a source names outside its tests: `crate::room`, `crate::{room, …}`, `doorward::room`, or `super` often enough.
fn rooms_named(source: &str, depth: usize) -> BTreeSet<String> {
    let code = without_tests(&without_comments_and_strings(source));
    let mut rooms = BTreeSet::new();
    for start in ["crate::", "doorward::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].chars().next_back().is_none_or(|c| !is_identifier(c) && c != ':') {
                rooms.extend(first_names(&code[at + start.len()..]));
            }
        }
    }
    let climb = "super::".repeat(depth);
    for (at, _) in code.match_indices(&climb) {
        rooms.extend(first_names(&code[at + climb.len()..]));
    }
    rooms.remove("super");
    rooms
}

/// The first name of a path, or of each path in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_identifier(*c)).collect::<String>();
    let Some(group) = path.trim_start().strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The source with comments and the insides of strings blanked.
fn without_comments_and_strings(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['r', '"' | '#', ..] if !code.chars().next_back().is_some_and(is_identifier) => raw_string(rest),
            ['"', ..] => quoted(rest),
            ['\'', '\\', _, '\'', ..] => 4,
            ['\'', _, '\'', ..] => 3,
            [c, ..] => {
                code.push(*c);
                1
            }
            [] => break,
        };
    }
    code
}

fn block_comment(text: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// A raw string, or a raw identifier, of which only the `r` is taken.
fn raw_string(text: &[char]) -> usize {
    let hashes = text[1..].iter().take_while(|c| **c == '#').count();
    if text.get(1 + hashes) != Some(&'"') {
        return 1;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = 2 + hashes;
    let length = text[body..].windows(end.len()).position(|window| window == end).unwrap_or(text.len() - body);
    body + length + end.len()
}

/// The code without the items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mark = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(mark) {
        kept.push_str(&rest[..at]);
        let item = &rest[at + mark.len()..];
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && (*c == '}' || *c == ';')
        });
        rest = end.map_or("", |(end, c)| &item[end + c.len_utf8()..]);
    }
    kept.push_str(rest);
    kept
}

/// `pub const NAME: type = product of numbers;`
fn constants(source: &str) -> BTreeMap<String, i128> {
    let mut constants = BTreeMap::new();
    for line in source.lines() {
        let Some((name, rest)) = line.strip_prefix("pub const ").and_then(|line| line.split_once(':')) else { continue };
        let expression = rest.split_once('=').map_or("", |(_, value)| value).trim().trim_end_matches(';');
        let factors = expression.split('*').map(|factor| factor.trim().replace('_', "").parse::<i128>());
        let value = factors.map(|factor| factor.unwrap_or_else(|_| panic!("{name} is no product of numbers"))).product();
        constants.insert(name.to_owned(), value);
    }
    constants
}

fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| collect(&root().join(folder), "rs", &mut files));
    files
}

fn documents() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root()).expect("the project's folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    ["docs", "testdata", "fuzz", "systemd"].iter().for_each(|folder| collect(&root().join(folder), "md", &mut files));
    files
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}

/// Targets of Markdown links to other files or headings, outside code.
fn links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let prose: String = if fenced { String::new() } else { line.split('`').step_by(2).collect() };
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

/// Headings as a link's anchor spells them.
fn headings(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| is_identifier(*c) || *c == '-').collect::<String>()
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}
