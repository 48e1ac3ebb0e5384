use clap::{Args, ValueEnum};

use super::changes::function_argument;
use super::{key_argument, tag_argument};
use crate::key::{FunctionName, KeyRef, Span};

/// `list`
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  doorward list --account acme
  doorward list --function leads.insert          who may call it
  doorward list --state disabled --all --json")]
pub(crate) struct List {
    /// Of this account
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// With this name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// With this tag
    #[arg(long, value_name = "K=V", value_parser = tag_argument)]
    pub(crate) tag: Option<(String, String)>,
    /// In this state
    #[arg(long, value_enum)]
    pub(crate) state: Option<StateFilter>,
    /// That may call this function
    #[arg(long, value_name = "FUNCTION", value_parser = function_argument)]
    pub(crate) function: Option<FunctionName>,
    /// That expire within this span
    #[arg(long, value_name = "SPAN")]
    pub(crate) expiring_within: Option<Span>,
    /// With a secret that may still be good and is under another pepper than the current one
    #[arg(long)]
    pub(crate) other_pepper: bool,
    /// Tombstones instead of keys
    #[arg(long)]
    pub(crate) deleted: bool,
    /// At most so many [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "all")]
    pub(crate) limit: Option<u32>,
    /// Those behind this one: the 'next' of the page before
    #[arg(long, value_name = "NEXT")]
    pub(crate) after: Option<String>,
    /// All of them, whatever their number
    #[arg(long)]
    pub(crate) all: bool,
}

/// `--state`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum StateFilter {
    /// Good now.
    Active,
    /// Switched off.
    Disabled,
    /// Before its not_before.
    NotYetValid,
    /// Past its expires_at.
    Expired,
    /// Every secret is revoked.
    Revoked,
    /// A tombstone.
    Deleted,
}

impl StateFilter {
    /// As the admin API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            StateFilter::Active => "active",
            StateFilter::Disabled => "disabled",
            StateFilter::NotYetValid => "not_yet_valid",
            StateFilter::Expired => "expired",
            StateFilter::Revoked => "revoked",
            StateFilter::Deleted => "deleted",
        }
    }
}

/// `show`
#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// The key: its id, or account/name
    #[arg(value_parser = key_argument)]
    pub(crate) key: KeyRef,
}

/// `history`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward history                       the latest changes of anything
  doorward history acme/web
  doorward history --function leads.insert")]
pub(crate) struct History {
    /// Of this key: its id, or account/name [default: every change]
    #[arg(value_parser = key_argument)]
    pub(crate) key: Option<KeyRef>,
    /// Of this function of the catalog
    #[arg(long, value_name = "NAME", value_parser = function_argument, conflicts_with = "key")]
    pub(crate) function: Option<FunctionName>,
    /// The latest so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Those before this sequence: the 'next' of the page before
    #[arg(long, value_name = "SEQUENCE")]
    pub(crate) before: Option<u64>,
}

/// `expiring`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit code: 0 when nothing expires in that time, 1 when something does.")]
pub(crate) struct Expiring {
    /// How far ahead to look
    #[arg(long, value_name = "SPAN", default_value = "30d")]
    pub(crate) within: Span,
}
