use thiserror::Error;

use crate::key::{FunctionName, Instant, KeyId, LimitError, SettingsError, TokenError};
use crate::store::StoreError;

/// A change that was not made, or not as its asker must be able to count on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// No such key.
    #[error("there is no key '{0}'")]
    NoKey(String),
    /// No such function.
    #[error("there is no function '{0}'; 'doorward functions list' shows those there are")]
    NoFunction(FunctionName),
    /// No such secret.
    #[error("version: {key} has no secret {version}; its newest is {newest}")]
    NoVersion {
        /// The key.
        key: KeyId,
        /// As asked.
        version: u16,
        /// The newest there is.
        newest: u16,
    },
    /// Without a version the newest secret is meant, and that one is revoked already, while an older one is good: to guess would be unsafe.
    #[error(
        "version: the newest secret of {key} is revoked already, and secret {good} is still good: to revoke that one, name its version"
    )]
    NewestRevoked {
        /// The key.
        key: KeyId,
        /// A secret that is still good.
        good: u16,
    },
    /// The key is deleted.
    #[error("{key} was deleted at {deleted_at}; only 'undelete' and 'revoke' change a deleted key")]
    Deleted {
        /// The key.
        key: KeyId,
        /// When.
        deleted_at: Instant,
    },
    /// The key was deleted too long ago.
    #[error("{key} was deleted at {deleted_at} and could be undeleted until {until}")]
    DeletedTooLongAgo {
        /// The key.
        key: KeyId,
        /// When.
        deleted_at: Instant,
        /// Until when it could come back.
        until: Instant,
    },
    /// The key to undelete is not deleted.
    #[error("{0} is not deleted")]
    NotDeleted(KeyId),
    /// The key has expired.
    #[error("{key} expired at {expires_at}; give it a later expires_at first")]
    Expired {
        /// The key.
        key: KeyId,
        /// When.
        expires_at: Instant,
    },
    /// Another key, not deleted, has the name.
    #[error("name: '{account}/{name}' is taken by {key}")]
    NameTaken {
        /// The account.
        account: String,
        /// The name.
        name: String,
        /// Whose it is.
        key: KeyId,
    },
    /// The id of an imported key is in use.
    #[error("id: there is already a key {0}")]
    IdTaken(KeyId),
    /// An imported token is a key's already.
    #[error("token: it is already a secret of {0}; two keys cannot share a token")]
    TokenTaken(KeyId),
    /// The key has been changed since the asker looked.
    #[error("revision: {key} is at revision {actual}, not {expected}; look at it again, then decide")]
    Revision {
        /// The key.
        key: KeyId,
        /// The one that the asker has seen.
        expected: u64,
        /// The present one.
        actual: u64,
    },
    /// No rotation's overlap can be changed.
    #[error("{key} has no rotation under way: {why}")]
    NoRotation {
        /// The key.
        key: KeyId,
        /// Why not.
        why: String,
    },
    /// The request id was used for something else.
    #[error("request_id: '{0}' was used before with other parameters; take a new one for another change")]
    RequestIdReused(String),
    /// The function is there already.
    #[error("name: the function '{0}' is already registered")]
    FunctionExists(FunctionName),
    /// A restricted function cannot be removed.
    #[error("'{0}' is restricted, and a restricted function cannot be removed; 'doorward functions unrestrict {0}' comes first")]
    FunctionRestricted(FunctionName),
    /// Keys grant the function by name.
    #[error("'{function}' is granted by name (keys: {keys}, such as {example}); --with-grants takes it from them and removes it")]
    FunctionGranted {
        /// The function.
        function: FunctionName,
        /// How many keys, deleted ones included.
        keys: usize,
        /// One of them.
        example: KeyId,
    },
    /// An exact grant of a function that is not registered.
    #[error("grants: the function '{0}' is not registered; 'doorward functions add {0}' registers it")]
    GrantNotRegistered(FunctionName),
    /// A setting breaks a rule.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A value is over its limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The configured token prefix breaks its grammar.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An expiry that has passed.
    #[error("expires_at: {expires_at} has passed (it is {now})")]
    PastExpiry {
        /// As given.
        expires_at: Instant,
        /// The present.
        now: Instant,
    },
    /// An overlap that would be longer by as much as the clock may be wrong, or a secret that would come back after it has retired by that clock.
    #[error(
        "the wall clock ({now}) is far ahead of the time that was reached before ({floor}), and may be wrong: an overlap would then end too late, \
         or what has retired come back. Set it right; or wait for an hour, after which it is believed; or rotate without an overlap"
    )]
    ClockInDoubt {
        /// What the wall clock shows.
        now: Instant,
        /// What was reached for certain.
        floor: Instant,
    },
    /// An imported token that looks guessable.
    #[error("token: it looks guessable ({0}); import it with --allow-weak if it must be, and rotate it soon")]
    WeakToken(String),
    /// Something to take away that is not there.
    #[error("{field}: {key} does not have '{value}'")]
    NotThere {
        /// The field.
        field: &'static str,
        /// The key.
        key: KeyId,
        /// What was to be taken away.
        value: String,
    },
    /// Any other field that makes no sense.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// One key of many; nothing was changed.
    #[error("{key}: {cause} (nothing was changed)")]
    OnKey {
        /// The key.
        key: KeyId,
        /// What is wrong.
        #[source]
        cause: Box<ChangeError>,
    },
    /// One key of an import batch; none of the batch was imported.
    #[error("key {at} of the batch: {cause}", at = .position + 1)]
    Import {
        /// Its place in the batch, from 0.
        position: usize,
        /// What is wrong.
        #[source]
        cause: Box<ChangeError>,
    },
    /// A batch of an import behind one that was refused.
    #[error("an earlier batch of this import was refused, so this one is not imported")]
    ImportOver,
    /// Changes are refused until the daemon is restarted.
    #[error("changes are refused until doorward is restarted: {0}")]
    Refusing(String),
    /// The change holds for every verify from now on, but will be gone after a restart.
    #[error("effective, not durable: the change holds now and is lost when doorward stops, since {0}")]
    EffectiveNotDurable(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nor can it be looked up in the store what is to be shut.
    #[error(
        "{cause}; so {key} cannot be found by its name: revoke, disable or delete it by its id, which the answer to every verify of it has, and which takes effect in memory"
    )]
    Unread {
        /// As it was given.
        key: String,
        /// Why it cannot be read.
        #[source]
        cause: StoreError,
    },
    /// The daemon is stopping.
    #[error("doorward is stopping, and takes no more changes")]
    Stopping,
}

