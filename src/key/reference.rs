use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{KeyId, shown};

/// How a person names a key: by its id or as `account/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyRef {
    /// By id.
    Id(KeyId),
    /// By account and name.
    Name {
        /// What stands before the first `/`.
        account: String,
        /// All that stands behind it.
        name: String,
    },
    /// Neither: no key can be meant. Kept so that the answer can say what was given.
    Neither(String),
}

impl FromStr for KeyRef {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<KeyRef, Infallible> {
        Ok(match (text.parse(), text.split_once('/')) {
            (Ok(id), _) => KeyRef::Id(id),
            // No account or name holds a control character.
            (_, Some((account, name))) if !text.contains(char::is_control) => {
                KeyRef::Name { account: account.to_owned(), name: name.to_owned() }
            }
            _ => KeyRef::Neither(shown(text)),
        })
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRef::Id(id) => write!(f, "{id}"),
            KeyRef::Name { account, name } => write!(f, "{account}/{name}"),
            KeyRef::Neither(text) => f.write_str(text),
        }
    }
}

impl Serialize for KeyRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> KeyRef {
        let Ok(read) = text.parse();
        read
    }

    /// With a zero in it, a name was looked up among the rows of another, which were then taken for damaged.
    #[test]
    fn a_text_that_no_key_can_have_names_none() {
        assert!(matches!(read("key_000102030405060708090a0b0c0d0e0f"), KeyRef::Id(_)));
        assert_eq!(read("acme/web/form"), KeyRef::Name { account: "acme".into(), name: "web/form".into() });
        for text in ["acme", "", "acme\0web/", "acme/we\nb"] {
            assert!(matches!(read(text), KeyRef::Neither(_)), "{text:?}");
        }
    }
}
