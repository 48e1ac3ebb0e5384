use super::Time;
use super::change::{Made, Overlap, Reply};
use super::error::ChangeError;
use super::replay::Asked;
use super::step::Step;
use crate::key::history::{Action, FieldChange};
use crate::key::limits::{self, check_count};
use crate::key::{Instant, Key, KeyId, KeyRef, Span};

/// Entries read at a time where the history is searched.
const HISTORY_PAGE: usize = 50;

impl Step<'_> {
    pub(super) fn rotate(
        &mut self,
        reference: &KeyRef,
        revision: Option<u64>,
        overlap: Span,
        request_id: Option<&str>,
    ) -> Result<Reply, ChangeError> {
        // A repeat comes with the revision of before the first try, so it is recognised first.
        let asked = Asked::rotate(self.resolve(reference)?.id, overlap);
        if let Some(made) = self.replay(request_id, &asked)? {
            return Ok(Reply::Made(made));
        }
        let before = self.resolve_rotatable(reference, revision)?;
        check_count("secrets", before.secrets.len() + 1, limits::SECRETS)?;
        if overlap.0 < 0 || overlap.0 > limits::SPAN_MS {
            return Err(ChangeError::Field { field: "overlap", reason: "must be a span of 0s to 100 years".to_owned() });
        }
        let mut after = before.clone();
        let expires_at = after.settings.expires_at;
        if let Some(previous) = after.secrets.iter_mut().rev().find(|secret| secret.revoked_at.is_none()) {
            let end = self.end_of_overlap(overlap)?;
            previous.retires_at = [Some(end), previous.retires_at, expires_at].into_iter().flatten().min();
        }
        let version = before.newest().map_or(0, |secret| secret.version) + 1;
        let (secret, token) = self.make_secret(version)?;
        after.secrets.push(secret);
        let made = Made { key: self.put(Action::Rotate, Some(before), after), version, token: Some(token), replayed: false };
        self.remember(request_id, asked, &made);
        Ok(Reply::Made(made))
    }

    pub(super) fn overlap(&mut self, key: &KeyRef, revision: Option<u64>, overlap: Overlap) -> Result<Reply, ChangeError> {
        let before = self.resolve_rotatable(key, revision)?;
        let (old, retires_at) = self.retiring(&before)?;
        let mut after = before.clone();
        let action = match overlap {
            Overlap::Extend(span) => {
                let end = self.end_of_overlap(span)?;
                let end = before.settings.expires_at.map_or(end, |expires_at| end.min(expires_at));
                after.secrets[old].retires_at = Some(end.max(retires_at));
                Action::RotateExtend
            }
            Overlap::Finish => {
                after.secrets[old].retires_at = Some(self.end_of_overlap(Span(0))?);
                Action::RotateFinish
            }
            Overlap::Cancel => {
                after.secrets[old].retires_at = self.retirement_before_rotation(&before, old)?;
                if let Some(newest) = after.secrets.last_mut() {
                    newest.revoked_at = newest.revoked_at.or(Some(self.now()));
                }
                Action::RotateCancel
            }
        };
        let unchanged = before.secrets == after.secrets;
        Ok(Reply::Changed(if unchanged { before } else { self.put(action, Some(before), after) }))
    }

    /// When an overlap ends that begins now. While the wall clock may be ahead by mistake, none may begin: set right, it would be longer by as much. Without
    /// an overlap the end is a moment that was reached for certain.
    fn end_of_overlap(&self, overlap: Span) -> Result<Instant, ChangeError> {
        let Time { now, floor } = self.ground.time;
        if overlap.0 > 0 && floor < now { Err(ChangeError::ClockInDoubt { now, floor }) } else { Ok(floor.plus(overlap)) }
    }

    fn resolve_rotatable(&self, reference: &KeyRef, revision: Option<u64>) -> Result<Key, ChangeError> {
        let key = self.resolve_live(reference, revision)?;
        match key.settings.expires_at {
            Some(expires_at) if expires_at <= self.now() => Err(ChangeError::Expired { key: key.id, expires_at }),
            _ => Ok(key),
        }
    }

    /// The place of the secret that the latest rotation replaced, and when it retires: it has not yet.
    fn retiring(&self, key: &Key) -> Result<(usize, Instant), ChangeError> {
        let no_rotation = |why: String| ChangeError::NoRotation { key: key.id, why };
        let older = key.secrets.split_last().map_or(&[][..], |(_, older)| older);
        let Some(old) = older.iter().rposition(|secret| secret.revoked_at.is_none()) else {
            return Err(no_rotation("it has no older secret that is not revoked".to_owned()));
        };
        let version = older[old].version;
        match older[old].retires_at {
            None => Err(no_rotation(format!("secret {version} is not being retired"))),
            Some(at) if at <= self.ground.time.floor => Err(no_rotation(format!("secret {version} retired at {at}"))),
            Some(at) => Ok((old, at)),
        }
    }

    /// When the secret retired before the latest rotation: the history since then is gone over backwards.
    fn retirement_before_rotation(&self, key: &Key, old: usize) -> Result<Option<Instant>, ChangeError> {
        let (version, present) = (key.secrets[old].version, key.secrets[old].retires_at);
        let newer = key.secrets[old + 1..key.secrets.len() - 1].iter().map(|secret| format!("secrets.{}.revoked_at", secret.version));
        let retirement = format!("secrets.{version}.retires_at");
        let mut back = Backwards { retirement, retires_at: present, newer: newer.collect(), newer_was_good: false };
        let latest = match self.drafted_entries(key.id).rev().find_map(|entry| back.over(entry.action, &entry.changes)) {
            Some(latest) => Some(latest),
            None => self.stored_rotation(key.id, &mut back)?,
        };
        let Time { now, floor } = self.ground.time;
        let no_rotation = |why: String| Err(ChangeError::NoRotation { key: key.id, why });
        match (latest, back.retires_at) {
            (None, _) => no_rotation(format!("it was rotated before it was imported: what secret {version} had before is not known")),
            (Some(Action::RotateCancel), _) => no_rotation("its latest rotation was taken back already".to_owned()),
            (Some(_), _) if back.newer_was_good => no_rotation("the secret that its latest rotation replaced is revoked".to_owned()),
            (Some(_), Some(at)) if at <= floor => {
                no_rotation(format!("secret {version} would have retired at {at} without its latest rotation"))
            }
            // By the wall clock it has retired; whether it has for certain, nobody knows yet.
            (Some(_), before) if [present, before].into_iter().flatten().any(|at| at <= now) => {
                Err(ChangeError::ClockInDoubt { now, floor })
            }
            (Some(_), before) => Ok(before),
        }
    }

    /// Goes back to the latest rotation, or to what took it back.
    fn stored_rotation(&self, key: KeyId, back: &mut Backwards) -> Result<Option<Action>, ChangeError> {
        let mut before = None;
        loop {
            let page = self.ground.store.history(Some(key), before, HISTORY_PAGE)?;
            if let Some(latest) = page.iter().find_map(|entry| back.over(entry.action, &entry.changes)) {
                return Ok(Some(latest));
            }
            match page.last() {
                Some(oldest) if page.len() == HISTORY_PAGE => before = Some(oldest.sequence),
                _ => return Ok(None),
            }
        }
    }
}

/// A secret's retirement, on the way back through the history of its key.
struct Backwards {
    /// The field in which an entry names it.
    retirement: String,
    retires_at: Option<Instant>,
    /// Those in which the revocations of the secrets are named that are newer, but for the newest.
    newer: Vec<String>,
    /// Whether one of these was not revoked yet: it, and not this secret, is what the rotation replaced.
    newer_was_good: bool,
}

impl Backwards {
    /// Undoes one change. Tells where the way ends. An entry of a rotation that left the retirement as it was does not name it: then it was as it is after it.
    fn over(&mut self, action: Action, changes: &[FieldChange]) -> Option<Action> {
        let before = changes.iter().find(|change| change.field == self.retirement).and_then(|change| change.before.as_deref());
        if let Some(before) = before.and_then(|before| serde_json::from_str(before).ok()) {
            self.retires_at = before;
        }
        self.newer_was_good |= action == Action::Revoke && changes.iter().any(|change| self.newer.contains(&change.field));
        matches!(action, Action::Rotate | Action::RotateCancel).then_some(action)
    }
}
