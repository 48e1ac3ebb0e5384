use std::borrow::Cow;

use super::token::{LONGEST_MADE, SHORTEST_MADE, reads_as_token};

/// Characters of a value that an error message shows at most.
const SHOWN_CHARS: usize = 48;
/// A word this long may be a secret of any kind, and tells a reader nothing. (A key's id has 36 characters.)
const LONG_WORD: usize = 40;
const TOKEN: &str = "(a token)";

/// A value as an error message may show it: its beginning, without tokens and without long words, which may be tokens made elsewhere or mistyped.
pub fn shown(value: &str) -> String {
    let long = |word: &str| (word.len() >= LONG_WORD).then(|| format!("(a word of {} characters)", word.len()));
    let clean = replace_words(value, |word| if holds_token(word) { Some(TOKEN.to_owned()) } else { long(word) });
    match clean.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean.into_owned(),
    }
}

/// A text without the tokens in it. Nobody's mistake may put one into an error or a log.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    replace_words(text, |word| holds_token(word).then(|| TOKEN.to_owned()))
}

/// Whether a token that was made here stands anywhere in the text.
pub fn holds_token(text: &str) -> bool {
    let text = text.as_bytes();
    let beginnings = 0..text.len().saturating_sub(SHORTEST_MADE - 1);
    beginnings.into_iter().any(|start| {
        let longest = LONGEST_MADE.min(text.len() - start);
        (SHORTEST_MADE..=longest).any(|length| reads_as_token(&text[start..start + length]))
    })
}

fn replace_words(text: &str, replacement: impl Fn(&str) -> Option<String>) -> Cow<'_, str> {
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut clean = String::new();
    let mut kept = 0;
    let mut at = 0;
    while let Some(start) = text[at..].find(of_word).map(|offset| at + offset) {
        let end = text[start..].find(|c| !of_word(c)).map_or(text.len(), |length| start + length);
        if let Some(replacement) = replacement(&text[start..end]) {
            clean.push_str(&text[kept..start]);
            clean.push_str(&replacement);
            kept = end;
        }
        at = end;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[kept..]);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Token;

    #[test]
    fn no_part_of_a_token_is_shown() {
        for prefix in ["dw", "a", "0123456789abcdef"] {
            let token = Token::generate(prefix).unwrap();
            let token = token.expose_text().unwrap();
            for value in [token.to_owned(), format!("x{token}"), format!("{token}x"), format!("a b='{token}' c")] {
                assert!(holds_token(&value), "{value}");
                assert!(!shown(&value).contains(&token[20..30]) && !without_tokens(&value).contains(&token[20..30]), "{value}");
            }
            assert!(!shown(&token[..token.len() - 1]).contains(&token[20..30]), "one that was cut is a long word");
        }
    }

    #[test]
    fn other_values_are_shown_from_their_beginning() {
        assert_eq!(shown("10.0.0.0/99"), "10.0.0.0/99");
        assert_eq!(shown("key_019abc00000070008000000000000000"), "key_019abc00000070008000000000000000");
        assert_eq!(shown(&"ä ".repeat(40)), format!("{}…", "ä ".repeat(24)));
        assert_eq!(without_tokens("grants: 'ä_b' ünd"), "grants: 'ä_b' ünd");
    }
}
