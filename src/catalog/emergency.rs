//! What becomes of changes while the disk cannot be trusted: those that shut a door hold in memory until doorward is restarted, and say so; all others are refused.

use std::sync::Arc;

use tracing::warn;

use super::change::{Change, Reply, Request, Target};
use super::draft::Draft;
use super::error::ChangeError;
use super::writer::{Job, Writer};
use crate::key::history::Action;
use crate::key::{Instant, Key, KeyRef, Selection, Standing};
use crate::store::StoreError;

/// For the log: what an admin has to do again.
const IN_MEMORY_ONLY: &str = "holds in memory only, since the disk refused it: ask for it again after the restart";

/// What shuts a key of which no more is known than its secrets in the index, since its record cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shut {
    Disabled,
    Deleted,
    /// One secret, of this version.
    Revoked(u16),
}

impl Shut {
    fn action(self) -> Action {
        match self {
            Shut::Disabled => Action::Disable,
            Shut::Deleted => Action::Delete,
            Shut::Revoked(_) => Action::Revoke,
        }
    }

    /// How a secret of the key stands from now on.
    fn of_secret(self, version: u16, standing: &mut Standing) {
        match self {
            Shut::Disabled => standing.disabled = true,
            Shut::Deleted => standing.deleted = true,
            Shut::Revoked(revoked) => standing.revoked |= version == revoked,
        }
    }

    /// What the key is from now on.
    fn of_key(self, mut key: Key, now: Instant) -> Key {
        match self {
            Shut::Disabled => key.settings.enabled = false,
            Shut::Deleted => key.deleted_at = key.deleted_at.or(Some(now)),
            Shut::Revoked(version) => {
                let secret = key.secrets.iter_mut().find(|secret| secret.version == version && secret.revoked_at.is_none());
                secret.into_iter().for_each(|secret| secret.revoked_at = Some(now));
            }
        }
        key
    }
}

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
        self.hold_unread();
        let (reply, step) = match self.make(&Draft::default(), request) {
            Err(ChangeError::Store(error)) => return Err(self.shut_unread(&request.change, error, reason)),
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
            self.shared.count([(drafted.stored.as_ref(), &*drafted.now)]);
        }
        self.store.hold(step.keys.into_values().map(|drafted| drafted.now));
        let in_memory_only = match &reply {
            Reply::Changed(key) => self.store.holds(key.id),
            _ => self.store.held() > 0,
        };
        if in_memory_only { Err(ChangeError::EffectiveNotDurable(reason.to_owned())) } else { Ok(reply) }
    }

    /// Shuts a key, given by its id, whose record cannot be read: the index has its secrets.
    fn shut_unread(&mut self, change: &Change, cause: StoreError, reason: &str) -> ChangeError {
        let (reference, shut) = match change {
            Change::Switch { target: Target::One { key, revision: None }, .. } => (key, Shut::Disabled),
            Change::Delete { key, revision: None } => (key, Shut::Deleted),
            Change::Revoke { key, revision: None, version } => (key, Shut::Revoked(version.unwrap_or_default())),
            // Of many keys nobody knows which they are, nor of one at which revision it is.
            _ => return ChangeError::Store(cause),
        };
        let KeyRef::Id(id) = *reference else { return ChangeError::Unread { key: reference.to_string(), cause } };
        let versions = self.index.versions(id);
        let Some(newest) = versions.iter().copied().max() else { return ChangeError::NoKey(reference.to_string()) };
        let shut = match shut {
            Shut::Revoked(0) => Shut::Revoked(newest),
            Shut::Revoked(version) if !versions.contains(&version) => return ChangeError::NoVersion { key: id, version, newest },
            shut => shut,
        };
        self.index.restrict(id, |version, standing| shut.of_secret(version, standing));
        self.unread.push((id, shut));
        warn!(action = shut.action().as_str(), key = %id, "{IN_MEMORY_ONLY}");
        ChangeError::EffectiveNotDurable(reason.to_owned())
    }

    /// Keys that were shut unread, and can be read by now, are held like others: so that another change of them that holds in memory opens nothing.
    fn hold_unread(&mut self) {
        let now = (self.time)().now;
        let mut unread = std::mem::take(&mut self.unread);
        unread.retain(|(id, shut)| {
            let Ok(Some(before)) = self.store.key(*id) else { return true };
            let after = shut.of_key(before.clone(), now);
            self.show(&after);
            self.shared.count([(Some(&before), &after)]);
            self.store.hold([Arc::new(after)]);
            false
        });
        self.unread = unread;
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
