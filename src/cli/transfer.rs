use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use zeroize::Zeroize;

use super::args::transfer::{Export, Import};
use super::check;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::screen::{Hue, Screen, counted, now};
use crate::admin::wire::{GeneratedView, ImportView};
use crate::daemon::check as offline;

/// `import`
pub(crate) fn import(admin: &Admin, screen: &Screen, arguments: &Import) -> Result<Exit, Failure> {
    let (reader, length) = source(&arguments.file)?;
    // The file for new tokens is made first: without it, tokens would be made that nobody ever sees.
    let mut tokens = if arguments.generate { Some(TokenFile::create(arguments.tokens_out.clone())?) } else { None };
    let flag = |flag: bool| flag.then(|| "true".to_owned());
    let path = with_query("/v1/import", &[("generate", flag(arguments.generate)), ("allow_weak", flag(arguments.allow_weak))]);
    let bar = progress(length);
    let moving = bar.clone();
    let outcome = admin.upload::<ImportView>(&path, reader, move |chunk| {
        moving.inc(chunk.len() as u64);
        let lines = moving.message().parse::<u64>().unwrap_or(0) + chunk.iter().filter(|&&b| b == b'\n').count() as u64;
        moving.set_message(lines.to_string());
    });
    bar.finish_and_clear();
    let mut view = match outcome {
        Ok(view) => view,
        Err(failure) => return Err(after_failure(failure, tokens)),
    };
    let kept = match tokens.as_mut() {
        Some(tokens) if !view.generated.is_empty() => Some(tokens.write(&mut view.generated)?),
        Some(_) | None => None,
    };
    if let (Some(tokens), None) = (tokens, &kept) {
        tokens.discard();
    }
    let document = json!({ "imported": view.imported, "generated": view.generated.len(), "tokens_out": kept });
    screen.show(&document, || {
        let (imported, generated) = (view.imported, view.generated.len() as u64);
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

/// The batches before a refused one stay, and so must their new tokens.
fn after_failure(mut failure: Failure, tokens: Option<TokenFile>) -> Failure {
    let mut done = failure.import.take();
    let imported = done.as_ref().map_or(0, |done| done.imported);
    if imported > 0 {
        failure.detail.push_str(&format!(
            " (of the lines before, {} imported and there to stay)",
            if imported == 1 { "1 key is".to_owned() } else { format!("{imported} keys are") }
        ));
    }
    match (tokens, done.as_mut().filter(|done| !done.generated.is_empty())) {
        (Some(mut tokens), Some(done)) => match tokens.write(&mut done.generated) {
            Ok(path) => failure.detail.push_str(&format!("; their new tokens are in {}", path.display())),
            Err(lost) => failure.detail.push_str(&format!("; their new tokens are lost, rotate these keys: {}", lost.detail)),
        },
        (Some(tokens), None) => tokens.discard(),
        (None, _) => (),
    }
    failure
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
}

impl TokenFile {
    fn create(path: Option<PathBuf>) -> Result<TokenFile, Failure> {
        let path = path.unwrap_or_else(|| {
            let stamp: String = now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
            PathBuf::from(format!("doorward-tokens-{stamp}.jsonl"))
        });
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Failure::file("make the file for new tokens", &path, &error))?;
        Ok(TokenFile { path, file })
    }

    /// Writes one object a line, and forgets the tokens. They are on disk when it returns.
    fn write(&mut self, generated: &mut [GeneratedView]) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| Failure::file("write the new tokens to", &self.path, &error);
        let mut writer = BufWriter::new(&self.file);
        for made in generated {
            serde_json::to_writer(&mut writer, made).map_err(|error| failed(error.into()))?;
            writer.write_all(b"\n").map_err(failed)?;
            made.token.zeroize();
        }
        writer.flush().map_err(failed)?;
        drop(writer);
        self.file.sync_all().map_err(failed)?;
        Ok(std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()))
    }

    /// Removes the file, which holds nothing.
    fn discard(self) {
        let removed = std::fs::remove_file(&self.path);
        if let Err(error) = removed {
            eprintln!("doorward: the empty file {} could not be removed: {error}", self.path.display());
        }
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
}
