use std::sync::Arc;

use super::change::{Change, Reply, Request, Selection, Target};
use super::difference;
use super::draft::{Draft, DraftEntry, DraftFunction, DraftKey, Piece, draft_name};
use super::error::ChangeError;
use super::registry::Registry;
use super::{CatalogOptions, Time};
use crate::digest::Peppers;
use crate::index::{Index, found_by};
use crate::key::history::{Action, Actor, Subject};
use crate::key::limits::{self, LimitError, check_bytes};
use crate::key::{self, Grant, Instant, Key, KeyId, KeyRef, PepperId, shown};
use crate::store::{Store, encode_entry_body};

/// What every change of one write looks at.
pub(super) struct Ground<'a> {
    pub(super) store: &'a Store,
    pub(super) index: &'a Index,
    pub(super) peppers: &'a Peppers,
    /// The current one's name.
    pub(super) pepper: PepperId,
    pub(super) registry: &'a Registry,
    pub(super) options: &'a CatalogOptions,
    pub(super) time: Time,
}

/// One change being made: it sees the store, what the write so far has drafted, and what it has itself drafted.
pub(super) struct Step<'a> {
    pub(super) ground: &'a Ground<'a>,
    pub(super) actor: &'a Actor,
    earlier: &'a Draft,
    pub(super) draft: Draft,
}

/// Makes one change on top of what was drafted `earlier`: the answer, and what it drafts itself.
/// Imported keys are taken out of the request.
pub(super) fn make(ground: &Ground, earlier: &Draft, request: &mut Request) -> Result<(Reply, Draft), ChangeError> {
    check_actor(&request.actor)?;
    let mut step = Step { ground, actor: &request.actor, earlier, draft: Draft::default() };
    let reply = step.dispatch(&mut request.change)?;
    Ok((reply, step.draft))
}

