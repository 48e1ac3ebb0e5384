use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::key::{Instant, KeyId, shown};

/// The end of the history's chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The last entry's sequence; 0 before the first.
    pub sequence: u64,
    /// The last entry's MAC; zeros before the first.
    pub mac: [u8; 32],
}

/// `SEQUENCE:MAC`, the MAC in hexadecimal.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sequence)?;
        self.mac.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Head, String> {
        let error = || format!("'{}' is no head of a history: expected SEQUENCE:MAC, the MAC of 64 hexadecimal digits", shown(text));
        let (sequence, digits) = text.split_once(':').ok_or_else(error)?;
        let sequence = sequence.parse().map_err(|_| error())?;
        let mut mac = [0; 32];
        if digits.len() != 2 * mac.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(error());
        }
        for (byte, at) in mac.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| error())?;
        }
        Ok(Head { sequence, mac })
    }
}

/// Which peppers the store was written with, by their fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PepperMarks {
    /// New secrets are made under this one.
    pub current: [u8; 32],
    /// The one before it, while a secret needs it.
    pub previous: Option<[u8; 32]>,
}

/// What a request id was used for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Remembered {
    /// SHA-256 of what was asked, but for its instants.
    pub asked: [u8; 32],
    /// The instants that were asked for, in milliseconds: a span from now moves with the clock between one try and the next.
    pub instants: Vec<Option<Instant>>,
    /// The key that was made or rotated.
    pub key: KeyId,
    /// The version of the secret that was made.
    pub version: u16,
    /// When.
    pub at: Instant,
}
