//! What of an import can be made before it is the writer's turn: digests, checks of settings, records. The writer is one thread for all changes,
//! so it is left what only it can do: look whether names and tokens are free, chain the entries, write.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Time;
use super::change::{ImportedKey, ImportedSecrets};
use super::difference;
use super::draft::{Piece, draft_name};
use super::error::ChangeError;
use crate::digest::{Peppers, token_sha256};
use crate::key::history::{Action, Actor, Subject};
use crate::key::limits::{self, check_count};
use crate::key::{Key, KeyIds, PepperId, Secret, Token, weakness};
use crate::store::{encode_entry_body, encode_key};

/// About what a key's record and its entry take.
const KEY_BYTES: usize = 768;

/// One import of many batches, which are asked for one behind the other without waiting for the answers. When one of them is refused, those behind it
/// are too, so that what was imported is always whole batches from the beginning.
#[derive(Debug, Clone, Default)]
pub struct ImportRun(Arc<AtomicBool>);

/// The turn of one batch. Batches may be prepared at the same time and in any order; the ids of their keys are in the order of the turns.
#[derive(Debug)]
pub struct ImportTurn {
    run: ImportRun,
    ids: KeyIds,
}

impl ImportRun {
    /// The next batch's turn.
    pub fn turn(&self) -> ImportTurn {
        ImportTurn { run: self.clone(), ids: KeyIds::generate() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A batch of an import, ready for the writer.
pub struct ImportBatch {
    pub(super) run: ImportRun,
    pub(super) keys: Vec<ReadyKey>,
    /// Why the key behind the last of `keys` is refused, and with it the batch, unless one of `keys` is.
    pub(super) refused: Option<ChangeError>,
    bytes: Arc<Vec<u8>>,
}

/// A key that breaks no rule by itself.
pub(super) struct ReadyKey {
    pub(super) key: Arc<Key>,
    /// It came with its id.
    pub(super) has_own_id: bool,
    /// As the draft writes it.
    pub(super) name: String,
    /// The digest that its token would have under the previous pepper.
    pub(super) previous_digest: Option<[u8; 32]>,
    /// The token, if it was made here.
    pub(super) token: Option<Token>,
    record: Range<usize>,
    entry: Range<usize>,
}

impl fmt::Debug for ImportBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportBatch").field("keys", &self.keys.len()).field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl ImportBatch {
    /// The batch, of which none is left here.
    pub(super) fn take(&mut self) -> ImportBatch {
        let empty = ImportBatch { run: self.run.clone(), keys: Vec::new(), refused: None, bytes: Arc::default() };
        std::mem::replace(self, empty)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key's record.
    pub(super) fn record(&self, key: &ReadyKey) -> Piece {
        Piece::new(&self.bytes, key.record.clone())
    }

    /// The body of the key's entry.
    pub(super) fn entry(&self, key: &ReadyKey) -> Piece {
        Piece::new(&self.bytes, key.entry.clone())
    }
}

/// What a batch is prepared with.
pub(super) struct Preparer<'a> {
    pub(super) peppers: &'a Peppers,
    pub(super) token_prefix: &'a str,
    pub(super) actor: &'a Actor,
    pub(super) time: Time,
}

impl Preparer<'_> {
    pub(super) fn prepare(&self, keys: Vec<ImportedKey>, turn: ImportTurn) -> ImportBatch {
        let ImportTurn { run, mut ids } = turn;
        let mut batch = ImportBatch { run, keys: Vec::with_capacity(keys.len()), refused: None, bytes: Arc::default() };
        if let Err(error) = check_count("keys", keys.len(), limits::IMPORT_KEYS) {
            batch.refused = Some(error.into());
            return batch;
        }
        let mut bytes = Vec::with_capacity(keys.len() * KEY_BYTES);
        // Naming a pepper costs as much as a digest, so it is done once.
        let pepper = self.peppers.current.id();
        for (position, imported) in keys.into_iter().enumerate() {
            match self.prepare_key(imported, &mut ids, pepper, &mut bytes) {
                Ok(ready) => batch.keys.push(ready),
                Err(cause) => {
                    batch.refused = Some(ChangeError::Import { position, cause: Box::new(cause) });
                    break;
                }
            }
        }
        batch.bytes = Arc::new(bytes);
        batch
    }

    fn prepare_key(&self, imported: ImportedKey, ids: &mut KeyIds, pepper: PepperId, bytes: &mut Vec<u8>) -> Result<ReadyKey, ChangeError> {
        let ImportedKey { id: own_id, mut settings, secrets, deleted_at, allow_weak } = imported;
        if deleted_at.is_some() && !matches!(secrets, ImportedSecrets::Secrets(_)) {
            let reason = "is for keys that come with their secrets, from an export with digests".to_owned();
            return Err(ChangeError::Field { field: "deleted_at", reason });
        }
        settings.normalize()?;
        let Origin { secrets, previous_digest, token } = self.secrets(secrets, allow_weak, pepper)?;
        let id = own_id.unwrap_or_else(|| ids.draw());
        let created_at = secrets[0].created_at;
        let key = Key { id, settings, secrets, created_at, deleted_at, revision: 1 };
        let begin = bytes.len();
        encode_key(bytes, &key);
        let middle = bytes.len();
        encode_entry_body(bytes, self.actor, Action::Import, &Subject::Key(id), &difference::of_key(None, &key), pepper);
        Ok(ReadyKey {
            name: draft_name(&key.settings.account, &key.settings.name),
            key: Arc::new(key),
            has_own_id: own_id.is_some(),
            previous_digest,
            token,
            record: begin..middle,
            entry: middle..bytes.len(),
        })
    }

    fn secrets(&self, secrets: ImportedSecrets, allow_weak: bool, pepper: PepperId) -> Result<Origin, ChangeError> {
        match secrets {
            ImportedSecrets::Token(token) => {
                if let Some(reason) = weakness(token.expose()).filter(|_| !allow_weak) {
                    return Err(ChangeError::WeakToken(reason));
                }
                Ok(self.foreign(&token_sha256(token.expose()), pepper))
            }
            ImportedSecrets::TokenSha256(sha256) => Ok(self.foreign(&sha256, pepper)),
            ImportedSecrets::Generate => {
                let token = Token::generate(self.token_prefix)?;
                let secret = self.secret(self.peppers.current.digest_token(token.expose()), pepper);
                Ok(Origin { secrets: vec![secret], previous_digest: None, token: Some(token) })
            }
            ImportedSecrets::Secrets(secrets) => {
                self.check_secrets(&secrets, pepper)?;
                Ok(Origin { secrets, previous_digest: None, token: None })
            }
        }
    }

    fn foreign(&self, sha256: &[u8; 32], pepper: PepperId) -> Origin {
        let previous_digest = self.peppers.previous.as_ref().map(|previous| previous.digest(sha256));
        Origin { secrets: vec![self.secret(self.peppers.current.digest(sha256), pepper)], previous_digest, token: None }
    }

    fn secret(&self, digest: [u8; 32], pepper: PepperId) -> Secret {
        Secret { version: 1, digest, pepper, created_at: self.time.now, retires_at: None, revoked_at: None }
    }

    fn check_secrets(&self, secrets: &[Secret], current: PepperId) -> Result<(), ChangeError> {
        let error = |reason: String| Err(ChangeError::Field { field: "secrets", reason });
        check_count("secrets", secrets.len(), limits::SECRETS)?;
        if secrets.is_empty() {
            return error("must not be empty".to_owned());
        }
        let is_known =
            |pepper: PepperId| pepper == current || self.peppers.previous.as_ref().is_some_and(|previous| previous.id() == pepper);
        for (i, secret) in secrets.iter().enumerate() {
            if usize::from(secret.version) != i + 1 {
                return error(format!("versions count from 1 without a gap, but {} is in place {}", secret.version, i + 1));
            }
            // What is over by the floor is never good again, and so needs no pepper. By the present it may be over by a mistake of the wall clock.
            if !is_known(secret.pepper) && secret.is_good(self.time.floor) {
                let Secret { version, pepper, .. } = secret;
                return error(format!(
                    "version {version} is of the pepper {pepper}, which this store does not have, and is not revoked or retired for certain; \
                     only a store with that pepper can take it"
                ));
            }
        }
        Ok(())
    }
}

/// A key's secrets, at least one.
struct Origin {
    secrets: Vec<Secret>,
    previous_digest: Option<[u8; 32]>,
    token: Option<Token>,
}