impl Step<'_> {
    fn dispatch(&mut self, change: &mut Change) -> Result<Reply, ChangeError> {
        match change {
            Change::Create { settings, request_id } => self.create(settings, request_id.as_deref()),
            Change::Copy { from, name, account } => self.copy(from, name, account.as_deref()),
            Change::Edit { target, patch } => self.edit(target, patch),
            Change::Switch { target, enabled } => self.switch(target, *enabled),
            Change::Rotate { key, revision, overlap, request_id } => self.rotate(key, *revision, *overlap, request_id.as_deref()),
            Change::Overlap { key, revision, overlap } => self.overlap(key, *revision, *overlap),
            Change::Revoke { key, revision, version } => self.revoke(key, *revision, *version),
            Change::Delete { key, revision } => self.delete(key, *revision),
            Change::Undelete { key, revision } => self.undelete(key, *revision),
            Change::Import(batch) => self.import(batch.take()),
            Change::FunctionAdd { name, restricted } => self.add_function(name, *restricted),
            Change::FunctionRestrict { name, restricted } => self.restrict_function(name, *restricted),
            Change::FunctionRemove { name, with_grants } => self.remove_function(name, *with_grants),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.ground.time.now
    }

    /// The key as this change sees it.
    pub(super) fn key(&self, id: KeyId) -> Result<Option<Key>, ChangeError> {
        match self.draft.keys.get(&id).or_else(|| self.earlier.keys.get(&id)) {
            Some(drafted) => Ok(Some(Key::clone(&drafted.now))),
            None => Ok(self.ground.store.key(id)?),
        }
    }

    /// The key of this name that is not deleted.
    pub(super) fn find(&self, account: &str, name: &str) -> Result<Option<KeyId>, ChangeError> {
        self.find_drafted(&draft_name(account, name), account, name)
    }

    /// As `find`, where the name is also at hand as a draft writes it.
    pub(super) fn find_drafted(&self, drafted: &str, account: &str, name: &str) -> Result<Option<KeyId>, ChangeError> {
        match self.draft.names.get(drafted).or_else(|| self.earlier.names.get(drafted)) {
            Some(found) => Ok(*found),
            None => Ok(self.ground.store.find(account, name)?),
        }
    }

    /// The tombstone of this name that was deleted last.
    fn find_deleted(&self, account: &str, name: &str) -> Result<Option<Key>, ChangeError> {
        let stored = self.ground.store.find_deleted(account, name)?;
        let stored = stored.map(|id| self.key(id)).transpose()?.flatten();
        let drafted = self.drafted().map(|(_, drafted)| Key::clone(&drafted.now));
        let of_name = |key: &Key| key.deleted_at.is_some() && key.settings.account == account && key.settings.name == name;
        Ok(stored.into_iter().chain(drafted).filter(of_name).max_by_key(|key| (key.deleted_at, key.id)))
    }

    /// Every key that this write has touched, each as it is now.
    fn drafted(&self) -> impl Iterator<Item = (&KeyId, &DraftKey)> {
        let earlier = self.earlier.keys.iter().filter(|(id, _)| !self.draft.keys.contains_key(*id));
        self.draft.keys.iter().chain(earlier)
    }

    /// The function, registered or once registered.
    pub(super) fn function_ever(&self, name: &crate::key::FunctionName) -> Option<&DraftFunction> {
        let drafted = self.draft.functions.get(name).or_else(|| self.earlier.functions.get(name));
        drafted.or_else(|| self.ground.registry.get(name))
    }

    /// How many functions were ever registered: those of the registry, and new ones of this write.
    pub(super) fn functions_ever(&self) -> usize {
        let new = |draft: &Draft| draft.functions.keys().filter(|name| self.ground.registry.get(name).is_none()).count();
        let both = self.draft.functions.keys().filter(|name| self.earlier.functions.contains_key(*name));
        let both = both.filter(|name| self.ground.registry.get(name).is_none()).count();
        self.ground.registry.ever() + new(&self.draft) + new(self.earlier) - both
    }

    /// The key that a person means, deleted or not; of those with its name, the one that is not deleted comes first.
    pub(super) fn resolve(&self, reference: &KeyRef) -> Result<Key, ChangeError> {
        let found = match reference {
            KeyRef::Id(id) => self.key(*id)?,
            KeyRef::Name { account, name } => match self.find(account, name)? {
                Some(id) => self.key(id)?,
                None => self.find_deleted(account, name)?,
            },
            KeyRef::Neither(_) => None,
        };
        found.ok_or_else(|| ChangeError::NoKey(reference.to_string()))
    }

    /// As `resolve`, where of those with its name the tombstone comes first.
    pub(super) fn resolve_deleted(&self, reference: &KeyRef) -> Result<Key, ChangeError> {
        if let KeyRef::Name { account, name } = reference
            && let Some(key) = self.find_deleted(account, name)?
        {
            return Ok(key);
        }
        self.resolve(reference)
    }

    /// The key that a person means, which must not be deleted, at the revision that was seen.
    pub(super) fn resolve_live(&self, reference: &KeyRef, revision: Option<u64>) -> Result<Key, ChangeError> {
        let key = self.resolve(reference)?;
        if let Some(deleted_at) = key.deleted_at {
            return Err(ChangeError::Deleted { key: key.id, deleted_at });
        }
        check_revision(&key, revision)?;
        Ok(key)
    }

    /// Puts the key's new state and its entry into the draft. `before` is the key as this change saw it.
    pub(super) fn put(&mut self, action: Action, before: Option<Key>, mut after: Key) -> Key {
        after.revision = before.as_ref().map_or(1, |key| key.revision + 1);
        let changes = difference::of_key(before.as_ref(), &after);
        self.enter(action, Subject::Key(after.id), changes);
        let live_name = |key: &Key| key.deleted_at.is_none().then(|| draft_name(&key.settings.account, &key.settings.name));
        let (name_before, name_after) = (before.as_ref().and_then(live_name), live_name(&after));
        if name_before != name_after {
            if let Some(name) = name_before {
                self.draft.names.insert(name, None);
            }
            if let Some(name) = name_after {
                self.draft.names.insert(name, Some(after.id));
            }
        }
        let now = Arc::new(after.clone());
        match self.draft.keys.get_mut(&after.id) {
            Some(drafted) => (drafted.now, drafted.record) = (now, None),
            None => {
                self.draft.keys.insert(after.id, DraftKey { stored: before, now, record: None });
            }
        }
        after
    }

    pub(super) fn enter(&mut self, action: Action, subject: Subject, changes: Vec<crate::key::history::FieldChange>) {
        let mut body = Vec::new();
        encode_entry_body(&mut body, self.actor, action, &subject, &changes, self.ground.pepper);
        self.draft.entries.push(DraftEntry { at: self.now(), action, subject, changes, body: Piece::whole(body) });
    }

    /// This key's entries of this write, oldest first.
    pub(super) fn drafted_entries(&self, key: KeyId) -> impl DoubleEndedIterator<Item = &DraftEntry> {
        self.earlier.entries.iter().chain(&self.draft.entries).filter(move |entry| entry.subject == Subject::Key(key))
    }

    pub(super) fn remembered(&self, request_id: &str) -> Result<Option<crate::store::Remembered>, ChangeError> {
        let drafted = self.draft.requests.get(request_id).or_else(|| self.earlier.requests.get(request_id)).cloned();
        let known = match drafted {
            Some(remembered) => Some(remembered),
            None => self.ground.store.remembered(request_id)?,
        };
        // By what is certain of the time: a clock that is ahead by mistake makes no second key of a repeat.
        Ok(known.filter(|remembered| self.ground.time.floor.since(remembered.at).0 < limits::REQUEST_ID_MS))
    }

    /// Whose secret has this digest.
    pub(super) fn holder(&self, digest: &[u8; 32]) -> Option<KeyId> {
        let found_by = found_by(digest);
        let drafted = self.draft.digests.get(&found_by).or_else(|| self.earlier.digests.get(&found_by)).copied();
        drafted.or_else(|| self.ground.index.find(digest, &self.ground.index.pin()).map(|found| found.id))
    }

    pub(super) fn check_name_free(&self, key: &Key) -> Result<(), ChangeError> {
        let (account, name) = (&key.settings.account, &key.settings.name);
        match self.find(account, name)? {
            Some(holder) if holder != key.id => Err(ChangeError::NameTaken { account: account.clone(), name: name.clone(), key: holder }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_grants(&self, grants: &[Grant]) -> Result<(), ChangeError> {
        for grant in grants {
            if let Grant::Exact(name) = grant
                && self.function_ever(name).is_none_or(|function| function.removed_at.is_some())
            {
                return Err(ChangeError::GrantNotRegistered(name.clone()));
            }
        }
        Ok(())
    }

    /// The keys of a target, none of them deleted, in the order of their ids.
    pub(super) fn targets(&self, target: &Target) -> Result<Vec<Key>, ChangeError> {
        match target {
            Target::One { key, revision } => Ok(vec![self.resolve_live(key, *revision)?]),
            Target::Many(selection) => self.select(selection),
        }
    }

    fn select(&self, selection: &Selection) -> Result<Vec<Key>, ChangeError> {
        let tag = match &selection.tag {
            None => None,
            Some(tag) => Some(
                tag.split_once('=')
                    .ok_or_else(|| ChangeError::Field { field: "tag", reason: format!("'{}' is not name=value", shown(tag)) })?,
            ),
        };
        let fits = |key: &Key| {
            key.deleted_at.is_none()
                && selection.account.as_ref().is_none_or(|account| key.settings.account == *account)
                && tag.is_none_or(|(name, value)| key.settings.tags.get(name).is_some_and(|found| found == value))
        };
        match &selection.account {
            None if tag.is_none() => Err(ChangeError::Field { field: "select", reason: "names neither an account nor a tag".to_owned() }),
            None => self.collect(self.ground.store.keys(None), fits),
            Some(account) => self.collect(self.ground.store.keys_of_account(account, None)?, fits),
        }
    }

    /// The keys that fit, of those stored and those drafted, in the order of their ids.
    pub(super) fn collect(
        &self,
        stored: impl Iterator<Item = Result<Key, crate::store::StoreError>>,
        fits: impl Fn(&Key) -> bool,
    ) -> Result<Vec<Key>, ChangeError> {
        let mut keys: Vec<Key> = self.drafted().map(|(_, drafted)| &*drafted.now).filter(|key| fits(key)).cloned().collect();
        for key in stored {
            let key = key?;
            let drafted = self.draft.keys.contains_key(&key.id) || self.earlier.keys.contains_key(&key.id);
            if !drafted && fits(&key) {
                keys.push(key);
            }
            if keys.len() > limits::BULK_KEYS {
                let limit = format!("{} keys in one change", limits::BULK_KEYS);
                return Err(LimitError { field: "select", value: format!("more than {}", limits::BULK_KEYS), limit }.into());
            }
        }
        keys.sort_unstable_by_key(|key| key.id);
        Ok(keys)
    }
}

pub(super) fn check_revision(key: &Key, revision: Option<u64>) -> Result<(), ChangeError> {
    match revision {
        Some(expected) if expected != key.revision => Err(ChangeError::Revision { key: key.id, expected, actual: key.revision }),
        _ => Ok(()),
    }
}

/// Wraps an error about one of many keys so that it names the key.
pub(super) fn about(key: KeyId, target: &Target, error: ChangeError) -> ChangeError {
    match target {
        Target::One { .. } => error,
        Target::Many(_) => ChangeError::OnKey { key, cause: Box::new(error) },
    }
}

fn check_actor(actor: &Actor) -> Result<(), ChangeError> {
    let Some(on_behalf_of) = &actor.on_behalf_of else { return Ok(()) };
    check_text("as", on_behalf_of, limits::ACTOR_BYTES)
}

/// Refuses a text that is empty, too long, or holds what no text may.
pub(super) fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), ChangeError> {
    check_bytes(field, text, limit)?;
    if text.is_empty() {
        return Err(ChangeError::Field { field, reason: "must not be empty".to_owned() });
    }
    Ok(key::check_text(field, text)?)
}
