use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use serde_json::json;
use zeroize::Zeroize;

use super::args::transfer::{Export, Import};
use super::check;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::screen::{Hue, Screen, counted, now};
use crate::admin::wire::{GeneratedView, ImportView};
use crate::daemon::check as offline;
use crate::key::limits::GENERATED_TOKENS;

/// Bytes of the input that are read at once.
const INPUT_BYTES: usize = 256 * 1024;

/// `import`
pub(crate) fn import(admin: &Admin, screen: &Screen, arguments: &Import) -> Result<Exit, Failure> {
    let (reader, length) = source(&arguments.file)?;
    // The file for new tokens is made first: without it, tokens would be made that nobody ever sees.
    let tokens = if arguments.generate { Some(TokenFile::create(arguments.tokens_out.clone())?) } else { None };
    let mut done = Done { imported: 0, generated: 0, tokens };
    // One request makes so many tokens and no more; of lines that come with theirs it takes any number.
    let mut input = Input::new(reader, if arguments.generate { GENERATED_TOKENS } else { usize::MAX });
    let flag = |flag: bool| flag.then(|| "true".to_owned());
    let path = with_query("/v1/import", &[("generate", flag(arguments.generate)), ("allow_weak", flag(arguments.allow_weak))]);
    let bar = progress(length);
    let sent = send(admin, &path, &mut input, &mut done, &bar);
    bar.finish_and_clear();
    if let Err(failure) = sent {
        return Err(done.told_in(failure));
    }
    let Done { imported, generated, tokens } = done;
    let kept = tokens.and_then(TokenFile::keep);
    let document = json!({ "imported": imported, "generated": generated, "tokens_out": kept });
    screen.show(&document, || {
        if !screen.terminal {
            let tokens = kept.as_ref().map(|path| format!("tokens_out: {}\n", path.display())).unwrap_or_default();
            return format!("imported: {imported}\ngenerated: {generated}\n{tokens}");
        }
        let mut text = format!("{} Imported {}\n", screen.paint("✓", Hue::Good), counted(imported, "key"));
        if let Some(path) = &kept {
            let warning = format!("{} in {}: nowhere else, and never again.", counted(generated, "new token"), path.display());
            text.push_str(&format!("  {}\n  Hand them over, then delete the file.\n", screen.paint(&warning, Hue::Warn)));
        }
        text
    })?;
    Ok(Exit::Ok)
}

/// Asks as often as the lines need.
fn send(admin: &Admin, path: &str, input: &mut Input, done: &mut Done, bar: &ProgressBar) -> Result<(), Failure> {
    loop {
        let (before, part) = (input.lines_given, input.part());
        let moving = bar.clone();
        let outcome = admin.upload::<ImportView>(path, part, move |chunk| {
            moving.inc(chunk.len() as u64);
            let lines = moving.message().parse::<u64>().unwrap_or(0) + chunk.iter().filter(|&&b| b == b'\n').count() as u64;
            moving.set_message(lines.to_string());
        });
        match outcome {
            Ok(view) => done.take(view)?,
            Err(failure) => return Err(done.after_failure(failure.behind(before))),
        }
        if input.is_at_end()? {
            return Ok(());
        }
    }
}

/// What of an import is done.
struct Done {
    imported: u64,
    /// Tokens that were made.
    generated: u64,
    tokens: Option<TokenFile>,
}

impl Done {
    /// Keys that are there to stay, and so must be their new tokens.
    fn take(&mut self, mut view: ImportView) -> Result<(), Failure> {
        let made = view.generated.len() as u64;
        (self.imported, self.generated) = (self.imported + view.imported, self.generated + made);
        match self.tokens.as_mut().filter(|_| made > 0) {
            Some(tokens) => {
                let lost = |failure: Failure| failure.after(&format!("the new tokens of the last {made} keys are lost, rotate these keys"));
                tokens.write(&mut view.generated).map_err(lost)
            }
            None => Ok(()),
        }
    }

