//! What becomes of changes while the disk cannot be trusted: those that shut a door hold in memory until doorward is restarted, and say so; all others are refused.

use tracing::warn;

use super::change::{Change, Reply, Request, Target};
use super::draft::Draft;
use super::error::ChangeError;
use super::writer::{Job, Writer};
use crate::key::history::Action;
use crate::key::{KeyRef, Selection, Shut};
use crate::store::StoreError;

/// For the log: what an admin has to do again.
const IN_MEMORY_ONLY: &str = "holds in memory only, since the disk refused it: ask for it again after the restart";

impl Writer {
    /// Answers changes that came too late.
    pub(super) fn refuse(&mut self, jobs: Vec<Job>) {
        let reason = self.shared.refusing.lock().clone().unwrap_or_default();
        for mut job in jobs {
            let reply = match shutting(&job.request.change) {
                Some(action) => self.shut(&mut job.request, action, &reason),
                None => Err(ChangeError::Refusing(reason.clone())),
            };
            let _ = job.reply.send(reply);
        }
    }

    fn shut(&mut self, request: &mut Request, action: Action, reason: &str) -> Result<Reply, ChangeError> {
        let (reply, step) = match self.make(&Draft::default(), request) {
            Err(ChangeError::Store(error)) => return Err(self.shut_unread(&request.change, action, error, reason)),
            made => made?,
        };
        match &request.change {
            Change::Switch { target: Target::Many(Selection { account, tag }), .. } => {
                warn!(action = action.as_str(), account, tag, keys = step.keys.len(), "{IN_MEMORY_ONLY}");
            }
            _ => step.keys.keys().for_each(|key| warn!(action = action.as_str(), %key, "{IN_MEMORY_ONLY}")),
        }
        for drafted in step.keys.values() {
            self.show(&drafted.now);
            // How it was counted before it was shut unread, nobody knows.
            if !self.store.holds_unread(drafted.now.id) {
                self.shared.count([(drafted.stored.as_ref(), &*drafted.now)]);
            }
        }
        self.store.hold(step.keys.into_values().map(|drafted| drafted.now));
        let in_memory_only = match &reply {
            Reply::Changed(key) => self.store.holds(key.id),
            _ => self.store.held() > 0,
        };
        if in_memory_only { Err(ChangeError::EffectiveNotDurable(reason.to_owned())) } else { Ok(reply) }
    }

    /// Shuts a key, given by its id, whose record cannot be read: the index has its secrets.
    fn shut_unread(&mut self, change: &Change, action: Action, cause: StoreError, reason: &str) -> ChangeError {
        let Some((reference @ &KeyRef::Id(id), version)) = unguarded(change) else { return unread(ChangeError::Store(cause), change) };
        let versions = self.index.versions(id);
        let Some(newest) = versions.iter().copied().max() else { return ChangeError::NoKey(reference.to_string()) };
        let version = version.unwrap_or(newest);
        if !versions.contains(&version) {
            return ChangeError::NoVersion { key: id, version, newest };
        }
        let at = (self.time)().now;
        let shut = match action {
            Action::Revoke => Shut::Revoked { version, at },
            Action::Delete => Shut::Deleted(at),
            _ => Shut::Disabled,
        };
        self.index.restrict(id, |version, standing| shut.secret(version, standing));
        self.store.hold_shut(id, shut);
        warn!(action = action.as_str(), key = %id, "{IN_MEMORY_ONLY}");
        ChangeError::EffectiveNotDurable(reason.to_owned())
    }
}

/// Whether a change shuts a key that need not be read for it.
pub(super) fn is_to_be_shut_unread(change: &Change) -> bool {
    shutting(change).is_some() && unguarded(change).is_some_and(|(key, _)| matches!(key, KeyRef::Id(_)))
}

/// Tells who shuts a key by its name, which cannot be looked up, that its id will do.
pub(super) fn unread(error: ChangeError, change: &Change) -> ChangeError {
    match (error, shutting(change).and(unguarded(change))) {
        (ChangeError::Store(cause), Some((key @ KeyRef::Name { .. }, _))) => ChangeError::Unread { key: key.to_string(), cause },
        (error, _) => error,
    }
}

/// The one key that a change is for, whatever its revision; and the version, where one is named.
fn unguarded(change: &Change) -> Option<(&KeyRef, Option<u16>)> {
    match change {
        Change::Switch { target: Target::One { key, revision: None }, .. } | Change::Delete { key, revision: None } => Some((key, None)),
        Change::Revoke { key, revision: None, version } => Some((key, *version)),
        _ => None,
    }
}

/// What a change does that only ever takes access away, so that it had better hold at once than be refused.
fn shutting(change: &Change) -> Option<Action> {
    match change {
        Change::Revoke { .. } => Some(Action::Revoke),
        Change::Delete { .. } => Some(Action::Delete),
        Change::Switch { enabled: false, .. } => Some(Action::Disable),
        _ => None,
    }
}
