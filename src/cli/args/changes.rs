use std::str::FromStr;

use clap::{ArgGroup, Args, ValueEnum};

use super::{Actor, Guard, key_argument, tag_argument};
use crate::key::{Country, FunctionName, Grant, KeyRef, Network, Span, UnknownCountry, When};

/// A moment, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// No such moment.
    Never,
    /// This one.
    When(When),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        if text == "never" {
            return Ok(Moment::Never);
        }
        text.parse().map(Moment::When).map_err(|error: crate::key::InstantError| format!("{error}, or 'never'"))
    }
}

/// One entry of a list, or the word that empties it: an empty text, or `any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed<T>(pub(crate) Option<T>);

impl<T: FromStr> FromStr for Listed<T>
where
    T::Err: ToString,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Listed<T>, String> {
        if text.is_empty() || text == "any" {
            return Ok(Listed(None));
        }
        text.parse().map(|entry| Listed(Some(entry))).map_err(|error: T::Err| error.to_string())
    }
}

/// A grant, or an empty text, which empties the list. (`any` could be a function's name.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedGrant(pub(crate) Option<Grant>);

impl FromStr for ListedGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<ListedGrant, String> {
        if text.is_empty() {
            return Ok(ListedGrant(None));
        }
        text.parse().map(|grant| ListedGrant(Some(grant))).map_err(|error: crate::key::GrantError| error.to_string())
    }
}

/// A tag, or an empty text, which empties the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedTag(pub(crate) Option<(String, String)>);

impl FromStr for ListedTag {
    type Err = String;

    fn from_str(text: &str) -> Result<ListedTag, String> {
        if text.is_empty() { Ok(ListedTag(None)) } else { tag_argument(text).map(|tag| ListedTag(Some(tag))) }
    }
}

/// `--unknown-country`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unplaced {
    /// Such an address passes.
    Allow,
    /// Such an address is refused.
    Deny,
}

impl From<Unplaced> for UnknownCountry {
    fn from(unplaced: Unplaced) -> UnknownCountry {
        match unplaced {
            Unplaced::Allow => UnknownCountry::Allow,
            Unplaced::Deny => UnknownCountry::Deny,
        }
    }
}

/// `create`
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  doorward create                                     asks its way through
  doorward create --account acme --name web --grant 'leads.*' --expires 365d
  doorward create --account acme --name ci --grant a.b --request-id job-4711

The token is shown this once: only its digest is kept.")]
pub(crate) struct Create {
    /// Its name, unique within the account
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Whose key it is: a customer, a system, a team; never a person
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// A function it may call: a name, a prefix such as 'leads.*', or '*'; may be repeated
    #[arg(long = "grant", value_name = "FUNCTION", value_delimiter = ',', num_args = 1..)]
    pub(crate) grants: Vec<Grant>,
    /// A network it may be used from; may be repeated [default: any]
    #[arg(long = "network", value_name = "CIDR", value_delimiter = ',', num_args = 1..)]
    pub(crate) networks: Vec<Network>,
    /// A country it may be used from; may be repeated [default: any]
    #[arg(long = "country", value_name = "CC", value_delimiter = ',', num_args = 1..)]
    pub(crate) countries: Vec<Country>,
    /// What becomes of an address that the country database does not place [default: deny]
    #[arg(long, value_enum)]
    pub(crate) unknown_country: Option<Unplaced>,
    /// When it expires: RFC 3339, a date, a span from now, or 'never' [default: never]
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<Moment>,
    /// Not good before this moment [default: never, which is good at once]
    #[arg(long, value_name = "WHEN")]
    pub(crate) not_before: Option<Moment>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "K=V", value_parser = tag_argument, num_args = 1..)]
    pub(crate) tags: Vec<(String, String)>,
    /// What it is for
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Makes it switched off
    #[arg(long)]
    pub(crate) disabled: bool,
    /// Your own id for this request: a repeat answers the same, without the token
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `edit`
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  doorward edit acme/web --add-grant leads.export --expires never
  doorward edit acme/web --network any                    any address
  doorward edit acme/web --description 'Lead form' --if-revision 4
  doorward edit --account acme --remove-grant leads.purge   every key of acme

