use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::shown;

/// A country by its ISO 3166-1 alpha-2 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Country(pub [u8; 2]);

/// What is known of the country of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CountryOf {
    /// No country database is loaded.
    NoDatabase,
    /// The loaded database does not place the address.
    Unknown,
    /// The loaded database places it there.
    In(Country),
}

impl CountryOf {
    /// The country, where it is known.
    pub fn known(self) -> Option<Country> {
        match self {
            CountryOf::In(country) => Some(country),
            CountryOf::NoDatabase | CountryOf::Unknown => None,
        }
    }
}

/// A text that is no country's code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is not an ISO 3166-1 alpha-2 country code (two letters, such as DE)")]
pub struct CountryError(String);

/// The officially assigned codes of ISO 3166-1 (2024), and XK, the user-assigned code that country databases use for Kosovo.
const CODES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH \
GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB \
LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM \
PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG \
TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

impl Country {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }

    /// Takes two bytes as a country database spells them, whether or not ISO assigns them: the database is its operator's.
    pub fn from_database(code: &str) -> Option<Country> {
        let [a, b] = code.as_bytes() else { return None };
        let code = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
        code.iter().all(u8::is_ascii_uppercase).then_some(Country(code))
    }
}

impl FromStr for Country {
    type Err = CountryError;

    /// Reads a code in either case; a code that is not assigned is refused, since it could never match.
    fn from_str(text: &str) -> Result<Country, CountryError> {
        let error = || CountryError(shown(text));
        let country = Country::from_database(text).ok_or_else(error)?;
        let assigned = CODES.split(' ').any(|code| code.as_bytes() == country.0);
        if assigned { Ok(country) } else { Err(error()) }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Country, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_codes_are_read_in_either_case() {
        assert_eq!("de".parse::<Country>().unwrap(), Country(*b"DE"));
        assert_eq!(CODES.split(' ').count(), 250);
        assert!(CODES.split(' ').all(|code| code.parse::<Country>().is_ok()));
    }

    #[test]
    fn what_is_not_assigned_is_refused() {
        for bad in ["", "D", "DEU", "XX", "ZZ", "UK", "D1", "ÄÖ"] {
            assert!(bad.parse::<Country>().is_err(), "{bad}");
        }
    }
}
