//! What an admin script sends: the body of every request, and a line of an import. It is read, or refused in words that name the field; what is read is written in a form
//! that reads as the same; settings are put in their normal form, once; and no refusal repeats what stood in a field that holds a secret.
//!
//! The first byte of the input chooses the body.
#![no_main]

use doorward::key::{Patch, Settings};
use doorward::wire::{
    BadDocument, BulkBody, CopyBody, CreateBody, ExplainBody, FunctionBody, IdentifyBody, KeyLine, RestrictBody, RevokeBody, RotateBody,
    parse,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What stands for a secret. Where the input has it, it has it in a field for secrets, and there it must stay.
const CANARY: &str = "31415926535897";
const SECRET_FIELDS: [&str; 3] = ["token", "token_sha256", "secrets"];

fuzz_target!(|input: &[u8]| {
    let Some((&which, body)) = input.split_first() else { return };
    match which % 11 {
        0 => drop(respell::<CreateBody>(body).map(|create| normalize(create.settings))),
        1 => drop(respell::<CopyBody>(body)),
        2 => drop(respell::<RotateBody>(body)),
        3 => drop(respell::<RevokeBody>(body)),
        4 => drop(respell::<BulkBody>(body)),
        5 => drop(respell::<Patch>(body)),
        6 => drop(respell::<IdentifyBody>(body)),
        7 => drop(respell::<ExplainBody>(body)),
        8 => drop(respell::<FunctionBody>(body)),
        9 => drop(respell::<RestrictBody>(body)),
        _ => drop(respell::<KeyLine>(body).map(|line| normalize(line.settings))),
    }
});

fn respell<T: DeserializeOwned + Serialize>(body: &[u8]) -> Option<T> {
    let read = match parse::<T>(body) {
        Ok(read) => read,
        Err(bad) => {
            refused(body, &bad);
            return None;
        }
    };
    assert!(serde_json::from_slice::<T>(body).is_ok(), "the quicker way reads the same");
    let written = serde_json::to_vec(&read).expect("JSON");
    let again: T = parse(&written).unwrap_or_else(|bad| panic!("{bad:?}: {}", String::from_utf8_lossy(&written)));
    assert_eq!(serde_json::to_vec(&again).expect("JSON"), written);
    Some(read)
}

fn refused(body: &[u8], bad: &BadDocument) {
    let (field, detail) = match bad {
        BadDocument::Malformed(detail) => (None, detail),
        BadDocument::Invalid { field, detail } => (field.as_deref(), detail),
    };
    assert!(!detail.is_empty() && detail.len() <= 8 * body.len() + 2_000, "{} bytes of words", detail.len());
    assert!(field.is_none_or(|field| detail.contains(field)), "{field:?} {detail}");
    let Ok(Value::Object(document)) = serde_json::from_slice(body) else { return };
    let in_secret = |(name, value): (&String, &Value)| !SECRET_FIELDS.contains(&name.as_str()) && in_value(value) || name.contains(CANARY);
    if !document.iter().any(in_secret) {
        assert!(!detail.contains(CANARY) && field.is_none_or(|field| !field.contains(CANARY)), "{detail}");
    }
}

/// Whether the canary stands in a value.
fn in_value(value: &Value) -> bool {
    value.to_string().contains(CANARY)
}

fn normalize(mut settings: Settings) {
    if settings.normalize().is_err() {
        return;
    }
    let once = settings.clone();
    settings.normalize().expect("what is normal stays so");
    assert_eq!(settings, once);
    let text = serde_json::to_string(&settings).expect("JSON");
    assert_eq!(serde_json::from_str::<Settings>(&text).ok(), Some(settings), "{text}");
}
