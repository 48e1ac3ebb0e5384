use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The answer to a verify request, in the order in which the checks run: the first that fails names the verdict.
///
/// The numbers are the wire's and the store's, and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// This key may call this function from this address now.
    Ok = 0,
    /// No such secret, and the text does not read as a token.
    Malformed = 1,
    /// The text reads as a token, but no secret has it.
    Unknown = 2,
    /// The key is deleted.
    Deleted = 3,
    /// This secret is revoked.
    Revoked = 4,
    /// This secret was rotated, and its overlap is over.
    Retired = 5,
    /// The key is switched off.
    Disabled = 6,
    /// Before the key's `not_before`.
    NotYetValid = 7,
    /// At or after the key's `expires_at`.
    Expired = 8,
    /// The key has networks or countries, and the request named no address.
    AddressMissing = 9,
    /// None of the key's networks holds the address.
    AddressDenied = 10,
    /// The key has countries, and the country database does not place the address.
    CountryUnknown = 11,
    /// The address is in a country that the key does not have.
    CountryDenied = 12,
    /// The function is not registered (in strict mode), or not registered and no wildcard covers it.
    FunctionUnknown = 13,
    /// A wildcard would cover the function, but it is restricted and not granted by name.
    FunctionRestricted = 14,
    /// No grant covers the function.
    FunctionDenied = 15,
}

impl Verdict {
    /// Every verdict, in the order of the checks.
    pub const ALL: [Verdict; 16] = [
        Verdict::Ok,
        Verdict::Malformed,
        Verdict::Unknown,
        Verdict::Deleted,
        Verdict::Revoked,
        Verdict::Retired,
        Verdict::Disabled,
        Verdict::NotYetValid,
        Verdict::Expired,
        Verdict::AddressMissing,
        Verdict::AddressDenied,
        Verdict::CountryUnknown,
        Verdict::CountryDenied,
        Verdict::FunctionUnknown,
        Verdict::FunctionRestricted,
        Verdict::FunctionDenied,
    ];

    /// The verdict of a number from the wire or the store.
    pub fn from_number(number: u8) -> Option<Verdict> {
        Verdict::ALL.get(number as usize).copied()
    }

    /// The name as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Malformed => "malformed",
            Verdict::Unknown => "unknown",
            Verdict::Deleted => "deleted",
            Verdict::Revoked => "revoked",
            Verdict::Retired => "retired",
            Verdict::Disabled => "disabled",
            Verdict::NotYetValid => "not_yet_valid",
            Verdict::Expired => "expired",
            Verdict::AddressMissing => "address_missing",
            Verdict::AddressDenied => "address_denied",
            Verdict::CountryUnknown => "country_unknown",
            Verdict::CountryDenied => "country_denied",
            Verdict::FunctionUnknown => "function_unknown",
            Verdict::FunctionRestricted => "function_restricted",
            Verdict::FunctionDenied => "function_denied",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Verdict, String> {
        Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == text).ok_or_else(|| format!("'{text}' is not a verdict"))
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_order_agree() {
        for (number, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(Verdict::from_number(number as u8), Some(verdict));
            assert_eq!(verdict as usize, number);
            assert_eq!(verdict.as_str().parse::<Verdict>().unwrap(), verdict);
        }
        assert_eq!(Verdict::from_number(16), None);
    }
}
