//! What reads as a token, told once more: base62 by long division, CRC-32 bit by bit.

use doorward::key::{Token, reads_as_token};

use crate::dice::Dice;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// zlib's: reflected polynomial, all ones before and after.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Big-endian bytes in `width` base62 digits, zero-padded.
fn base62(mut number: Vec<u8>, width: usize) -> Vec<u8> {
    let mut digits = vec![b'0'; width];
    for place in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *place = DIGITS[rest as usize];
    }
    assert!(number.iter().all(|byte| *byte == 0), "wide enough");
    digits
}

fn token(prefix: &[u8], secret: [u8; 32]) -> Vec<u8> {
    let mut text = [prefix, b"_", &base62(secret.to_vec(), 43)].concat();
    text.extend(base62(crc32(&text).to_be_bytes().to_vec(), 6));
    text
}

fn reads(text: &[u8]) -> bool {
    if text.len() < 1 + 1 + 43 + 6 || text.len() > 16 + 1 + 43 + 6 {
        return false;
    }
    let (before, check) = text.split_at(text.len() - 6);
    let (prefix, secret) = before.split_at(before.len() - 43);
    let in_prefix = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
    let (last, prefix) = prefix.split_last().expect("two bytes or more");
    *last == b'_'
        && prefix.iter().all(in_prefix)
        && secret.iter().all(|b| DIGITS.contains(b))
        && check == base62(crc32(before).to_be_bytes().to_vec(), 6)
}

#[test]
fn the_check_value_of_the_crc_is_the_catalogue_s() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn what_the_library_makes_reads_as_a_token() {
    for prefix in ["dw", "a", "0", "_", "acme_live", "sixteen_letters_"] {
        for _ in 0..200 {
            let made = Token::generate(prefix).expect("a prefix");
            assert!(reads(made.expose()) && reads_as_token(made.expose()), "{prefix}");
            assert!(made.expose().starts_with(format!("{prefix}_").as_bytes()));
        }
    }
}

#[test]
fn damaged_tokens_read_as_the_model_has_it() {
    let mut dice = Dice::new(3);
    let mut good = 0;
    for round in 0..200_000 {
        let prefixes: [&[u8]; 9] = [b"dw", b"a", b"_", b"acme_live", b"sixteen_letters_", b"seventeen_letters", b"", b"DW", b"d-w"];
        let secret = match dice.below(8) {
            0 => [0; 32],
            1 => [255; 32],
            _ => dice.digest(),
        };
        let prefix: &[u8] = prefixes[dice.below(prefixes.len())];
        let mut text = token(prefix, secret);
        let at = dice.below(text.len());
        match dice.below(7) {
            0 => text[at] = *dice.one_of(DIGITS),
            1 => text[at] = dice.bits() as u8,
            2 => text.truncate(at),
            3 => text.insert(at, *dice.one_of(DIGITS)),
            4 => {
                let other = dice.below(text.len());
                text.swap(at, other);
            }
            _ => {}
        }
        let expected = reads(&text);
        good += usize::from(expected);
        assert_eq!(reads_as_token(&text), expected, "round {round}: {}", String::from_utf8_lossy(&text));
    }
    assert!((20_000..180_000).contains(&good), "both kinds occur: {good}");
}