    /// The failure of a request, after what it had done before.
    fn after_failure(&mut self, mut failure: Failure) -> Failure {
        let done = failure.import.take().map_or(Ok(()), |view| self.take(*view));
        match done {
            Ok(()) => failure,
            Err(lost) => failure.after(&lost.detail),
        }
    }

    /// The batches before a refused one stay: the failure tells how many keys these are, and where their new tokens are.
    fn told_in(self, mut failure: Failure) -> Failure {
        if self.imported > 0 {
            let keys = if self.imported == 1 { "1 key is".to_owned() } else { format!("{} keys are", self.imported) };
            failure.detail.push_str(&format!(" (of the lines before, {keys} imported and there to stay)"));
        }
        if let Some(path) = self.tokens.and_then(TokenFile::keep) {
            failure.detail.push_str(&format!("; their new tokens are in {}", path.display()));
        }
        failure
    }
}

/// The lines of an import, of which each request takes the next.
struct Input {
    source: Arc<Mutex<Source>>,
    lines_a_part: usize,
    lines_given: u64,
}

struct Source {
    reader: BufReader<Box<dyn Read + Send>>,
    /// Of the part that is being read.
    lines_left: usize,
}

/// The next lines of the input, and no more than a part has.
struct Part(Arc<Mutex<Source>>);

impl Input {
    fn new(reader: Box<dyn Read + Send>, lines_a_part: usize) -> Input {
        let source = Source { reader: BufReader::with_capacity(INPUT_BYTES, reader), lines_left: 0 };
        Input { source: Arc::new(Mutex::new(source)), lines_a_part, lines_given: 0 }
    }

    /// What the next request takes.
    fn part(&mut self) -> Part {
        self.source.lock().lines_left = self.lines_a_part;
        self.lines_given = self.lines_given.saturating_add(self.lines_a_part as u64);
        Part(Arc::clone(&self.source))
    }

    /// Whether nothing is behind a part that was read to its end.
    fn is_at_end(&self) -> Result<bool, Failure> {
        let mut source = self.source.lock();
        // Then the input ended it, and a terminal is not asked to end it once more.
        if source.lines_left > 0 {
            return Ok(true);
        }
        let there = loop {
            match source.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                there => break there.map(<[u8]>::is_empty),
            }
        };
        there.map_err(|error| Failure::stream("cannot read the lines to import", &error))
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Source { reader, lines_left } = &mut *self.0.lock();
        let Some(last) = lines_left.checked_sub(1) else { return Ok(0) };
        let there = reader.fill_buf()?;
        let there = &there[..there.len().min(buffer.len())];
        let is_end = |(_, byte): &(usize, &u8)| **byte == b'\n';
        let length = there.iter().enumerate().filter(is_end).nth(last).map_or(there.len(), |(at, _)| at + 1);
        buffer[..length].copy_from_slice(&there[..length]);
        *lines_left -= there[..length].iter().filter(|byte| **byte == b'\n').count();
        reader.consume(length);
        Ok(length)
    }
}

fn source(file: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let opened = File::open(file).map_err(|error| Failure::file("read", file, &error))?;
    let metadata = opened.metadata().map_err(|error| Failure::file("read", file, &error))?;
    if metadata.is_dir() {
        return Err(Failure::new(
            Exit::NoInput,
            "file",
            "a file cannot be used",
            format!("cannot read {}: it is a directory", file.display()),
        ));
    }
    Ok((Box::new(opened), metadata.is_file().then_some(metadata.len())))
}

/// A bar on a terminal's standard error; nothing elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::no_length(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    let template = match length {
        Some(_) => "  {bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {msg} lines  {eta} left",
        None => "  {spinner} {binary_bytes}  {msg} lines  {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message("0");
    bar
}

/// The file for tokens that an import makes: for its owner alone, and never one that was there before.
struct TokenFile {
    path: PathBuf,
    file: File,
    holds_tokens: bool,
}

