//! Records as the interfaces show them.

use super::wire::{FieldChangeView, FunctionView, HistoryView, KeyLine, KeyView, MadeView, SecretLine, SecretState, SecretView};
use crate::catalog::change::Made;
use crate::key::history::{Entry, Subject};
use crate::key::{Function, Instant, Key, KeyId, Secret};

/// A key at a moment.
pub(super) fn key(key: &Key, now: Instant) -> KeyView {
    let settings = key.settings.clone();
    KeyView {
        id: key.id,
        name: settings.name,
        account: settings.account,
        description: settings.description,
        tags: settings.tags,
        state: key.state(now),
        enabled: settings.enabled,
        not_before: settings.not_before,
        expires_at: settings.expires_at,
        grants: settings.grants,
        networks: settings.networks,
        countries: settings.countries,
        unknown_country: settings.unknown_country,
        secrets: key.secrets.iter().map(|one| secret(one, now)).collect(),
        created_at: key.created_at,
        deleted_at: key.deleted_at,
        revision: key.revision,
    }
}

/// A secret at a moment, without its last use.
pub(super) fn secret(secret: &Secret, now: Instant) -> SecretView {
    let state = match (secret.revoked_at, secret.retires_at) {
        (Some(_), _) => SecretState::Revoked,
        (None, Some(retires_at)) if now >= retires_at => SecretState::Retired,
        (None, Some(_)) => SecretState::Retiring,
        (None, None) => SecretState::Current,
    };
    SecretView {
        version: secret.version,
        state,
        created_at: secret.created_at,
        retires_at: secret.retires_at,
        revoked_at: secret.revoked_at,
        last_used_at: None,
        last_address: None,
        last_country: None,
    }
}

/// A key or secret that was made.
pub(super) fn made(made: &Made, now: Instant) -> MadeView {
    let token = made.token.as_ref().and_then(|token| token.expose_text()).map(str::to_owned);
    MadeView { id: made.key.id, token, version: made.version, replayed: made.replayed, key: key(&made.key, now) }
}

/// A history entry.
pub(super) fn entry(entry: Entry) -> HistoryView {
    let (key_id, function) = match entry.subject {
        Subject::Key(id) => (Some(id), None),
        Subject::Function(name) => (None, Some(name)),
    };
    let value = |text: Option<String>| text.map_or(serde_json::Value::Null, |text| serde_json::from_str(&text).unwrap_or(text.into()));
    let changes = entry.changes.into_iter().map(|change| FieldChangeView {
        field: change.field,
        before: value(change.before),
        after: value(change.after),
    });
    HistoryView {
        sequence: entry.sequence,
        at: entry.at,
        actor: entry.actor,
        action: entry.action,
        key_id,
        function,
        changes: changes.collect(),
        mac: hex(&entry.mac),
    }
}

/// A function of the catalog.
pub(super) fn function(function: Function, keys: Vec<KeyId>) -> FunctionView {
    FunctionView { name: function.name, restricted: function.restricted, created_at: function.created_at, keys }
}

/// A line of an export.
pub(super) fn line(key: Key, digests: bool) -> KeyLine {
    let secrets = digests.then(|| key.secrets.iter().map(secret_line).collect());
    let (id, deleted_at) = (digests.then_some(key.id), key.deleted_at);
    KeyLine { id, settings: key.settings, token: None, token_sha256: None, secrets, deleted_at }
}

fn secret_line(secret: &Secret) -> SecretLine {
    SecretLine {
        version: secret.version,
        digest: hex(&secret.digest),
        pepper_id: secret.pepper.to_string(),
        created_at: secret.created_at,
        retires_at: secret.retires_at,
        revoked_at: secret.revoked_at,
    }
}

/// Lowercase hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from(DIGITS[nibble as usize])).collect()
}

/// Reads hexadecimal digits of either case into exactly `N` bytes.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PepperId;

    #[test]
    fn hexadecimal_digits_read_back() {
        let bytes: [u8; 32] = std::array::from_fn(|i| (i * 37) as u8);
        assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        assert_eq!(from_hex(&hex(&bytes).to_uppercase()), Some(bytes));
        for bad in ["", "0", "0g", "+1", "000", "ä"] {
            assert_eq!(from_hex::<1>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_stands_where_its_instants_say() {
        let at = |retires_at, revoked_at| {
            let one = Secret { version: 1, digest: [0; 32], pepper: PepperId([0; 8]), created_at: Instant(0), retires_at, revoked_at };
            secret(&one, Instant(10)).state
        };
        assert_eq!(at(None, None), SecretState::Current);
        assert_eq!(at(Some(Instant(11)), None), SecretState::Retiring);
        assert_eq!(at(Some(Instant(10)), None), SecretState::Retired);
        assert_eq!(at(Some(Instant(11)), Some(Instant(5))), SecretState::Revoked);
    }
}
