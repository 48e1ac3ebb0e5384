mod anomalies;
mod kinds;
mod lives;
mod quiet;
mod real;

mod traffic;

use crate::key::{Instant, Key, KeyId, PepperId, Secret, Settings};

/// A Monday, in hours since 1970-01-01T00:00:00Z.
const MONDAY: u32 = 20_780 * 24;

fn key() -> Key {
    let made = Instant(0);
    let secret =
        |version| Secret { version, digest: [0; 32], pepper: PepperId([0; 8]), created_at: made, retires_at: None, revoked_at: None };
    Key {
        id: KeyId([7; 16]),
        settings: Settings::new("acme", "web"),
        secrets: vec![secret(1)],
        created_at: made,
        deleted_at: None,
        revision: 1,
    }
}
