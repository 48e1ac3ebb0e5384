use super::{Instant, Key, Standing};

/// What shuts a key, whatever else is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// It is switched off.
    Disabled,
    /// It is deleted, at this moment.
    Deleted(Instant),
    /// One of its secrets is revoked.
    Revoked {
        /// Which.
        version: u16,
        /// At this moment.
        at: Instant,
    },
}

impl Shut {
    /// Shuts the secret of this version, if it is meant.
    pub fn secret(self, of_version: u16, standing: &mut Standing) {
        match self {
            Shut::Disabled => standing.disabled = true,
            Shut::Deleted(_) => standing.deleted = true,
            Shut::Revoked { version, .. } => standing.revoked |= version == of_version,
        }
    }

    /// Shuts the key; what is shut already stays as it is.
    pub fn key(self, key: &mut Key) {
        match self {
            Shut::Disabled => key.settings.enabled = false,
            Shut::Deleted(at) => key.deleted_at = key.deleted_at.or(Some(at)),
            Shut::Revoked { version, at } => {
                let meant = key.secrets.iter_mut().filter(|secret| secret.version == version);
                meant.for_each(|secret| secret.revoked_at = secret.revoked_at.or(Some(at)));
            }
        }
    }
}
