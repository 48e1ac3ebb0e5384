use std::path::PathBuf;

use clap::Args;

use super::Actor;

/// `import`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  doorward import keys.jsonl
  doorward import keys.jsonl --generate --tokens-out new-tokens.jsonl

A line has the field names of 'show --json' and a token or token_sha256. Lines are taken in batches: a refused
line changes nothing of its batch, and the batches before it stay, with their new tokens in the file.")]
pub(crate) struct Import {
    /// The file; '-' is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// The only format there is; said aloud for scripts
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// Makes a token for each line that has none
    #[arg(long)]
    pub(crate) generate: bool,
    /// With --generate: the file for the new tokens; it is made with mode 0600 and must not exist [default: doorward-tokens-TIME.jsonl]
    #[arg(long, value_name = "FILE", requires = "generate")]
    pub(crate) tokens_out: Option<PathBuf>,
    /// Accepts tokens that look guessable
    #[arg(long)]
    pub(crate) allow_weak: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// `export`
#[derive(Debug, Clone, Args)]
pub(crate) struct Export {
    /// The only format there is; said aloud for scripts
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// Also ids, the digests of all secrets, and deleted keys, for a store with the same pepper; what is revoked or retired may be of an earlier one
    #[arg(long)]
    pub(crate) digests: bool,
    /// Of the store in this directory, which no daemon uses. Its pepper is not needed
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}
