//! Keys from JSON lines: read as they come, batch by batch, never whole in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use serde::Deserialize;
use tokio::task::JoinHandle;
use utoipa::IntoParams;

use super::ask::{Ask, Asked, unexpected};
use super::body::{self, BODY_BYTES};
use super::problem::{Failure, Word};
use super::routes::ChangeProblems;
use super::view::from_hex;
use super::wire::{GeneratedView, ImportView, KeyLine, LineFields, SecretLine};
use crate::catalog::change::{ImportRun, ImportedKey, ImportedSecrets, Reply, Request};
use crate::catalog::{Answer, Catalog, ChangeError};
use crate::key::history::Actor;
use crate::key::limits::GENERATED_TOKENS;
use crate::key::{PepperId, Secret, Token};

/// Lines of a batch: all of them are imported, with one sync, or none.
const BATCH_LINES: usize = crate::key::limits::IMPORT_KEYS;
/// Bytes of lines after which a batch ends early: what a thousand of the longest lines would take in memory is too much.
const BATCH_BYTES: usize = 4 << 20;
/// Batches that are prepared at once: enough for the catalog's writer never to wait for one.
const PREPARING: usize = 2;
/// Batches that the catalog has at once. Those that wait go into one write, which needs one sync: as many again as are being written.
const UNDER_WAY: usize = 8;

/// What the import takes.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// Make a token for each line that has none; the answer tells them, at most 100,000.
    generate: bool,
    /// Take tokens that look guessable.
    allow_weak: bool,
}

/// Imports keys, one JSON object a line, each at most 1 MiB. Every thousand lines are a batch, which is imported wholly or, when a line of it
/// is refused, not at all; the batches before it stay, and the problem's `import` tells of them.
#[utoipa::path(
    post, path = "/v1/import", operation_id = "import_keys", tag = "transfer",
    request_body(content = LineFields, content_type = "application/jsonl", description = "One such object a line; empty lines are skipped"),
    params(ImportQuery, ("X-Doorward-As" = Option<String>, Header, description = "For whom the change is made")),
    responses((status = 200, description = "How many keys, and the tokens that were made", body = ImportView), ChangeProblems)
)]
pub(super) async fn import(ask: Ask, Asked(query): Asked<ImportQuery>, mut body: Body) -> Result<Json<ImportView>, Failure> {
    let mut import = Import {
        actor: body::actor(&ask.peer, &ask.headers)?,
        catalog: Arc::clone(&ask.shared.state.catalog),
        query,
        run: ImportRun::default(),
        preparing: VecDeque::new(),
        under_way: VecDeque::new(),
        tokens: 0,
        refused: None,
        done: ImportView { imported: 0, generated: Vec::new() },
    };
    let read = import.read(&mut body).await;
    match import.finish(read).await {
        Ok(()) => Ok(Json(import.done)),
        Err(failure) => {
            body::drain(&mut body).await;
            Err(failure.with_import(import.done))
        }
    }
}

/// An import: while a batch is read, those before it are prepared, and those before these are with the catalog, in their order.
struct Import {
    actor: Actor,
    catalog: Arc<Catalog>,
    query: ImportQuery,
    run: ImportRun,
    preparing: VecDeque<JoinHandle<Result<Prepared, Failure>>>,
    under_way: VecDeque<UnderWay>,
    /// Tokens that were made so far, those under way included.
    tokens: usize,
    /// Why the first batch was refused that was.
    refused: Option<Failure>,
    done: ImportView,
}

/// A batch for the catalog.
struct Prepared {
    request: Request,
    /// The numbers of its keys' lines.
    lines: Vec<u64>,
    tokens: usize,
}

/// A batch that the catalog has.
struct UnderWay {
    answer: Answer,
    lines: Vec<u64>,
}

