//! Every flag and verb, in one definition: the parser, the help, the man pages and the completions come from it.

pub(crate) mod bench;
pub(crate) mod changes;
pub(crate) mod functions;
pub(crate) mod keys;
pub(crate) mod service;
pub(crate) mod tokens;
pub(crate) mod traffic;
pub(crate) mod transfer;
pub(crate) mod upkeep;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::key::KeyRef;

/// Verifies API keys for the web servers on this host: the daemon, and the command to run it.
#[derive(Debug, Parser)]
#[command(name = "doorward", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "Examples:
  doorward create                            asks for all that a key needs
  doorward list --expiring-within 30d        which keys end soon
  doorward rotate acme/web --overlap 7d      a new secret beside the old one
  doorward explain --key acme/web --function leads.insert --ip 203.0.113.9
  doorward status

A KEY is an id (key_...) or account/name. Exit codes: docs/command.md.";

/// Options of every verb.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Everywhere {
    /// Prints one JSON document on stdout and nothing else; errors go to stderr as problem JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// The directory of the daemon's sockets [default: $DOORWARD_RUN_DIR, or /run/doorward]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) run_dir: Option<PathBuf>,
    /// The admin socket, if it is not RUN_DIR/admin.sock
    #[arg(long, global = true, value_name = "SOCKET", help_heading = "Everywhere")]
    pub(crate) admin_socket: Option<PathBuf>,
    /// The verify socket, if it is not RUN_DIR/verify.sock
    #[arg(long, global = true, value_name = "SOCKET", help_heading = "Everywhere")]
    pub(crate) verify_socket: Option<PathBuf>,
}

/// Where the sockets are when nothing says otherwise.
pub(crate) const DEFAULT_RUN_DIR: &str = "/run/doorward";

impl Everywhere {
    fn socket(&self, given: Option<&PathBuf>, name: &str) -> PathBuf {
        let from_environment = || std::env::var_os("DOORWARD_RUN_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let run_dir = || self.run_dir.clone().or_else(from_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_RUN_DIR));
        given.cloned().unwrap_or_else(|| run_dir().join(name))
    }

    /// The admin socket to speak to.
    pub(crate) fn admin(&self) -> PathBuf {
        self.socket(self.admin_socket.as_ref(), "admin.sock")
    }

    /// The verify socket to speak to.
    pub(crate) fn verify(&self) -> PathBuf {
        self.socket(self.verify_socket.as_ref(), "verify.sock")
    }
}

/// The verbs, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs the daemon in the foreground
    Serve(service::Serve),
    /// Whether all is well, on one screen
    #[command(after_help = "Exit code: 0 when all is well, 1 when something is wrong.")]
    Status,
    /// Makes a key; on a terminal it asks for what is missing
    Create(changes::Create),
    /// Lists keys
    List(keys::List),
    /// Shows one key
    Show(keys::One),
    /// Changes settings of a key, or of many at once
    Edit(Box<changes::Edit>),
    /// Switches a key on, or many at once
    Enable(changes::Switch),
    /// Switches a key off, or many at once
    Disable(changes::Switch),
    /// Makes a key with the settings of another and a secret of its own
    Copy(changes::Copy),
    /// Makes a new secret for a key, or changes the overlap of the latest rotation
    Rotate(changes::Rotate),
    /// Revokes one secret of a key for good
    Revoke(changes::Revoke),
    /// Deletes a key; its history and usage stay
    Delete(changes::Single),
    /// Brings a deleted key back
    Undelete(changes::Single),
    /// Who changed what, and when
    History(keys::History),
    /// How often keys are used, by function, verdict, hour and country
    Usage(traffic::Usage),
    /// Keys that expire soon
    Expiring(keys::Expiring),
    /// What was unusual lately: rates, denials, places, secrets, guesses
    Unusual(traffic::Unusual),
    /// What could be tightened: rights that were never used, keys that want a look
    Advise(traffic::Advise),
    /// The latest denials, with their reasons
    Denials(traffic::Denials),
    /// The catalog of functions
    #[command(subcommand)]
    Functions(functions::Functions),
    /// Where the country database places an address
    Country(traffic::Country),
    /// Whose token this is; reads it from a file or standard input
    Identify(tokens::Identify),
    /// Every check that a request passes or fails
    Explain(tokens::Explain),
    /// Asks for a verdict through the verify socket
    Verify(tokens::Verify),
    /// Makes keys from a file, one JSON document a line
    Import(transfer::Import),
    /// Writes every key, one JSON document a line
    Export(transfer::Export),
    /// Takes a backup while the daemon runs, or lists those that there are
    Backup(upkeep::Backup),
    /// Makes a store of a backup
    Restore(upkeep::Restore),
    /// Looks at everything that is stored: checksums, records, the history's chain, the index
    Check(upkeep::Check),
    /// Measures what verifying costs on this machine, beside the simplest server on the same socket
    Bench(bench::Bench),
    /// Checks a configuration file without starting anything
    CheckConfig(service::CheckConfig),
    /// Prints a completion script for a shell
    Completions(service::Completions),
    /// Serves as the baseline of 'bench'
    #[command(hide = true)]
    BenchEcho(bench::BenchEcho),
    /// Writes the man pages into a directory
    #[command(hide = true)]
    Man(service::Man),
}

/// Who a change is made for.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Actor {
    /// Whom the change is made for; the history keeps it beside the user that the kernel names
    #[arg(long = "as", value_name = "WHO")]
    pub(crate) on_behalf_of: Option<String>,
}

/// Guards a change of one key against another admin's.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Guard {
    /// Changes nothing unless the key still has this revision ('show' tells it)
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
}

/// Reads a KEY argument, so that what can be no key is a usage error.
pub(crate) fn key_argument(text: &str) -> Result<KeyRef, String> {
    match text.parse::<KeyRef>() {
        Ok(KeyRef::Neither(_)) => Err("expected a key's id (key_ and 32 hexadecimal digits) or account/name".to_owned()),
        Ok(key) => Ok(key),
        Err(never) => match never {},
    }
}

/// Reads a tag written `name=value`.
pub(crate) fn tag_argument(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as team=billing".to_owned()),
    }
}
