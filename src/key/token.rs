use std::fmt;

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::limits::{self, LimitError};
use super::shown;

/// A token as a caller presents it: 1 to 250 bytes of any kind. Wiped when dropped, and never shown by `Debug`.
///
/// Those made here are `<prefix>_`, 43 base62 digits (256 random bits, big-endian, zero-padded) and 6 base62 digits of the
/// CRC-32 (the one of zlib, ISO 3309) of all that stands before them.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Token(Vec<u8>);

/// A text that no token may be, or a prefix that none may begin with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Nothing at all.
    #[error("token: empty")]
    Empty,
    /// Longer than the wire carries.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A prefix outside the grammar.
    #[error("token_prefix: '{0}' is not 1 to {max} of a-z 0-9 _", max = limits::TOKEN_PREFIX_BYTES)]
    Prefix(String),
}

/// Bytes of the shortest and the longest token that is made here.
pub(super) const SHORTEST_MADE: usize = 1 + 1 + SECRET_DIGITS + CHECK_DIGITS;
pub(super) const LONGEST_MADE: usize = limits::TOKEN_PREFIX_BYTES + 1 + SECRET_DIGITS + CHECK_DIGITS;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Base62 digits of 256 bits.
const SECRET_DIGITS: usize = 43;
/// Base62 digits of 32 bits.
const CHECK_DIGITS: usize = 6;
/// An imported token with fewer bytes than this can be guessed: 20 random base62 digits are 119 bits.
const WEAK_BYTES: usize = 20;
/// An imported token with fewer distinct bytes than this was typed, not drawn.
const WEAK_DISTINCT: usize = 8;

impl Token {
    /// A fresh token from the kernel's random numbers.
    ///
    /// # Errors
    /// A prefix outside the grammar.
    pub fn generate(prefix: &str) -> Result<Token, TokenError> {
        check_prefix(prefix)?;
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).expect("the kernel has random numbers");
        let mut text = Vec::with_capacity(prefix.len() + 1 + SECRET_DIGITS + CHECK_DIGITS);
        text.extend_from_slice(prefix.as_bytes());
        text.push(b'_');
        push_base62_256(&mut text, &mut random);
        random.zeroize();
        let check = crc32fast::hash(&text);
        text.extend_from_slice(&base62_32(check));
        Ok(Token(text))
    }

    /// Takes a token that was made elsewhere or presented by a caller.
    pub fn from_bytes(bytes: &[u8]) -> Result<Token, TokenError> {
        if bytes.is_empty() {
            return Err(TokenError::Empty);
        }
        if bytes.len() > limits::TOKEN_BYTES {
            let value = format!("{} bytes", bytes.len());
            return Err(LimitError { field: "token", value, limit: format!("{} bytes", limits::TOKEN_BYTES) }.into());
        }
        Ok(Token(bytes.to_vec()))
    }

    /// The bytes, for hashing, for the wire, or to be shown once.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, for those made here; others may not be text.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Refuses a prefix outside the grammar: 1 to 16 of `a-z 0-9 _`.
pub fn check_prefix(prefix: &str) -> Result<(), TokenError> {
    let fits = !prefix.is_empty() && prefix.len() <= limits::TOKEN_PREFIX_BYTES;
    if fits && prefix.bytes().all(in_prefix) { Ok(()) } else { Err(TokenError::Prefix(shown(prefix))) }
}

/// Whether the text has the form of a token with any prefix and its check digits are right: all that can be known offline.
pub fn reads_as_token(text: &[u8]) -> bool {
    let Some(body) = text.len().checked_sub(CHECK_DIGITS) else { return false };
    let Some(prefix) = body.checked_sub(SECRET_DIGITS + 1) else { return false };
    let digits = &text[prefix + 1..];
    if prefix == 0 || prefix > limits::TOKEN_PREFIX_BYTES || text[prefix] != b'_' || !text[..prefix].iter().all(|&b| in_prefix(b)) {
        return false;
    }
    if !digits.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    base62_32(crc32fast::hash(&text[..body])) == text[body..]
}

/// Why a token that was made elsewhere looks guessable, if it does.
pub fn weakness(token: &[u8]) -> Option<String> {
    let mut seen = [false; 256];
    token.iter().for_each(|&b| seen[b as usize] = true);
    let distinct = seen.iter().filter(|&&s| s).count();
    if token.len() < WEAK_BYTES {
        return Some(format!("it has {} bytes, fewer than {WEAK_BYTES}", token.len()));
    }
    (distinct < WEAK_DISTINCT).then(|| format!("it has {distinct} distinct characters, fewer than {WEAK_DISTINCT}"))
}

fn in_prefix(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'
}

/// Appends the 43 digits of a big-endian number by long division, leaving zero in `number`.
fn push_base62_256(text: &mut Vec<u8>, number: &mut [u8; 32]) {
    let start = text.len();
    text.resize(start + SECRET_DIGITS, b'0');
    for digit in text[start..].iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in number.iter_mut() {
            let dividend = remainder << 8 | u32::from(*byte);
            *byte = (dividend / 62) as u8;
            remainder = dividend % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
}

fn base62_32(mut number: u32) -> [u8; CHECK_DIGITS] {
    let mut digits = [b'0'; CHECK_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_token_reads_as_one_whatever_its_prefix() {
        for prefix in ["dw", "a", "live_2026", "0123456789abcdef"] {
            let token = Token::generate(prefix).unwrap();
            assert_eq!(token.expose().len(), prefix.len() + 50);
            assert!(reads_as_token(token.expose()));
        }
        assert_ne!(Token::generate("dw").unwrap(), Token::generate("dw").unwrap());
    }

    #[test]
    fn every_single_typo_is_caught() {
        let token = Token::generate("dw").unwrap();
        for at in 0..token.expose().len() {
            let mut typo = token.expose().to_vec();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            assert!(!reads_as_token(&typo), "at {at}");
        }
    }

    /// Made with Python: 256 one-bits in base62, then base62 of `zlib.crc32`.
    #[test]
    fn the_encoding_is_the_documented_one() {
        let mut text = b"dw_".to_vec();
        push_base62_256(&mut text, &mut [0xff; 32]);
        let check = base62_32(crc32fast::hash(&text));
        text.extend_from_slice(&check);
        assert_eq!(text, PYTHON.as_bytes());
    }

    const PYTHON: &str = "dw_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13K2MxQ";

    #[test]
    fn weak_tokens_are_named() {
        assert!(weakness(b"secret").is_some());
        assert!(weakness(&[b'a'; 64]).is_some());
        assert!(weakness(Token::generate("dw").unwrap().expose()).is_none());
    }
}