impl Import {
    async fn read(&mut self, body: &mut Body) -> Result<(), Failure> {
        let mut lines = Lines::default();
        while let Some(piece) = body::next_piece(body).await? {
            lines.push(&piece)?;
            while let Some(batch) = lines.batch(false) {
                self.take(batch).await?;
            }
            if self.refused.is_some() {
                return Ok(());
            }
        }
        while let Some(batch) = lines.batch(true) {
            self.take(batch).await?;
        }
        Ok(())
    }

    /// Begins to prepare a batch. Where enough are being prepared, the oldest goes to the catalog first.
    async fn take(&mut self, batch: Batch) -> Result<(), Failure> {
        if self.preparing.len() >= PREPARING {
            self.hand_over().await?;
        }
        let (catalog, actor, query, turn) = (Arc::clone(&self.catalog), self.actor.clone(), self.query, self.run.turn());
        self.preparing.push_back(tokio::task::spawn_blocking(move || {
            let (keys, lines) = parse(&batch, query)?;
            let tokens = keys.iter().filter(|key| matches!(key.secrets, ImportedSecrets::Generate)).count();
            Ok(Prepared { request: catalog.prepare_import(actor, keys, turn), lines, tokens })
        }));
        Ok(())
    }

    /// Hands the oldest batch that is being prepared to the catalog. After a failure no later one may follow it there, so they are let go.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        let handed_over = self.hand_over_oldest().await;
        if handed_over.is_err() {
            self.preparing.clear();
        }
        handed_over
    }

    async fn hand_over_oldest(&mut self) -> Result<(), Failure> {
        let Some(preparing) = self.preparing.pop_front() else { return Ok(()) };
        let prepared = preparing.await;
        let Prepared { request, lines, tokens } =
            prepared.unwrap_or_else(|_| Err(Failure::new(Word::Internal, "the daemon failed on a line; its log says where")))?;
        self.tokens += tokens;
        if self.tokens > GENERATED_TOKENS {
            let detail = format!("one import makes at most {GENERATED_TOKENS} tokens; import the rest by itself");
            return Err(Failure::new(Word::Limit, detail).with_field("token").with_line(lines.first().copied().unwrap_or(0)));
        }
        if self.under_way.len() >= UNDER_WAY {
            self.settle().await;
        }
        if self.refused.is_none() && !lines.is_empty() {
            self.under_way.push_back(UnderWay { answer: self.catalog.ask(request).await?, lines });
        }
        Ok(())
    }

    /// Waits for the oldest batch under way.
    async fn settle(&mut self) {
        let Some(UnderWay { answer, lines }) = self.under_way.pop_front() else { return };
        let failure = match answer.wait().await {
            Ok(Reply::Imported(keys)) => {
                self.done.imported += keys.len() as u64;
                let generated = keys.into_iter().filter_map(|imported| {
                    let token = imported.token.as_ref()?.expose_text()?.to_owned();
                    let (account, name) = (imported.key.settings.account.clone(), imported.key.settings.name.clone());
                    Some(GeneratedView { id: imported.key.id, account, name, token })
                });
                return self.done.generated.extend(generated);
            }
            Ok(other) => unexpected(&other),
            Err(ChangeError::Import { position, cause }) => match lines.get(position) {
                Some(line) => Failure::from(*cause).with_line(*line),
                None => Failure::from(*cause),
            },
            Err(error) => Failure::from(error),
        };
        // Those behind it were refused for its sake: that is no news.
        self.refused.get_or_insert(failure);
    }

    /// Waits for all that came whole, however the reading ended. The failure told is that of the earliest line.
    async fn finish(&mut self, read: Result<(), Failure>) -> Result<(), Failure> {
        let mut handed_over = Ok(());
        while !self.preparing.is_empty() {
            handed_over = self.hand_over().await;
        }
        while !self.under_way.is_empty() {
            self.settle().await;
        }
        match self.refused.take() {
            Some(failure) => Err(failure),
            None => handed_over.and(read),
        }
    }
}

