//! Errors as RFC 9457 has them: a stable word for scripts, a sentence for people.

use axum::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::error;

use super::wire::{ImportView, Problem};
use crate::catalog::{ChangeError, ChangeFault};
use crate::key::{SettingsError, without_tokens};
use crate::store::StoreError;
use crate::wire::BadDocument;

/// What stands before the word in a problem's `type`.
pub const TYPE_PREFIX: &str = "urn:doorward:problem:";

/// What went wrong, in a word that never changes its meaning. `docs/admin-api.md` lists them all; a test holds the two together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The request is not what HTTP, JSON or a header's grammar allow.
    Malformed,
    /// The peer may not do this.
    Forbidden,
    /// No such key, function or entry.
    NotFound,
    /// No such route.
    NoRoute,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The body stopped coming.
    Timeout,
    /// The state of things does not allow the change.
    Conflict,
    /// Another key of the account has the name.
    NameTaken,
    /// The key is deleted.
    Deleted,
    /// The request id was used for another change.
    RequestIdReused,
    /// The key has changed since the caller looked.
    RevisionMismatch,
    /// The body, or a line of it, is too long.
    TooLarge,
    /// A field has a wrong value or type.
    Invalid,
    /// A field is over its limit.
    Limit,
    /// The daemon failed; its log says how.
    Internal,
    /// The change holds in memory, but the disk refused it.
    EffectiveNotDurable,
    /// The store takes no changes until a restart.
    RefusingChanges,
    /// Another such request is under way.
    Busy,
}

impl Word {
    /// Every word.
    pub const ALL: [Word; 18] = [
        Word::Malformed,
        Word::Forbidden,
        Word::NotFound,
        Word::NoRoute,
        Word::MethodNotAllowed,
        Word::Timeout,
        Word::Conflict,
        Word::NameTaken,
        Word::Deleted,
        Word::RequestIdReused,
        Word::RevisionMismatch,
        Word::TooLarge,
        Word::Invalid,
        Word::Limit,
        Word::Internal,
        Word::EffectiveNotDurable,
        Word::RefusingChanges,
        Word::Busy,
    ];

    /// The word, its HTTP status and its title.
    pub fn describe(self) -> (&'static str, u16, &'static str) {
        match self {
            Word::Malformed => ("malformed", 400, "The request cannot be read"),
            Word::Forbidden => ("forbidden", 403, "The peer may not do this"),
            Word::NotFound => ("not-found", 404, "There is no such thing"),
            Word::NoRoute => ("no-route", 404, "There is no such route"),
            Word::MethodNotAllowed => ("method-not-allowed", 405, "The route does not take this method"),
            Word::Timeout => ("timeout", 408, "The body stopped coming"),
            Word::Conflict => ("conflict", 409, "The present state does not allow this"),
            Word::NameTaken => ("name-taken", 409, "The name is taken"),
            Word::Deleted => ("deleted", 410, "The key is deleted"),
            Word::RequestIdReused => ("request-id-reused", 409, "The request id was used for another change"),
            Word::RevisionMismatch => ("revision-mismatch", 412, "The key has changed since you looked"),
            Word::TooLarge => ("too-large", 413, "The body is too large"),
            Word::Invalid => ("invalid", 422, "A field is wrong"),
            Word::Limit => ("limit", 422, "A field is over its limit"),
            Word::Internal => ("internal", 500, "The daemon failed"),
            Word::EffectiveNotDurable => ("effective-not-durable", 500, "The change is effective, but not durable"),
            Word::RefusingChanges => ("refusing-changes", 503, "The store takes no changes"),
            Word::Busy => ("busy", 503, "Another such request is under way"),
        }
    }
}

/// A request that failed, on its way to become an answer, which carries the word for whoever counts. (Boxed: the good way stays small.)
#[derive(Debug)]
pub(super) struct Failure(Word, Box<Problem>);

