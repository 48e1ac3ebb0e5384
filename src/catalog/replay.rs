use sha2::{Digest, Sha256};

use super::change::Made;
use super::error::ChangeError;
use super::step::{Step, check_text};
use crate::key::limits;
use crate::key::{Instant, KeyId, Settings, Span};
use crate::store::Remembered;

/// Milliseconds by which the clocks of two tries may differ beyond the time that passed between them.
const CLOCK_SLACK_MS: i64 = 1_000;

/// What was asked under a request id, so that a repeat is told from another change.
pub(super) struct Asked {
    sha256: [u8; 32],
    instants: Vec<Option<Instant>>,
}

impl Asked {
    pub(super) fn create(settings: &Settings) -> Asked {
        let timeless = Settings { not_before: None, expires_at: None, ..settings.clone() };
        Asked { sha256: hash(&("create", timeless)), instants: vec![settings.not_before, settings.expires_at] }
    }

    pub(super) fn rotate(key: KeyId, overlap: Span) -> Asked {
        Asked { sha256: hash(&("rotate", key, overlap)), instants: Vec::new() }
    }

    /// Whether this is the same request again. `--expires 30d` is a later instant at each try, so instants may have moved as far as
    /// the clock has.
    fn repeats(&self, remembered: &Remembered, now: Instant) -> bool {
        let passed = now.since(remembered.at).0.max(0) + CLOCK_SLACK_MS;
        let moved_along = |(first, again): (&Option<Instant>, &Option<Instant>)| match (first, again) {
            (Some(first), Some(again)) => (-CLOCK_SLACK_MS..=passed).contains(&again.since(*first).0),
            (first, again) => first == again,
        };
        self.sha256 == remembered.asked
            && self.instants.len() == remembered.instants.len()
            && remembered.instants.iter().zip(&self.instants).all(moved_along)
    }
}

fn hash(asked: &impl serde::Serialize) -> [u8; 32] {
    let text = serde_json::to_vec(asked).expect("settings are plain values with text for keys");
    Sha256::digest(text).into()
}

impl Step<'_> {
    /// The answer of the first time, if the request id was used before.
    pub(super) fn replay(&self, request_id: Option<&str>, asked: &Asked) -> Result<Option<Made>, ChangeError> {
        let Some(request_id) = request_id else { return Ok(None) };
        check_text("request_id", request_id, limits::REQUEST_ID_BYTES)?;
        let Some(remembered) = self.remembered(request_id)? else { return Ok(None) };
        if !asked.repeats(&remembered, self.now()) {
            return Err(ChangeError::RequestIdReused(request_id.to_owned()));
        }
        let key = self.key(remembered.key)?.ok_or_else(|| ChangeError::NoKey(remembered.key.to_string()))?;
        Ok(Some(Made { key, version: remembered.version, token: None, replayed: true }))
    }

    pub(super) fn remember(&mut self, request_id: Option<&str>, asked: Asked, made: &Made) {
        let Some(request_id) = request_id else { return };
        let Asked { sha256, instants } = asked;
        let remembered = Remembered { asked: sha256, instants, key: made.key.id, version: made.version, at: self.now() };
        self.draft.requests.insert(request_id.to_owned(), remembered);
    }
}
