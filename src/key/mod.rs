//! The nouns and their limits: what a key, a token, a function, a grant, a network and a verdict are.
//!
//! Everything here is plain data with its grammar. Nothing here reads a clock, a file or a socket.

mod country;
mod function;
/// What a history entry says.
pub mod history;
mod id;
mod instant;
pub mod limits;
mod network;
mod patch;
mod record;
mod reference;
mod rules;
mod shell;
mod shown;
mod shut;
mod token;
mod verdict;

pub use country::{Country, CountryError, CountryOf};
pub use function::{Function, FunctionId, FunctionName, Grant, GrantError};
pub use id::{IdError, KeyId, KeyIds};
pub use instant::{Instant, InstantError, Span, When};
pub use limits::LimitError;
pub use network::{Network, NetworkError, canonical};
pub use patch::{Patch, Selection};
pub use record::{Key, PepperId, Secret, Settings, SettingsError, State, UnknownCountry, check_text};
pub use reference::KeyRef;
pub use rules::{Called, Rules, Sections, Standing};
pub use shell::{shell_line, shell_parts, shell_word};
pub use shown::{holds_token, shown, without_tokens};
pub use shut::Shut;
pub use token::{Token, TokenError, check_prefix, reads_as_token, weakness};
pub use verdict::Verdict;
