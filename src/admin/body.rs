//! What comes in: bodies, queries, headers and path segments, each with its limit, and none of it trusted.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{HeaderMap, Uri, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::problem::{Failure, Word};
use crate::key::history::Actor;
use crate::key::{KeyRef, limits};
use crate::wire::{BadDocument, parse};

use super::access::Peer;

/// Bytes of a body that is read whole, and of one line of an import: the largest key that the limits allow fits several times.
pub const BODY_BYTES: usize = 1 << 20;
/// The longest that a body may pause: a script that hangs must not hold a connection for good.
pub(super) const BODY_PAUSE: Duration = Duration::from_secs(30);
/// The longest that a body which is read whole may take.
pub(super) const BODY_TIME: Duration = Duration::from_secs(60);
/// Bytes that are read and thrown away after a refusal, so that a peer which is still writing gets to read why.
const DRAIN_BYTES: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The next piece of a body; `None` at its end.
pub(super) async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = tokio::time::timeout(BODY_PAUSE, body.frame()).await;
        let pause = || format!("no byte of the body came for {} s", BODY_PAUSE.as_secs());
        match frame.map_err(|_| Failure::new(Word::Timeout, pause()))? {
            None => return Ok(None),
            Some(Err(_)) => return Err(Failure::new(Word::Malformed, "the body broke off")),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Reads what is left of a body and throws it away, within bounds.
pub(super) async fn drain(body: &mut Body) {
    let read = async {
        let mut left = DRAIN_BYTES;
        while let Ok(Some(piece)) = next_piece(body).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // Past the time the connection is closed under the peer, which is its own doing.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

/// Reads a body whole, up to [`BODY_BYTES`], however slowly it comes: within [`BODY_TIME`].
async fn whole(body: Body) -> Result<Vec<u8>, Failure> {
    let late = |_| Failure::new(Word::Timeout, format!("the body took longer than {} s", BODY_TIME.as_secs()));
    tokio::time::timeout(BODY_TIME, pieces(body)).await.map_err(late)?
}

async fn pieces(mut body: Body) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = next_piece(&mut body).await? {
        if bytes.len() + piece.len() > BODY_BYTES {
            drain(&mut body).await;
            return Err(Failure::new(Word::TooLarge, format!("the body is over the limit of {BODY_BYTES} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads a JSON body, whatever its `Content-Type` says: `curl -d` sends a wrong one.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    Ok(parse(&whole(body).await?)?)
}

/// The same where the body may be empty, which then means `{}`.
pub(super) async fn json_or_empty<T: DeserializeOwned + Default>(body: Body) -> Result<T, Failure> {
    let bytes = whole(body).await?;
    if bytes.trim_ascii().is_empty() { Ok(T::default()) } else { Ok(parse(&bytes)?) }
}

/// Reads a query string.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    Query::<T>::try_from_uri(uri).map(|Query(query)| query).map_err(|rejection| {
        let cause = std::error::Error::source(&rejection).map(ToString::to_string).unwrap_or_default();
        BadDocument::of(&cause).into()
    })
}

/// The key that a decoded path segment names.
pub(super) fn key_ref(segment: &str) -> KeyRef {
    match segment.parse() {
        Ok(key) => key,
        Err(never) => match never {},
    }
}

/// The revision in `If-Match`: `"7"`, or `7` from a hand that forgot the quotes; `*` and absence ask for none.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let revision = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()));
    let error =
        || Failure::new(Word::Malformed, "If-Match: expected one revision in quotes, such as \"7\", as the ETag of the key gave it");
    revision.map(Some).ok_or_else(error)
}

/// The header that carries the `--as` of a change, percent-encoded where it holds more than ASCII.
pub const ON_BEHALF_OF: &str = "x-doorward-as";

/// Who makes a change.
pub(super) fn actor(peer: &Peer, headers: &HeaderMap) -> Result<Actor, Failure> {
    let on_behalf_of = match headers.get(ON_BEHALF_OF) {
        None => None,
        Some(value) => Some(on_behalf_of(value.as_bytes()).map_err(|why| Failure::invalid("as", format!("X-Doorward-As: {why}")))?),
    };
    Ok(Actor { uid: peer.uid, user: peer.user.clone(), on_behalf_of })
}

fn on_behalf_of(value: &[u8]) -> Result<String, String> {
    let text = percent_decoded(value).ok_or("not UTF-8, or a % without two hexadecimal digits")?;
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > limits::ACTOR_BYTES {
        return Err(format!("{} bytes is over the limit of {} bytes", text.len(), limits::ACTOR_BYTES));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok(text)
}

fn percent_decoded(value: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let hex = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((hex(digits[0])? << 4 | hex(digits[1])?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{CreateBody, ExplainBody, IdentifyBody, KeyLine, RotateBody};
    use crate::catalog::change::Patch;

    fn refused<T: DeserializeOwned>(text: &str) -> (Option<String>, String) {
        let failure = Failure::from(parse::<T>(text.as_bytes()).err().unwrap_or_else(|| panic!("accepted: {text}")));
        (failure.problem().field.clone(), failure.problem().detail.clone())
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (text, field) in [
            (r#"{"account":"a"}"#, "name"),
            (r#"{"name":7,"account":"a"}"#, "name"),
            (r#"{"name":"n","name":"m","account":"a"}"#, "name"),
            (r#"{"name":"n","account":"a","grants":["a b"]}"#, "grants"),
            (r#"{"name":"n","account":"a","grants":"leads.*"}"#, "grants"),
            (r#"{"name":"n","account":"a","networks":["10.0.0.0/33"]}"#, "networks"),
            (r#"{"name":"n","account":"a","countries":["UK"]}"#, "countries"),
            (r#"{"name":"n","account":"a","expires_at":"tomorrow"}"#, "expires_at"),
            (r#"{"name":"n","account":"a","enabled":"yes"}"#, "enabled"),
            (r#"{"name":"n","account":"a","unknown_country":"maybe"}"#, "unknown_country"),
            (r#"{"name":"n","account":"a","colour":"red"}"#, "colour"),
        ] {
            let (named, detail) = refused::<CreateBody>(text);
            assert_eq!(named.as_deref(), Some(field), "{text}: {detail}");
            assert!(detail.contains(field), "{text}: {detail}");
            assert!(!detail.contains("at line"), "{detail}");
        }
        assert_eq!(refused::<Patch>(r#"{"add_network":[]}"#).0.as_deref(), Some("add_network"));
        assert_eq!(refused::<RotateBody>(r#"{"overlap":7}"#).0.as_deref(), Some("overlap"));
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for text in ["", "  ", "null", "7", "[]", "\"x\"", "{", "{}x", "{\"name\":}", "\u{0}"] {
            let failure = Failure::from(parse::<Patch>(text.as_bytes()).err().unwrap_or_else(|| panic!("accepted: {text}")));
            assert_eq!(failure.problem().status, 400, "{text}: {}", failure.problem().detail);
        }
    }

    /// serde's messages quote what they read: a token of the wrong JSON type, or in the wrong place, must not come back in an error.
    #[test]
    fn no_error_repeats_a_secret() {
        const CANARY: &str = "31415926535897";
        for text in [
            r#"{"token":31415926535897}"#,
            r#"{"token":["31415926535897"]}"#,
            r#"{"token":{"31415926535897":1}}"#,
            r#"{"token":true,"31415926535897":1}"#,
            r#"{"31415926535897":1}"#,
            r#"{"token":"31415926535897","31415926535897":1}"#,
            r#""31415926535897""#,
            "31415926535897",
            r#"{"token":"31415926535897"#,
            r#"{"token":"31415926535897",}"#,
            r#"{"token":"31415926535897"} 31415926535897"#,
            r#"{"token":"31415926535897","token":"31415926535897"}"#,
        ] {
            for (_, detail) in [refused::<IdentifyBody>(text), refused::<ExplainBody>(text), refused::<KeyLine>(text)] {
                assert!(!detail.contains(CANARY), "{text}: {detail}");
            }
        }
        for text in [
            r#"{"name":"n","account":"a","token_sha256":31415926535897}"#,
            r#"{"name":"n","account":"a","secrets":31415926535897}"#,
            r#"{"name":"n","account":"a","secrets":[{"digest":31415926535897}]}"#,
            r#"{"name":"n","account":"a","secrets":[{"31415926535897":1}]}"#,
        ] {
            let (_, detail) = refused::<KeyLine>(text);
            assert!(!detail.contains(CANARY), "{text}: {detail}");
        }
    }

    #[test]
    fn if_match_takes_one_revision() {
        let with = |value: &str| HeaderMap::from_iter([(header::IF_MATCH, value.parse().unwrap())]);
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        assert_eq!(if_match(&with("*")).unwrap(), None);
        assert_eq!(if_match(&with("\"7\"")).unwrap(), Some(7));
        assert_eq!(if_match(&with("7")).unwrap(), Some(7));
        for bad in ["", "\"\"", "W/\"7\"", "\"7\", \"8\"", "-1", "+1", "\"7", "99999999999999999999"] {
            assert!(if_match(&with(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn on_behalf_of_is_decoded_and_limited() {
        assert_eq!(on_behalf_of(b"ops/ticket 7").unwrap(), "ops/ticket 7");
        assert_eq!(on_behalf_of(b"J%C3%B6rg%25").unwrap(), "J\u{f6}rg%");
        for bad in [&b""[..], b"%", b"%4", b"%zz", b"%ff", b"%0a", b"%+1", &[b'a'; 101]] {
            assert!(on_behalf_of(bad).is_err(), "{bad:?}");
        }
    }
}