/// Bytes that came, cut into batches of whole lines.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where each whole line ends.
    ends: Vec<usize>,
    /// Lines given out.
    before: u64,
}

/// Some whole lines.
struct Batch {
    bytes: Vec<u8>,
    /// Lines before them.
    before: u64,
}

impl Lines {
    fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(piece);
        let mut begin = self.ends.last().copied().unwrap_or(0);
        let newlines = piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| start + at + 1);
        for end in newlines {
            self.check_line(begin, end)?;
            self.ends.push(end);
            begin = end;
        }
        self.check_line(begin, self.bytes.len())
    }

    /// Refuses a line that is too long, be it whole or not.
    fn check_line(&self, begin: usize, end: usize) -> Result<(), Failure> {
        if end - begin <= BODY_BYTES {
            return Ok(());
        }
        let failure = Failure::new(Word::TooLarge, format!("a line is over the limit of {BODY_BYTES} bytes"));
        Err(failure.with_line(self.before + self.ends.len() as u64 + 1))
    }

    /// The next batch, if there is a full one; at the end of the body, whatever is left.
    fn batch(&mut self, at_end: bool) -> Option<Batch> {
        let by_bytes = self.ends.partition_point(|end| *end <= BATCH_BYTES).max(1);
        let lines = by_bytes.min(BATCH_LINES);
        let full = self.ends.len() >= BATCH_LINES || self.ends.last().is_some_and(|last| *last > BATCH_BYTES);
        let end = match self.ends.get(lines - 1) {
            Some(end) if full => *end,
            _ if at_end && !self.bytes.is_empty() => self.bytes.len(),
            _ => return None,
        };
        let rest = self.bytes.split_off(end);
        let batch = Batch { bytes: std::mem::replace(&mut self.bytes, rest), before: self.before };
        let given = self.ends.partition_point(|other| *other <= end);
        self.before += given as u64;
        self.ends.drain(..given);
        self.ends.iter_mut().for_each(|other| *other -= end);
        Some(batch)
    }
}

/// The keys of a batch, with the numbers of their lines.
fn parse(batch: &Batch, query: ImportQuery) -> Result<(Vec<ImportedKey>, Vec<u64>), Failure> {
    let mut keys = Vec::with_capacity(BATCH_LINES);
    let mut numbers = Vec::with_capacity(BATCH_LINES);
    for (number, line) in (batch.before + 1..).zip(batch.bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        keys.push(parse_line(line, query).map_err(|failure| failure.with_line(number))?);
        numbers.push(number);
    }
    Ok((keys, numbers))
}

fn parse_line(line: &[u8], query: ImportQuery) -> Result<ImportedKey, Failure> {
    // Twice over a bad line: the second time by the slower way, which knows the name of the field.
    let line: KeyLine = serde_json::from_slice(line).or_else(|_| super::wire::parse(line))?;
    let KeyLine { id, settings, token, token_sha256, secrets, deleted_at } = line;
    let secrets = match (token, token_sha256, secrets) {
        (Some(token), None, None) => {
            let token = zeroize::Zeroizing::new(token);
            let token = Token::from_bytes(token.as_bytes());
            ImportedSecrets::Token(token.map_err(|error| Failure::from(ChangeError::Token(error)))?)
        }
        (None, Some(digits), None) => {
            let sha256 = from_hex(&digits).ok_or_else(|| Failure::invalid("token_sha256", "token_sha256: not 64 hexadecimal digits"))?;
            ImportedSecrets::TokenSha256(sha256)
        }
        (None, None, Some(secrets)) => ImportedSecrets::Secrets(secrets.into_iter().map(secret).collect::<Result<_, _>>()?),
        (None, None, None) if query.generate => ImportedSecrets::Generate,
        (None, None, None) => {
            let detail = "token: the line has neither token nor token_sha256; with generate=true (--generate) a token is made for it";
            return Err(Failure::invalid("token", detail));
        }
        _ => return Err(Failure::invalid("token", "token: give one of token, token_sha256 and secrets")),
    };
    Ok(ImportedKey { id, settings, secrets, deleted_at, allow_weak: query.allow_weak })
}

