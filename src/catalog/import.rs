use super::change::{ImportedKey, ImportedSecrets, Made, Reply};
use super::error::ChangeError;
use super::step::Step;
use crate::digest::token_sha256;
use crate::key::history::Action;
use crate::key::limits::{self, check_count};
use crate::key::{Key, KeyId, Secret, Token, weakness};

impl Step<'_> {
    pub(super) fn import(&mut self, keys: Vec<ImportedKey>) -> Result<Reply, ChangeError> {
        check_count("keys", keys.len(), limits::IMPORT_KEYS)?;
        let mut made = Vec::with_capacity(keys.len());
        for (position, key) in keys.into_iter().enumerate() {
            let one = self.import_key(key);
            made.push(one.map_err(|cause| ChangeError::Import { position, cause: Box::new(cause) })?);
        }
        Ok(Reply::Imported(made))
    }

    fn import_key(&mut self, imported: ImportedKey) -> Result<Made, ChangeError> {
        let ImportedKey { id: wanted, mut settings, secrets, allow_weak } = imported;
        settings.normalize()?;
        self.check_grants(&settings.grants)?;
        let (secrets, token) = self.import_secrets(secrets, allow_weak)?;
        let id = wanted.unwrap_or_else(KeyId::generate);
        if wanted.is_some() && (id == KeyId::NONE || self.key(id)?.is_some()) {
            return Err(ChangeError::IdTaken(id));
        }
        let created_at = secrets[0].created_at;
        let key = Key { id, settings, secrets, created_at, deleted_at: None, revision: 1 };
        self.check_name_free(&key)?;
        for secret in &key.secrets {
            if let Some(holder) = self.holder(&secret.digest) {
                return Err(ChangeError::TokenTaken(holder));
            }
            self.draft.digests.insert(secret.digest, id);
        }
        let version = key.newest().map_or(1, |secret| secret.version);
        Ok(Made { key: self.put(Action::Import, None, key), version, token, replayed: false })
    }

    /// At least one secret; and the token, if it was made here.
    fn import_secrets(&self, secrets: ImportedSecrets, allow_weak: bool) -> Result<(Vec<Secret>, Option<Token>), ChangeError> {
        match secrets {
            ImportedSecrets::Token(token) => {
                if let Some(reason) = weakness(token.expose()).filter(|_| !allow_weak) {
                    return Err(ChangeError::WeakToken(reason));
                }
                Ok((vec![self.imported_secret(&token_sha256(token.expose()))?], None))
            }
            ImportedSecrets::TokenSha256(sha256) => Ok((vec![self.imported_secret(&sha256)?], None)),
            ImportedSecrets::Generate => {
                let (secret, token) = self.make_secret(1)?;
                Ok((vec![secret], Some(token)))
            }
            ImportedSecrets::Secrets(secrets) => {
                self.check_secrets(&secrets)?;
                Ok((secrets, None))
            }
        }
    }

    fn imported_secret(&self, sha256: &[u8; 32]) -> Result<Secret, ChangeError> {
        let peppers = self.ground.peppers;
        // The same token may be a secret under the previous pepper: then it has another digest.
        if let Some(holder) = peppers.previous.as_ref().and_then(|previous| self.holder(&previous.digest(sha256))) {
            return Err(ChangeError::TokenTaken(holder));
        }
        let (digest, pepper) = (peppers.current.digest(sha256), peppers.current.id());
        Ok(Secret { version: 1, digest, pepper, created_at: self.now(), retires_at: None, revoked_at: None })
    }

    fn check_secrets(&self, secrets: &[Secret]) -> Result<(), ChangeError> {
        let error = |reason: String| Err(ChangeError::Field { field: "secrets", reason });
        check_count("secrets", secrets.len(), limits::SECRETS)?;
        if secrets.is_empty() {
            return error("must not be empty".to_owned());
        }
        let peppers = self.ground.peppers;
        let known = [Some(peppers.current.id()), peppers.previous.as_ref().map(|previous| previous.id())];
        for (i, secret) in secrets.iter().enumerate() {
            if usize::from(secret.version) != i + 1 {
                return error(format!("versions count from 1 without a gap, but {} is in place {}", secret.version, i + 1));
            }
            if !known.contains(&Some(secret.pepper)) {
                let reason = "is of a pepper that this store does not have; only a store with the same pepper can take digests";
                return error(format!("version {} {reason}", secret.version));
            }
        }
        Ok(())
    }
}