/// What kind of failure a change met with, in the terms of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeFault {
    /// What it names does not exist (404).
    NotFound,
    /// It contradicts what is there (409).
    Conflict,
    /// What it names is deleted (410).
    Gone,
    /// The key has been changed since (412).
    Outdated,
    /// It breaks a rule on its own (422).
    Invalid,
    /// The daemon cannot do it now (503).
    Unavailable,
}

impl ChangeError {
    /// What kind of failure it is.
    pub fn fault(&self) -> ChangeFault {
        use ChangeError as E;
        match self {
            E::NoKey(_) | E::NoFunction(_) | E::NoVersion { .. } => ChangeFault::NotFound,
            E::Deleted { .. } | E::DeletedTooLongAgo { .. } => ChangeFault::Gone,
            E::Revision { .. } => ChangeFault::Outdated,
            E::NewestRevoked { .. }
            | E::NotDeleted(_)
            | E::Expired { .. }
            | E::NameTaken { .. }
            | E::IdTaken(_)
            | E::TokenTaken(_)
            | E::ImportOver
            | E::NoRotation { .. }
            | E::ClockInDoubt { .. } => ChangeFault::Conflict,
            E::RequestIdReused(_) | E::FunctionExists(_) | E::FunctionRestricted(_) | E::FunctionGranted { .. } => ChangeFault::Conflict,
            E::GrantNotRegistered(_) | E::Settings(_) | E::Limit(_) | E::Token(_) | E::PastExpiry { .. } => ChangeFault::Invalid,
            E::WeakToken(_) | E::NotThere { .. } | E::Field { .. } => ChangeFault::Invalid,
            E::OnKey { cause, .. } | E::Import { cause, .. } => cause.fault(),
            E::Refusing(_) | E::EffectiveNotDurable(_) | E::Store(_) | E::Unread { .. } | E::Stopping => ChangeFault::Unavailable,
        }
    }

    /// The field that is wrong, if one is.
    pub fn field(&self) -> Option<&'static str> {
        use ChangeError as E;
        match self {
            E::NoVersion { .. } | E::NewestRevoked { .. } => Some("version"),
            E::NameTaken { .. } | E::FunctionExists(_) => Some("name"),
            E::IdTaken(_) => Some("id"),
            E::TokenTaken(_) | E::WeakToken(_) | E::Token(_) => Some("token"),
            E::Revision { .. } => Some("revision"),
            E::RequestIdReused(_) => Some("request_id"),
            E::GrantNotRegistered(_) => Some("grants"),
            E::PastExpiry { .. } => Some("expires_at"),
            E::Limit(limit) | E::Settings(SettingsError::Limit(limit)) => Some(limit.field),
            E::Settings(SettingsError::Empty { field } | SettingsError::Text { field, .. }) => Some(field),
            E::Settings(SettingsError::NeverGood { .. }) => Some("not_before"),
            E::NotThere { field, .. } | E::Field { field, .. } => Some(field),
            E::OnKey { cause, .. } | E::Import { cause, .. } => cause.field(),
            _ => None,
        }
    }
}