fn secret(line: SecretLine) -> Result<Secret, Failure> {
    let digest = from_hex(&line.digest).ok_or_else(|| Failure::invalid("secrets", "secrets: a digest is not 64 hexadecimal digits"))?;
    let pepper =
        from_hex(&line.pepper_id).ok_or_else(|| Failure::invalid("secrets", "secrets: a pepper_id is not 16 hexadecimal digits"))?;
    Ok(Secret {
        version: line.version,
        digest,
        pepper: PepperId(pepper),
        created_at: line.created_at,
        retires_at: line.retires_at,
        revoked_at: line.revoked_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::default();
        let mut batches = Vec::new();
        for piece in pieces {
            lines.push(piece).unwrap();
            while let Some(batch) = lines.batch(false) {
                batches.push((batch.before, batch.bytes));
            }
        }
        while let Some(batch) = lines.batch(true) {
            batches.push((batch.before, batch.bytes));
        }
        batches
    }

    #[test]
    fn batches_are_whole_lines_in_order() {
        let whole: Vec<u8> = (1..=2_500).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        for size in [1, 7, 4_096, whole.len()] {
            let batches = cut(&whole.chunks(size).collect::<Vec<_>>());
            assert_eq!(batches.iter().map(|(before, _)| *before).collect::<Vec<_>>(), [0, 1_000, 2_000], "pieces of {size}");
            assert_eq!(batches.concat_bytes(), whole);
        }
        assert_eq!(cut(&[b"a\nb"]), [(0, b"a\nb".to_vec())]);
        assert_eq!(cut(&[]), []);
    }

    trait ConcatBytes {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl ConcatBytes for Vec<(u64, Vec<u8>)> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
        }
    }

    #[test]
    fn long_lines_end_a_batch_early_and_longer_ones_are_refused() {
        let line = [vec![b'x'; BODY_BYTES - 1], vec![b'\n']].concat();
        let batches = cut(&[&line, &line, &line, &line, &line, &line]);
        assert_eq!(batches.iter().map(|(before, _)| *before).collect::<Vec<_>>(), [0, 4]);
        let mut lines = Lines::default();
        lines.push(b"a\n").unwrap();
        let failure = lines.push(&vec![b'x'; BODY_BYTES + 1]).unwrap_err();
        assert_eq!(failure.problem().line, Some(2));
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_field() {
        let parse = |text: &str, generate| {
            let batch = Batch { bytes: text.as_bytes().to_vec(), before: 10 };
            parse(&batch, ImportQuery { generate, allow_weak: false })
        };
        let (keys, lines) = parse("\n{\"name\":\"n\",\"account\":\"a\"}\n\n{\"name\":\"m\",\"account\":\"a\"}\r\n", true).unwrap();
        assert_eq!((keys.len(), lines), (2, vec![12, 14]));
        let digest = "0".repeat(63);
        for (line, field) in [
            (r#"{"name":"n","account":"a"}"#.to_owned(), "token"),
            (r#"{"name":"n","account":"a","token":""}"#.to_owned(), "token"),
            (format!(r#"{{"name":"n","account":"a","token_sha256":"{digest}"}}"#), "token_sha256"),
            (r#"{"name":"n","account":"a","token":"x","token_sha256":"y"}"#.to_owned(), "token"),
            (r#"{"name":"n","account":"a","secret":"x"}"#.to_owned(), "secret"),
            (r#"{"name":"n","account":"a","grants":[7]}"#.to_owned(), "grants"),
        ] {
            let failure = parse(&format!("\n{line}"), false).unwrap_err();
            assert_eq!((failure.problem().line, failure.problem().field.as_deref()), (Some(12), Some(field)), "{line}");
        }
    }
}
