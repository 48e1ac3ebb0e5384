use super::change::{Imported, Reply};
use super::draft::{DraftEntry, DraftKey};
use super::error::ChangeError;
use super::prepare::{ImportBatch, ReadyKey};
use super::step::Step;
use crate::index::found_by;
use crate::key::KeyId;
use crate::key::history::{Action, Subject};

impl Step<'_> {
    pub(super) fn import(&mut self, mut batch: ImportBatch) -> Result<Reply, ChangeError> {
        if batch.run.is_over() {
            return Err(ChangeError::ImportOver);
        }
        let imported = self.import_batch(&mut batch);
        if imported.is_err() {
            batch.run.end();
        }
        imported.map(Reply::Imported)
    }

    fn import_batch(&mut self, batch: &mut ImportBatch) -> Result<Vec<Imported>, ChangeError> {
        let keys = std::mem::take(&mut batch.keys);
        self.draft.keys.reserve(keys.len());
        self.draft.names.reserve(keys.len());
        self.draft.digests.reserve(keys.len());
        self.draft.entries.reserve(keys.len());
        let mut imported = Vec::with_capacity(keys.len());
        for (position, ready) in keys.into_iter().enumerate() {
            let one = self.import_key(batch, ready);
            imported.push(one.map_err(|cause| ChangeError::Import { position, cause: Box::new(cause) })?);
        }
        match batch.refused.take() {
            Some(error) => Err(error),
            None => Ok(imported),
        }
    }

    fn import_key(&mut self, batch: &ImportBatch, ready: ReadyKey) -> Result<Imported, ChangeError> {
        let (body, record) = (batch.entry(&ready), batch.record(&ready));
        let ReadyKey { key, has_own_id, name, previous_digest, token, .. } = ready;
        self.check_grants(&key.settings.grants)?;
        // The same token may be a secret under the previous pepper: then it has another digest.
        if let Some(holder) = previous_digest.and_then(|digest| self.holder(&digest)) {
            return Err(ChangeError::TokenTaken(holder));
        }
        if has_own_id && (key.id == KeyId::NONE || self.key(key.id)?.is_some()) {
            return Err(ChangeError::IdTaken(key.id));
        }
        let lives = key.deleted_at.is_none();
        if let Some(holder) = self.find_drafted(&name, &key.settings.account, &key.settings.name)?.filter(|_| lives) {
            let (account, name) = (key.settings.account.clone(), key.settings.name.clone());
            return Err(ChangeError::NameTaken { account, name, key: holder });
        }
        for secret in &key.secrets {
            if let Some(holder) = self.holder(&secret.digest) {
                return Err(ChangeError::TokenTaken(holder));
            }
            self.draft.digests.insert(found_by(&secret.digest), key.id);
        }
        let (at, subject) = (self.now(), Subject::Key(key.id));
        self.draft.entries.push(DraftEntry { at, action: Action::Import, subject, changes: Vec::new(), body });
        // A tombstone takes no name.
        if lives {
            self.draft.names.insert(name, Some(key.id));
        }
        self.draft.keys.insert(key.id, DraftKey { stored: None, now: key.clone(), record: Some(record) });
        Ok(Imported { key, token })
    }
}
