use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Actor;
use super::changes::function_argument;
use crate::key::FunctionName;

/// `functions …`
#[derive(Debug, Subcommand)]
pub(crate) enum Functions {
    /// Lists the catalog
    List(List),
    /// Registers a function
    Add(Add),
    /// Makes a function restricted: only a key that names it exactly may call it
    Restrict(Named),
    /// Lifts the restriction: wildcards cover the function again
    Unrestrict(Named),
    /// Removes a function that is neither restricted nor granted by name
    Remove(Remove),
}

/// `functions list`
#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Of the store in this directory, which no daemon uses. Its pepper is not needed
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// `functions add`
#[derive(Debug, Clone, Args)]
pub(crate) struct Add {
    /// Its name: 1 to 128 of A-Z a-z 0-9 . _ : / -
    #[arg(value_parser = function_argument)]
    pub(crate) name: FunctionName,
    /// Never covered by a wildcard
    #[arg(long)]
    pub(crate) restricted: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `functions restrict` and `unrestrict`
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// Its name
    #[arg(value_parser = function_argument)]
    pub(crate) name: FunctionName,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `functions remove`
#[derive(Debug, Clone, Args)]
pub(crate) struct Remove {
    /// Its name
    #[arg(value_parser = function_argument)]
    pub(crate) name: FunctionName,
    /// Also takes the grants by its name from every key that has one
    #[arg(long)]
    pub(crate) with_grants: bool,
    /// Takes the grants without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
}
