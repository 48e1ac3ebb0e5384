//! Every text that a person or a script writes: tokens, networks, instants, spans, grants, functions, countries, key ids. What is read prints in its canonical form, and
//! that reads as the same; what a value means does not depend on how it was spelled; no token comes through what is made to hide it.
//!
//! The first byte of the input chooses the parser.
#![no_main]

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use doorward::key::{
    Country, FunctionName, Grant, Instant, KeyId, KeyRef, Network, Span, Token, When, canonical, check_prefix, check_text, holds_token,
    limits, reads_as_token, shell_word, shown, weakness, without_tokens,
};
use doorward::record::Head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else { return };
    if which % 12 == 0 {
        token(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match which % 12 {
        0 => hidden(text),
        1 => network(text),
        2 => instant(text),
        3 => span(text),
        4 => when(text),
        5 => drop(canonical_form::<FunctionName>(text).map(|name| assert!(FunctionName::is_valid(name.to_string().as_bytes())))),
        6 => grant(text),
        7 => drop(canonical_form::<Country>(text)),
        8 => drop(canonical_form::<KeyId>(text).map(|id| assert_eq!(text.parse(), Ok(KeyRef::Id(id))))),
        // What names no key is printed shortened, and only for people.
        9 if matches!(text.parse(), Ok(KeyRef::Neither(_))) => {}
        9 => drop(canonical_form::<KeyRef>(text)),
        10 => drop(canonical_form::<Head>(text)),
        _ => free_text(text),
    }
});

/// What a text reads as, if it reads; and that its printed form reads as the same, and prints as the same.
fn canonical_form<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let read = text.parse::<T>().ok()?;
    let printed = read.to_string();
    let again = printed.parse::<T>().unwrap_or_else(|_| panic!("'{printed}', printed of '{text}', is not read"));
    assert_eq!(again, read, "{text:?}");
    assert_eq!(again.to_string(), printed);
    Some(read)
}

fn token(bytes: &[u8]) {
    match Token::from_bytes(bytes) {
        Ok(token) => {
            assert_eq!(token.expose(), bytes);
            assert!(!format!("{token:?}").contains("_"), "Debug tells nothing");
        }
        Err(_) => assert!(bytes.is_empty() || bytes.len() > limits::TOKEN_BYTES),
    }
    let _ = weakness(bytes);
    if reads_as_token(bytes) {
        // One wrong byte is always told: a CRC-32 finds every burst of up to 32 bits.
        for at in 0..bytes.len() {
            let mut typo = bytes.to_vec();
            typo[at] ^= 1;
            assert!(!reads_as_token(&typo));
        }
    }
}

fn hidden(text: &str) {
    let cleaned = without_tokens(text);
    assert!(!holds_token(&cleaned), "a token is still in {cleaned:?}");
    let short = shown(text);
    assert!(!holds_token(&short) && short.len() <= 4 * 60, "{short:?}");
    if reads_as_token(text.as_bytes()) {
        assert!(holds_token(text) && holds_token(&format!("x {text} y")));
        assert!(text.parse::<FunctionName>().is_err() && text.parse::<Grant>().is_err() && check_text("tags", text).is_err());
        let prefix = text.split_at(text.len() - 50).0;
        check_prefix(prefix).expect("the prefix of a token");
    }
}

fn network(text: &str) {
    let Some(network) = canonical_form::<Network>(text) else { return };
    let net = network.net();
    assert_eq!(net, net.trunc(), "no host bits");
    assert!(network.contains(net.addr()) && network.contains(net.broadcast()));
    if let IpAddr::V6(v6) = net.addr() {
        assert!(v6.to_ipv4_mapped().is_none(), "{network} is IPv4");
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        assert_eq!(network.net().prefix_len(), network.net().max_prefix_len());
        assert_eq!(network.net().addr(), canonical(address));
    }
}

fn instant(text: &str) {
    let Some(instant) = canonical_form::<Instant>(text) else { return };
    assert!((0..=limits::INSTANT_MS).contains(&instant.0));
    assert!(instant.to_string().ends_with('Z'));
    assert_eq!(text.parse::<When>().map(|when| when.resolve(Instant(0))), Ok(instant));
    assert_eq!(serde_json::from_value::<Instant>(serde_json::to_value(instant).expect("JSON")).ok(), Some(instant));
}

fn span(text: &str) {
    let Some(span) = canonical_form::<Span>(text) else { return };
    assert!((0..=limits::SPAN_MS).contains(&span.0));
    assert_eq!(Instant(5).plus(span).since(Instant(5)), span);
}

fn when(text: &str) {
    let Ok(when) = text.parse::<When>() else { return };
    let (early, late) = (when.resolve(Instant(0)), when.resolve(Instant(limits::INSTANT_MS)));
    assert!(early <= late && late.0 <= limits::INSTANT_MS);
    match when {
        When::At(instant) => assert_eq!((early, late), (instant, instant)),
        When::In(span) => assert_eq!(early.since(Instant(0)), span),
    }
}

fn grant(text: &str) {
    let Some(grant) = canonical_form::<Grant>(text) else { return };
    assert_eq!(grant.to_string(), text, "a grant has one spelling");
}

fn free_text(text: &str) {
    let word = shell_word(text);
    assert!(!word.is_empty());
    if check_text("tags", text).is_ok() {
        assert!(!holds_token(text) && !text.chars().any(char::is_control));
    }
}