impl Failure {
    /// A failure with what it is this time and what to do about it. Words of `detail` that read as a token are blanked.
    pub(super) fn new(word: Word, detail: impl Into<String>) -> Failure {
        let (kind, status, title) = word.describe();
        let detail = without_tokens(&detail.into()).into_owned();
        let problem = Problem {
            kind: format!("{TYPE_PREFIX}{kind}"),
            title: title.to_owned(),
            status,
            detail,
            field: None,
            line: None,
            import: None,
        };
        Failure(word, Box::new(problem))
    }

    /// A field with a wrong value.
    pub(super) fn invalid(field: &str, detail: impl Into<String>) -> Failure {
        Failure::new(Word::Invalid, detail).with_field(field)
    }

    /// Names the field that is wrong.
    pub(super) fn with_field(mut self, field: &str) -> Failure {
        self.1.field = Some(without_tokens(field).into_owned());
        self
    }

    /// Names the line of an import that is wrong, counted from 1.
    pub(super) fn with_line(mut self, line: u64) -> Failure {
        self.1.line = Some(line);
        self
    }

    /// Tells what an import had done before.
    pub(super) fn with_import(mut self, done: ImportView) -> Failure {
        self.1.import = Some(done);
        self
    }

    /// The document, for tests to look at.
    #[cfg(test)]
    pub(super) fn problem(&self) -> &Problem {
        &self.1
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Failure {
        let word = word_of(&error);
        if word == Word::Internal {
            error!(%error, "admin socket: a change failed");
        }
        let failure = Failure::new(word, error.to_string());
        match error.field() {
            Some(field) => failure.with_field(field),
            None => failure,
        }
    }
}

fn word_of(error: &ChangeError) -> Word {
    match error {
        ChangeError::OnKey { cause, .. } | ChangeError::Import { cause, .. } => return word_of(cause),
        ChangeError::NameTaken { .. } | ChangeError::FunctionExists(_) => return Word::NameTaken,
        ChangeError::RequestIdReused(_) => return Word::RequestIdReused,
        ChangeError::Limit(_) | ChangeError::Settings(SettingsError::Limit(_)) => return Word::Limit,
        ChangeError::EffectiveNotDurable(_) => return Word::EffectiveNotDurable,
        ChangeError::Store(_) => return Word::Internal,
        _ => {}
    }
    match error.fault() {
        ChangeFault::NotFound => Word::NotFound,
        ChangeFault::Conflict => Word::Conflict,
        ChangeFault::Gone => Word::Deleted,
        ChangeFault::Outdated => Word::RevisionMismatch,
        ChangeFault::Invalid => Word::Invalid,
        ChangeFault::Unavailable => Word::RefusingChanges,
    }
}

impl From<BadDocument> for Failure {
    fn from(bad: BadDocument) -> Failure {
        match bad {
            BadDocument::Malformed(detail) => Failure::new(Word::Malformed, detail),
            BadDocument::Invalid { field: None, detail } => Failure::new(Word::Invalid, detail),
            BadDocument::Invalid { field: Some(field), detail } => Failure::invalid(&field, detail),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        if matches!(error, StoreError::Frozen(_)) {
            return Failure::new(Word::RefusingChanges, error.to_string());
        }
        error!(%error, "admin socket: the store cannot be read");
        Failure::new(Word::Internal, format!("the store cannot be read: {error}"))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.1.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.1).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, kind)], Extension(self.0), body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Token;

    #[test]
    fn every_word_is_documented_with_its_status() {
        let page = include_str!("../../docs/admin-api.md");
        for word in Word::ALL {
            let (name, status, _) = word.describe();
            assert!(page.contains(&format!("| `{name}` | {status} |")), "docs/admin-api.md lacks a row for '{name}' with {status}");
        }
    }

    #[test]
    fn a_token_in_a_detail_is_blanked() {
        let token = Token::generate("dw").unwrap();
        let token = token.expose_text().unwrap();
        let failure = Failure::new(Word::Invalid, format!("expires_at: '{token}' is not a time")).with_field(token);
        assert_eq!(failure.problem().detail, "expires_at: '(a token)' is not a time");
        assert_eq!(failure.problem().field.as_deref(), Some("(a token)"));
        assert_eq!(Failure::new(Word::Invalid, "grants: 'ä_b' ünd").problem().detail, "grants: 'ä_b' ünd");
    }
}