impl TokenFile {
    fn create(path: Option<PathBuf>) -> Result<TokenFile, Failure> {
        let path = path.unwrap_or_else(|| {
            let stamp: String = now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
            PathBuf::from(format!("doorward-tokens-{stamp}.jsonl"))
        });
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Failure::file("make the file for new tokens", &path, &error))?;
        Ok(TokenFile { path, file, holds_tokens: false })
    }

    /// Writes one object a line, behind those before, and forgets the tokens. They are on disk when it returns.
    fn write(&mut self, generated: &mut [GeneratedView]) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::file("write the new tokens to", &self.path, &error);
        self.holds_tokens = true;
        let mut writer = BufWriter::new(&self.file);
        for made in generated {
            serde_json::to_writer(&mut writer, made).map_err(|error| failed(error.into()))?;
            writer.write_all(b"\n").map_err(failed)?;
            made.token.zeroize();
        }
        writer.flush().map_err(failed)?;
        drop(writer);
        self.file.sync_all().map_err(failed)
    }

    /// Where the tokens are. Without any, the file is removed.
    fn keep(self) -> Option<PathBuf> {
        if self.holds_tokens {
            return Some(std::path::absolute(&self.path).unwrap_or(self.path));
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("doorward: the empty file {} could not be removed: {error}", self.path.display());
        }
        None
    }
}

/// `export`
pub(crate) fn export(admin: impl FnOnce() -> Result<Admin, Failure>, screen: &Screen, arguments: &Export) -> Result<Exit, Failure> {
    let document = screen.json && !arguments.jsonl;
    let mut text = Vec::new();
    let mut stdout = BufWriter::new(io::stdout().lock());
    let out: &mut dyn Write = if document { &mut text } else { &mut stdout };
    match &arguments.data_dir {
        Some(data_dir) => {
            let written = offline::export(data_dir, arguments.digests, out).map_err(|error| check::failure(&error))?;
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(Failure::stream("cannot write the export", &error)),
                _ => {}
            }
        }
        None => {
            let path = with_query("/v1/export", &[("digests", arguments.digests.then(|| "true".to_owned()))]);
            admin()?.download(&path, out)?;
        }
    }
    if document {
        drop(stdout);
        let lines: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_slice(&text).into_iter().collect();
        let keys = lines.map_err(|error| Failure::software(format!("the export is not JSON: {error}")))?;
        screen.print_json(&json!({ "keys": keys }))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn new_tokens_go_to_a_file_of_their_owner_that_was_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.jsonl");
        let mut file = TokenFile::create(Some(path.clone())).unwrap();
        let made = GeneratedView { id: KeyId([1; 16]), account: "acme".into(), name: "web".into(), token: "dw_x".into() };
        let mut generated = vec![made];
        file.write(&mut generated).unwrap();
        assert!(generated[0].token.is_empty());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"token\":\"dw_x\""));
        assert_eq!(TokenFile::create(Some(path)).err().unwrap().exit, Exit::CantCreate);
    }

    #[test]
    fn each_request_takes_the_next_lines() {
        let parts = |text: &str, lines| {
            let mut input = Input::new(Box::new(io::Cursor::new(text.to_owned())), lines);
            let mut parts = Vec::new();
            loop {
                let mut part = String::new();
                input.part().read_to_string(&mut part).unwrap();
                parts.push(part);
                if input.is_at_end().unwrap() {
                    return parts;
                }
            }
        };
        assert_eq!(parts("a\nb\n\nc\nd", 2), ["a\nb\n", "\nc\n", "d"]);
        assert_eq!(parts("a\nb\n", 2), ["a\nb\n"]);
        assert_eq!(parts("a\nb\n", usize::MAX), ["a\nb\n"]);
        assert_eq!(parts("", 2), [""]);
        let long = "x".repeat(INPUT_BYTES) + "\n";
        assert_eq!(parts(&long.repeat(3), 2), [long.repeat(2), long]);
    }
}
