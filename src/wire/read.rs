use serde::de::DeserializeOwned;

/// A document that cannot be read: whose fault, in words, and never what stood in a field that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadDocument {
    /// It is no JSON object.
    Malformed(String),
    /// A field of it is wrong, or missing, or one that does not exist.
    Invalid {
        /// Its name, where it has one that may be told.
        field: Option<String>,
        /// What is wrong with it.
        detail: String,
    },
}

/// Reads a JSON document. The failure names the field, and never tells what stood in a field that holds a secret.
///
/// # Errors
/// It is no JSON object, or not one of this kind.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadDocument> {
    if bytes.trim_ascii().is_empty() {
        return Err(BadDocument::Malformed("the body is empty; expected a JSON object".to_owned()));
    }
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(BadDocument::Malformed("the body is not a JSON object".to_owned()));
    }
    let mut document = serde_json::Deserializer::from_slice(bytes);
    // The error is `path: message`, or only the message where the path is empty.
    let read: Result<T, _> = serde_path_to_error::deserialize(&mut document);
    let read = match read {
        Ok(read) => document.end().map(|()| read).map_err(|error| (error.classify(), error.to_string())),
        Err(error) => Err((error.inner().classify(), error.to_string())),
    };
    read.map_err(|(category, cause)| match category {
        serde_json::error::Category::Data => BadDocument::of(&cause),
        _ => BadDocument::Malformed(format!("the body is not JSON: {cause}")),
    })
}

impl BadDocument {
    /// Of a message of serde, which is `path: message at line L column C`.
    pub fn of(cause: &str) -> BadDocument {
        let message = cause.rfind(" at line ").map_or(cause, |at| &cause[..at]);
        // Looked for before the path is: that ends with the field's name, which may be anything.
        if let Some(rest) = message.strip_prefix(UNKNOWN).or_else(|| Some(message.split_once(&format!(": {UNKNOWN}"))?.1)) {
            return BadDocument::unknown_field(rest);
        }
        let is_path = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.[]-?".contains(&b));
        let (path, message) = match message.split_once(": ") {
            Some((path, rest)) if is_path(path) => (path, rest),
            _ => ("", message),
        };
        if let Some(name) = message.strip_prefix("missing field `").or_else(|| message.strip_prefix("duplicate field `")) {
            let name = name.trim_end_matches('`');
            let what = if message.starts_with("missing") { "is missing" } else { "is there twice" };
            return BadDocument::invalid(name, format!("{name}: {what}"));
        }
        let field = path.split('[').next().unwrap_or_default();
        if SECRET_FIELDS.contains(&field.split('.').next().unwrap_or_default()) {
            let why = "not of the documented form (what was given is not repeated here: it may be secret)";
            return BadDocument::invalid(field, format!("{field}: {why}"));
        }
        // The message of a field that knows its own name already begins with it.
        let detail =
            if path.is_empty() || message.starts_with(&format!("{field}: ")) { message.to_owned() } else { format!("{path}: {message}") };
        BadDocument::invalid(field, detail)
    }

    /// `rest` is the name, a backtick, and what was expected. A name of another form than ours is not repeated: it may be a secret, misplaced.
    fn unknown_field(rest: &str) -> BadDocument {
        // What was expected has no such words in it, the name may.
        let (name, expected) = rest.rfind("`, expected ").map_or((rest.trim_end_matches('`'), ""), |at| (&rest[..at], &rest[at..]));
        let expected = expected.trim_start_matches("`, ").replace('`', "");
        if name.len() <= 32 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return BadDocument::invalid(name, format!("{name}: no such field; {expected}"));
        }
        BadDocument::invalid("", format!("a field that does not exist; {expected}"))
    }

    fn invalid(field: &str, detail: String) -> BadDocument {
        BadDocument::Invalid { field: (!field.is_empty()).then(|| field.to_owned()), detail }
    }
}

/// Fields whose values are never repeated.
const SECRET_FIELDS: [&str; 3] = ["token", "token_sha256", "secrets"];

/// How serde says that there is no such field; its name follows.
const UNKNOWN: &str = "unknown field `";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{IdentifyBody, KeyLine};

    fn refused<T: DeserializeOwned>(body: &str) -> String {
        match parse::<T>(body.as_bytes()).err().unwrap() {
            BadDocument::Malformed(detail) => detail,
            BadDocument::Invalid { field, detail } => format!("{field:?} {detail}"),
        }
    }

    /// A secret that came in the place of a name was told, where it was not made of letters, digits and a few signs. Found by the fuzz target `admin_body`.
    #[test]
    fn a_name_that_is_none_of_ours_is_not_repeated() {
        for secret in ["c2VjcmV0+/==", "~314159", "Geheim", "a: unknown field `b", "x`, expected y", "a b", "unknown field `a"] {
            let name = serde_json::to_string(secret).unwrap();
            let top = refused::<IdentifyBody>(&format!("{{{name}: 1}}"));
            assert_eq!(top, "None a field that does not exist; expected `token`".replace('`', ""), "{secret}");
            let nested = refused::<KeyLine>(&format!(r#"{{"secrets": [{{{name}: 1}}]}}"#));
            assert!(nested.starts_with("None a field that does not exist; expected one of version, "), "{nested}");
        }
        assert_eq!(refused::<IdentifyBody>(r#"{"tokn": 1}"#), r#"Some("tokn") tokn: no such field; expected token"#);
    }
}