With a KEY, --account and --tag are new values; without one they choose the keys to change.
A list flag without add or remove sets the whole list; an empty text empties it.")]
pub(crate) struct Edit {
    /// The key: its id, or account/name
    #[arg(value_parser = key_argument, required_unless_present_any = ["account", "tags"])]
    pub(crate) key: Option<KeyRef>,
    /// A new name
    #[arg(long, requires = "key")]
    pub(crate) name: Option<String>,
    /// A new account; without a KEY: every key of this account
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// All that it may call; may be repeated
    #[arg(long = "grant", value_name = "FUNCTION", value_delimiter = ',', conflicts_with_all = ["add_grants", "remove_grants"])]
    pub(crate) grants: Vec<ListedGrant>,
    /// A grant to add
    #[arg(long = "add-grant", value_name = "FUNCTION", value_delimiter = ',')]
    pub(crate) add_grants: Vec<Grant>,
    /// A grant to take away
    #[arg(long = "remove-grant", value_name = "FUNCTION", value_delimiter = ',')]
    pub(crate) remove_grants: Vec<Grant>,
    /// All its networks, or 'any'; may be repeated
    #[arg(long = "network", value_name = "CIDR", value_delimiter = ',', conflicts_with_all = ["add_networks", "remove_networks"])]
    pub(crate) networks: Vec<Listed<Network>>,
    /// A network to add
    #[arg(long = "add-network", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) add_networks: Vec<Network>,
    /// A network to take away
    #[arg(long = "remove-network", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) remove_networks: Vec<Network>,
    /// All its countries, or 'any'; may be repeated
    #[arg(long = "country", value_name = "CC", value_delimiter = ',', conflicts_with_all = ["add_countries", "remove_countries"])]
    pub(crate) countries: Vec<Listed<Country>>,
    /// A country to add
    #[arg(long = "add-country", value_name = "CC", value_delimiter = ',')]
    pub(crate) add_countries: Vec<Country>,
    /// A country to take away
    #[arg(long = "remove-country", value_name = "CC", value_delimiter = ',')]
    pub(crate) remove_countries: Vec<Country>,
    /// What becomes of an address that the country database does not place
    #[arg(long, value_enum)]
    pub(crate) unknown_country: Option<Unplaced>,
    /// When it expires: RFC 3339, a date, a span from now, or 'never'
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<Moment>,
    /// Not good before this moment, or 'never' for good at once
    #[arg(long, value_name = "WHEN")]
    pub(crate) not_before: Option<Moment>,
    /// All its tags; may be repeated. Without a KEY: every key with this tag
    #[arg(long = "tag", value_name = "K=V")]
    pub(crate) tags: Vec<ListedTag>,
    /// A tag to add or to give another value
    #[arg(long = "add-tag", value_name = "K=V", value_parser = tag_argument)]
    pub(crate) add_tags: Vec<(String, String)>,
    /// The name of a tag to take away
    #[arg(long = "remove-tag", value_name = "K")]
    pub(crate) remove_tags: Vec<String>,
    /// A new description; an empty text removes it
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Changes many keys without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `enable` and `disable`
#[derive(Debug, Clone, Default, Args)]
#[command(group = ArgGroup::new("which").args(["key", "account", "tag"]).required(true).multiple(true))]
pub(crate) struct Switch {
    /// The key: its id, or account/name
    #[arg(value_parser = key_argument, conflicts_with_all = ["account", "tag"])]
    pub(crate) key: Option<KeyRef>,
    /// Every key of this account
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// Every key with this tag
    #[arg(long, value_name = "K=V", value_parser = tag_argument)]
    pub(crate) tag: Option<(String, String)>,
    /// Changes many keys without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `copy`
#[derive(Debug, Clone, Args)]
pub(crate) struct Copy {
    /// The key to copy: its id, or account/name
    #[arg(value_parser = key_argument)]
    pub(crate) key: KeyRef,
    /// The new key's name
    #[arg(long)]
    pub(crate) name: String,
    /// The new key's account, if it is another
    #[arg(long)]
    pub(crate) account: Option<String>,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `rotate`
#[derive(Debug, Clone, Args)]
#[command(
    group = ArgGroup::new("how").args(["overlap", "extend", "finish", "cancel"]),
    after_help = "Examples:
  doorward rotate acme/web --overlap 7d     the old secret stays good for a week
  doorward usage acme/web                   who still uses the old one
  doorward rotate acme/web --extend 7d      a week more, from now
  doorward rotate acme/web --finish         the old secret retires now

Without a flag the old secret retires at once."
)]
pub(crate) struct Rotate {
    /// The key: its id, or account/name
    #[arg(value_parser = key_argument)]
    pub(crate) key: KeyRef,
    /// Makes a new secret; the old one stays good for this long
    #[arg(long, value_name = "SPAN")]
    pub(crate) overlap: Option<Span>,
    /// Lets the old secret live until this long from now
    #[arg(long, value_name = "SPAN")]
    pub(crate) extend: Option<Span>,
    /// Retires the old secret now
    #[arg(long)]
    pub(crate) finish: bool,
    /// Revokes the new secret and restores the old one
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Your own id for this request: a repeat answers the same, without the token
    #[arg(long, value_name = "ID", conflicts_with_all = ["extend", "finish", "cancel"])]
    pub(crate) request_id: Option<String>,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `revoke`
#[derive(Debug, Clone, Args)]
pub(crate) struct Revoke {
    /// The key: its id, or account/name
    #[arg(value_parser = key_argument)]
    pub(crate) key: KeyRef,
    /// Which secret [default: the newest]
    #[arg(long = "version", value_name = "N")]
    pub(crate) secret: Option<u16>,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `delete` and `undelete`
#[derive(Debug, Clone, Args)]
pub(crate) struct Single {
    /// The key: its id, or account/name
    #[arg(value_parser = key_argument)]
    pub(crate) key: KeyRef,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// Names of functions are checked before they travel.
pub(crate) fn function_argument(text: &str) -> Result<FunctionName, String> {
    text.parse().map_err(|error: crate::key::GrantError| error.to_string())
}
