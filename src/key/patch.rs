use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Country, Grant, Instant, Network, UnknownCountry};

/// A choice of keys by account and tag; at least one of the two is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Of this account.
    pub account: Option<String>,
    /// With this tag, written `name=value`.
    pub tag: Option<String>,
}

/// New values for some settings. A field that is absent stays as it is; `null` clears an instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Patch {
    /// A new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// A new description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Switched on or off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A new instant, or none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub not_before: Option<Option<Instant>>,
    /// A new instant, or none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub expires_at: Option<Option<Instant>>,
    /// All the grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// Grants to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_grants: Vec<Grant>,
    /// Grants to take away; one that is not there is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_grants: Vec<Grant>,
    /// All the networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
    /// Networks to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_networks: Vec<Network>,
    /// Networks to take away; one that is not there is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_networks: Vec<Network>,
    /// All the countries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub countries: Option<Vec<Country>>,
    /// Countries to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_countries: Vec<Country>,
    /// Countries to take away; one that is not there is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_countries: Vec<Country>,
    /// What becomes of an address that the country database does not place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_country: Option<UnknownCountry>,
    /// All the tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Tags to add or to give another value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add_tags: BTreeMap<String, String>,
    /// Names of tags to take away; one that is not there is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
}

/// A field that is there and `null` is `Some(None)`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Instant>>, D::Error> {
    Option::<Instant>::deserialize(deserializer).map(Some)
}
