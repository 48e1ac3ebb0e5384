use hyper::Method;
use zeroize::Zeroize;

use super::args::tokens::{Explain, Identify};
use super::ask;
use super::exit::{Exit, Failure};
use super::http::Admin;
use super::screen::{Hue, Screen};
use super::table::card;
use super::view;
use crate::admin::wire::{ExplainBody, ExplainView, IdentifyBody, IdentifyView};

/// `identify`
pub(crate) fn identify(admin: &Admin, screen: &Screen, arguments: &Identify) -> Result<Exit, Failure> {
    let token = ask::token_text(&arguments.token)?;
    let mut body = IdentifyBody { token: token.to_string() };
    let answer = admin.send(Method::POST, "/v1/identify", &body, None);
    body.token.zeroize();
    let found: IdentifyView = answer?;
    screen.show(&found, || match (&found.key, found.reads_as_token) {
        (Some(key), _) => {
            let version = found.version.map(|version| version.to_string()).unwrap_or_default();
            let title = if screen.terminal { format!("Secret {version} of\n") } else { format!("version: {version}\n") };
            title + &view::key(screen, key, false)
        }
        (None, true) => {
            "No key has this token, though it reads as one: it may be of another store, or of a key that is long gone.\n".to_owned()
        }
        (None, false) => "No key has this token, and it does not read as one: its form or its check digits are wrong.\n".to_owned(),
    })?;
    Ok(if found.key.is_some() { Exit::Ok } else { Exit::No })
}

/// `explain`
pub(crate) fn explain(admin: &Admin, screen: &Screen, arguments: &Explain) -> Result<Exit, Failure> {
    let key = arguments.positional.as_ref().or(arguments.key.as_ref()).map(ToString::to_string);
    let token = if key.is_some() { None } else { Some(ask::token_text(&arguments.token)?.to_string()) };
    let mut body = ExplainBody { token, key, function: arguments.function.to_string(), ip: arguments.ip };
    let answer = admin.send(Method::POST, "/v1/explain", &body, None);
    body.token.zeroize();
    let explained: ExplainView = answer?;
    screen.show(&explained, || text(screen, &explained))?;
    Ok(Exit::Ok)
}

/// Every check with its reason.
fn text(screen: &Screen, explained: &ExplainView) -> String {
    let good = explained.verdict == "ok";
    let mut lines = vec![("verdict", screen.paint(&explained.verdict, if good { Hue::Good } else { Hue::Bad }))];
    lines.push(("key", explained.key_id.map(|id| id.to_string()).unwrap_or_default()));
    lines.push(("secret", explained.version.map(|version| version.to_string()).unwrap_or_default()));
    lines.push(("country", explained.country.map(|country| country.to_string()).unwrap_or_default()));
    let mut text = card(screen, &lines);
    if !screen.terminal {
        for check in &explained.checks {
            text.push_str(&format!("{}\t{}\t{}\n", if check.passes { "pass" } else { "fail" }, check.verdict, check.because));
        }
        return text;
    }
    text.push('\n');
    let named: Vec<(String, String)> = explained
        .checks
        .iter()
        .map(|check| {
            let mark = if check.passes { screen.paint("✓", Hue::Good) } else { screen.paint("✗", Hue::Bad) };
            (check.verdict.clone(), format!("{mark} {}", check.because))
        })
        .collect();
    let rows: Vec<(&str, String)> = named.iter().map(|(name, because)| (name.as_str(), because.clone())).collect();
    text.push_str(&card(screen, &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::CheckView;
    use crate::key::Instant;

    #[test]
    fn every_check_is_told_with_its_reason() {
        let check = |verdict: &str, passes, because: &str| CheckView { verdict: verdict.into(), passes, because: because.into() };
        let explained = ExplainView {
            verdict: "disabled".into(),
            checks: vec![check("revoked", true, "secret 1 is not revoked"), check("disabled", false, "the key is switched off")],
            key_id: None,
            version: Some(1),
            country: None,
        };
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(0) };
        let shown = text(&screen, &explained);
        assert!(shown.contains("revoked   ✓ secret 1 is not revoked") && shown.contains("disabled  ✗ the key is switched off"), "{shown}");
        screen.terminal = false;
        assert!(text(&screen, &explained).contains("fail\tdisabled\tthe key is switched off\n"));
    }
}
