//! What an admin can ask of the catalog, and what it answers.

use std::sync::Arc;

pub use super::prepare::{ImportBatch, ImportRun, ImportTurn};
use crate::key::history::Actor;
use crate::key::{Function, FunctionName, Instant, Key, KeyId, KeyRef, Settings, Span, Token};
pub use crate::key::{Patch, Selection};

/// A change and who asks for it.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub actor: Actor,
    /// What is asked.
    pub change: Change,
}

/// One change: all of it is done, with its history, or nothing.
#[derive(Debug)]
pub enum Change {
    /// Makes a key with one secret.
    Create {
        /// What it is to be.
        settings: Settings,
        /// Makes a repeat of this change answer as the first did, without the token.
        request_id: Option<String>,
    },
    /// Makes a key with the settings of another and a secret of its own.
    Copy {
        /// The key to copy.
        from: KeyRef,
        /// The new key's name.
        name: String,
        /// The new key's account, if it is another.
        account: Option<String>,
    },
    /// Changes settings.
    Edit {
        /// Of which keys.
        target: Target,
        /// To what. (Boxed: it is much larger than the other changes.)
        patch: Box<Patch>,
    },
    /// Switches on or off.
    Switch {
        /// Which keys.
        target: Target,
        /// On or off.
        enabled: bool,
    },
    /// Makes a new secret current.
    Rotate {
        /// The key.
        key: KeyRef,
        /// Guards against a lost update.
        revision: Option<u64>,
        /// How long the old secret stays good.
        overlap: Span,
        /// As in `Create`.
        request_id: Option<String>,
    },
    /// Changes the overlap of the latest rotation, or takes it back.
    Overlap {
        /// The key.
        key: KeyRef,
        /// Guards against a lost update.
        revision: Option<u64>,
        /// What becomes of it.
        overlap: Overlap,
    },
    /// Revokes one secret (by default the newest) for good.
    Revoke {
        /// The key.
        key: KeyRef,
        /// Guards against a lost update.
        revision: Option<u64>,
        /// Which secret.
        version: Option<u16>,
    },
    /// Deletes a key, leaving a tombstone.
    Delete {
        /// The key.
        key: KeyRef,
        /// Guards against a lost update.
        revision: Option<u64>,
    },
    /// Brings a deleted key back. (By name: the key of that name that was deleted last.)
    Undelete {
        /// The key.
        key: KeyRef,
        /// Guards against a lost update.
        revision: Option<u64>,
    },
    /// Makes keys from elsewhere, as many as one batch holds: all of them or, when one is refused, none.
    Import(ImportBatch),
    /// Registers a function.
    FunctionAdd {
        /// Its name.
        name: FunctionName,
        /// Whether it is restricted.
        restricted: bool,
    },
    /// Restricts a function or lifts the restriction.
    FunctionRestrict {
        /// Its name.
        name: FunctionName,
        /// Which of the two.
        restricted: bool,
    },
    /// Removes a function.
    FunctionRemove {
        /// Its name.
        name: FunctionName,
        /// Also takes the grants by its name from every key that has one.
        with_grants: bool,
    },
}

/// Which keys a change is for.
#[derive(Debug, Clone)]
pub enum Target {
    /// One key.
    One {
        /// The key.
        key: KeyRef,
        /// The revision that the asker has seen; another one refuses the change.
        revision: Option<u64>,
    },
    /// Every key, not deleted, of an account, with a tag, or both.
    Many(Selection),
}

/// What becomes of the overlap of the latest rotation, while the old secret has not retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The old secret stays good until so long from now, within the key's expiry; never shorter than before.
    Extend(Span),
    /// The old secret retires now.
    Finish,
    /// The newest secret is revoked and the old one is current again.
    Cancel,
}

/// A key to import.
#[derive(Debug)]
pub struct ImportedKey {
    /// Its id, when it comes from an export with digests; else a new one is made.
    pub id: Option<KeyId>,
    /// What it is to be. An expiry in the past is allowed.
    pub settings: Settings,
    /// Its secrets.
    pub secrets: ImportedSecrets,
    /// When it was deleted: then it comes as a tombstone. Only with every secret of an export.
    pub deleted_at: Option<Instant>,
    /// Accept a token that looks guessable.
    pub allow_weak: bool,
}

/// Where an imported key's secrets come from.
#[derive(Debug)]
pub enum ImportedSecrets {
    /// A token made elsewhere.
    Token(Token),
    /// The SHA-256 of a token made elsewhere.
    TokenSha256([u8; 32]),
    /// A token to be made here, and told.
    Generate,
    /// Every secret of an export with digests, of a store with the same pepper; what is never good again may be of any.
    Secrets(Vec<crate::key::Secret>),
}

/// What a change did.
#[derive(Debug)]
pub enum Reply {
    /// It made a key or a secret.
    Made(Made),
    /// It changed one key. (One that was already so keeps its revision and gets no history entry.)
    Changed(Key),
    /// It changed many keys: their ids, in order. Keys that were already so are not among them.
    ChangedMany(Vec<KeyId>),
    /// It imported keys, in the order given.
    Imported(Vec<Imported>),
    /// It changed the catalog. For a removal: the keys that lost a grant.
    Function {
        /// The function as it is now, or as it was when removed.
        function: Function,
        /// Keys that lost a grant by name.
        keys: Vec<KeyId>,
    },
}

/// A key that was imported.
#[derive(Debug)]
pub struct Imported {
    /// The key as it is now.
    pub key: Arc<Key>,
    /// Its token, if it was made here.
    pub token: Option<Token>,
}

/// A key or secret that was made. Its token is told once.
#[derive(Debug)]
pub struct Made {
    /// The key as it is now.
    pub key: Key,
    /// The version of the secret that was made.
    pub version: u16,
    /// Absent when the change is a repeat.
    pub token: Option<Token>,
    /// This change had been done before under the same request id.
    pub replayed: bool,
}
