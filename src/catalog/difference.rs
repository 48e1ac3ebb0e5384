use serde::Serialize;

use crate::key::history::FieldChange;
use crate::key::{Function, Key, Secret, Settings};

/// Fields that a new key usually has.
const FIELDS: usize = 8;

/// What changed between two states of a key, field by field. Of a new key: all that is not what a key has by default.
pub(super) fn of_key(before: Option<&Key>, after: &Key) -> Vec<FieldChange> {
    let mut fields = Fields(Vec::with_capacity(FIELDS));
    of_settings(&mut fields, before.map(|key| &key.settings), &after.settings);
    for (i, secret) in after.secrets.iter().enumerate() {
        of_secret(&mut fields, before.and_then(|key| key.secrets.get(i)), secret);
    }
    let deleted_before = before.map(|key| key.deleted_at);
    fields.compare("deleted_at", deleted_before.as_ref(), &None, &after.deleted_at);
    fields.0
}

/// What changed between two states of a function of the catalog; `None` is one that is not registered.
pub(super) fn of_function(before: Option<&Function>, after: Option<&Function>) -> Vec<FieldChange> {
    let restricted = |function: Option<&Function>| function.map(|function| json(&function.restricted));
    vec![FieldChange { field: "restricted".to_owned(), before: restricted(before), after: restricted(after) }]
}

fn of_settings(fields: &mut Fields, before: Option<&Settings>, after: &Settings) {
    let default = Settings::new("", "");
    macro_rules! compare {
        ($($field:ident),*) => {
            $(fields.compare(stringify!($field), before.map(|settings| &settings.$field), &default.$field, &after.$field);)*
        };
    }
    compare!(name, account, description, tags, enabled, not_before, expires_at, grants, networks, countries, unknown_country);
}

fn of_secret(fields: &mut Fields, before: Option<&Secret>, after: &Secret) {
    if before == Some(after) {
        return;
    }
    let field = |name: &str| format!("secrets.{}.{name}", after.version);
    if before.is_none() {
        fields.0.push(FieldChange { field: field("created_at"), before: None, after: Some(json(&after.created_at)) });
    }
    fields.compare(&field("retires_at"), before.map(|secret| &secret.retires_at), &None, &after.retires_at);
    fields.compare(&field("revoked_at"), before.map(|secret| &secret.revoked_at), &None, &after.revoked_at);
}

struct Fields(Vec<FieldChange>);

impl Fields {
    /// Notes a field that is not as it was, or, where nothing was before, not as it is by default.
    fn compare<T: Serialize + PartialEq>(&mut self, field: &str, before: Option<&T>, default: &T, after: &T) {
        if before.unwrap_or(default) != after {
            self.0.push(FieldChange { field: field.to_owned(), before: before.map(json), after: Some(json(after)) });
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("settings are plain values with text for keys")
}
