use super::change::{Made, Patch, Reply, Target};
use super::error::ChangeError;
use super::patch;
use super::replay::Asked;
use super::step::{Step, about, check_revision};
use crate::key::history::Action;
use crate::key::limits;
use crate::key::{Instant, Key, KeyId, KeyRef, Secret, Settings, Token};

impl Step<'_> {
    pub(super) fn create(&mut self, settings: &Settings, request_id: Option<&str>) -> Result<Reply, ChangeError> {
        let mut settings = settings.clone();
        settings.normalize()?;
        let asked = Asked::create(&settings);
        if let Some(made) = self.replay(request_id, &asked)? {
            return Ok(Reply::Made(made));
        }
        let made = self.make_key(Action::Create, settings)?;
        self.remember(request_id, asked, &made);
        Ok(Reply::Made(made))
    }

    pub(super) fn copy(&mut self, from: &KeyRef, name: &str, account: Option<&str>) -> Result<Reply, ChangeError> {
        let mut settings = self.resolve_live(from, None)?.settings;
        settings.name = name.to_owned();
        if let Some(account) = account {
            settings.account = account.to_owned();
        }
        settings.normalize()?;
        Ok(Reply::Made(self.make_key(Action::Copy, settings)?))
    }

    fn make_key(&mut self, action: Action, settings: Settings) -> Result<Made, ChangeError> {
        self.check_future(settings.expires_at)?;
        self.check_grants(&settings.grants)?;
        let (secret, token) = self.make_secret(1)?;
        let created_at = self.now();
        let key = Key { id: KeyId::generate(), settings, secrets: vec![secret], created_at, deleted_at: None, revision: 1 };
        self.check_name_free(&key)?;
        Ok(Made { key: self.put(action, None, key), version: 1, token: Some(token), replayed: false })
    }

    /// A new token, and what is kept of it.
    pub(super) fn make_secret(&self, version: u16) -> Result<(Secret, Token), ChangeError> {
        let token = Token::generate(&self.ground.options.token_prefix)?;
        let pepper = &self.ground.peppers.current;
        let digest = pepper.digest_token(token.expose());
        let secret = Secret { version, digest, pepper: pepper.id(), created_at: self.now(), retires_at: None, revoked_at: None };
        Ok((secret, token))
    }

    pub(super) fn edit(&mut self, target: &Target, patch: &Patch) -> Result<Reply, ChangeError> {
        let many = matches!(target, Target::Many(_));
        self.change_each(target, Action::Edit, |step, key| {
            let expires_before = key.settings.expires_at;
            patch::apply(patch, key.id, &mut key.settings, many)?;
            if key.settings.expires_at != expires_before {
                step.check_future(key.settings.expires_at)?;
            }
            step.check_grants(&key.settings.grants)?;
            step.check_name_free(key)
        })
    }

    pub(super) fn switch(&mut self, target: &Target, enabled: bool) -> Result<Reply, ChangeError> {
        let action = if enabled { Action::Enable } else { Action::Disable };
        self.change_each(target, action, |_, key| {
            key.settings.enabled = enabled;
            Ok(())
        })
    }

    /// Changes every key of a target; those that are already so are left as they are, without an entry.
    fn change_each(
        &mut self,
        target: &Target,
        action: Action,
        change: impl Fn(&Self, &mut Key) -> Result<(), ChangeError>,
    ) -> Result<Reply, ChangeError> {
        let mut changed = Vec::new();
        let mut last = None;
        for before in self.targets(target)? {
            let mut after = before.clone();
            change(self, &mut after).map_err(|error| about(before.id, target, error))?;
            if before.settings == after.settings {
                last = Some(before);
                continue;
            }
            let after = self.put(action, Some(before), after);
            changed.push(after.id);
            last = Some(after);
        }
        match (target, last) {
            (Target::One { .. }, Some(key)) => Ok(Reply::Changed(key)),
            _ => Ok(Reply::ChangedMany(changed)),
        }
    }

    pub(super) fn revoke(&mut self, key: &KeyRef, revision: Option<u64>, version: Option<u16>) -> Result<Reply, ChangeError> {
        let before = self.resolve(key)?;
        check_revision(&before, revision)?;
        let newest = before.newest().map_or(0, |secret| secret.version);
        let version = match version {
            Some(version) => version,
            None => match self.good_beside_revoked_newest(&before) {
                Some(good) => return Err(ChangeError::NewestRevoked { key: before.id, good }),
                None => newest,
            },
        };
        let mut after = before.clone();
        let secret = after.secrets.iter_mut().find(|secret| secret.version == version);
        let secret = secret.ok_or(ChangeError::NoVersion { key: before.id, version, newest })?;
        if secret.revoked_at.is_some() {
            return Ok(Reply::Changed(before));
        }
        secret.revoked_at = Some(self.now());
        Ok(Reply::Changed(self.put(Action::Revoke, Some(before), after)))
    }

    /// A secret that is still good, where the newest is revoked.
    fn good_beside_revoked_newest(&self, key: &Key) -> Option<u16> {
        key.newest().filter(|newest| newest.revoked_at.is_some())?;
        key.secrets.iter().rev().find(|secret| secret.is_good(self.now())).map(|secret| secret.version)
    }

    pub(super) fn delete(&mut self, key: &KeyRef, revision: Option<u64>) -> Result<Reply, ChangeError> {
        let before = self.resolve_live(key, revision)?;
        let after = Key { deleted_at: Some(self.now()), ..before.clone() };
        Ok(Reply::Changed(self.put(Action::Delete, Some(before), after)))
    }

    pub(super) fn undelete(&mut self, key: &KeyRef, revision: Option<u64>) -> Result<Reply, ChangeError> {
        let before = self.resolve_deleted(key)?;
        let Some(deleted_at) = before.deleted_at else { return Err(ChangeError::NotDeleted(before.id)) };
        check_revision(&before, revision)?;
        let until = deleted_at.plus(self.ground.options.undelete);
        if self.now() >= until {
            return Err(ChangeError::DeletedTooLongAgo { key: before.id, deleted_at, until });
        }
        let after = Key { deleted_at: None, ..before.clone() };
        self.check_name_free(&after)?;
        self.check_grants(&after.settings.grants)?;
        Ok(Reply::Changed(self.put(Action::Undelete, Some(before), after)))
    }

    fn check_future(&self, expires_at: Option<Instant>) -> Result<(), ChangeError> {
        let now = self.now();
        match expires_at {
            Some(expires_at) if expires_at <= now => Err(ChangeError::PastExpiry { expires_at, now }),
            Some(expires_at) if expires_at.0 > limits::INSTANT_MS => {
                Err(ChangeError::Field { field: "expires_at", reason: format!("{expires_at} is past the last moment that can be written") })
            }
            _ => Ok(()),
        }
    }
}
