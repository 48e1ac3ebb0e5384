use hyper::Method;

use super::args::changes::{Revoke, Rotate};
use super::exit::{Exit, Failure};
use super::http::{Admin, key_path};
use super::keys;
use super::screen::{Hue, Screen};
use super::view;
use crate::admin::wire::{KeyView, MadeView, RevokeBody, RotateBody, SecretState};

/// `rotate`
pub(crate) fn rotate(admin: &Admin, screen: &Screen, arguments: Rotate) -> Result<Exit, Failure> {
    let path = key_path(&arguments.key, "/rotate");
    let revision = arguments.guard.if_revision;
    let (extend, finish, cancel) = (arguments.extend.is_some(), arguments.finish, arguments.cancel);
    let body = RotateBody { overlap: arguments.overlap, extend: arguments.extend, finish, cancel, request_id: arguments.request_id };
    if extend || finish || cancel {
        let key: KeyView = admin.send(Method::POST, &path, &body, revision)?;
        let done = match (extend, finish) {
            (true, _) => "Extended the overlap",
            (_, true) => "The old secret has retired",
            _ => "Took the rotation back",
        };
        return keys::changed(screen, &key, done);
    }
    let made: MadeView = admin.send(Method::POST, &path, &body, revision)?;
    screen
        .show(&made, || {
            let text = view::made(screen, &made, &format!("Rotated {}", view::label(&made.key)));
            if screen.terminal { text + &old_secret(screen, &made) + &others(screen, &made) } else { text }
        })
        .map_err(|error| keys::unseen(&made, error))?;
    Ok(Exit::Ok)
}

/// What becomes of the secret before, and how to go on.
fn old_secret(screen: &Screen, made: &MadeView) -> String {
    let Some(old) = made.key.secrets.iter().rev().find(|secret| secret.version < made.version && secret.revoked_at.is_none()) else {
        return String::new();
    };
    if old.state != SecretState::Retiring {
        return format!(
            "\n  {}\n",
            screen.paint(&format!("Secret {} has retired: its users are refused from now on.", old.version), Hue::Warn)
        );
    }
    let label = crate::key::shell_word(&view::label(&made.key));
    format!(
        "\n  Secret {} stays good until {}.\n  Who still uses it: doorward usage {label}\n  When nobody does:  doorward rotate {label} --finish\n",
        old.version,
        screen.moment_or(old.retires_at, "it is revoked"),
    )
}

/// Secrets from rotations before the latest that are still in their overlap: neither a rotation nor `--finish` ends those.
fn others(screen: &Screen, made: &MadeView) -> String {
    let label = crate::key::shell_word(&view::label(&made.key));
    let good = made.key.secrets.iter().filter(|secret| secret.state == SecretState::Retiring && secret.version + 1 < made.version);
    good.map(|secret| {
        let (version, end) = (secret.version, screen.moment_or(secret.retires_at, "it is revoked"));
        format!("  Secret {version} is good too, until {end}. To end it now: doorward revoke {label} --version {version}\n")
    })
    .collect()
}

/// `revoke`
pub(crate) fn revoke(admin: &Admin, screen: &Screen, arguments: &Revoke) -> Result<Exit, Failure> {
    let body = RevokeBody { version: arguments.secret };
    let key: KeyView = admin.send(Method::POST, &key_path(&arguments.key, "/revoke"), &body, arguments.guard.if_revision)?;
    keys::changed(screen, &key, "Revoked")
}
