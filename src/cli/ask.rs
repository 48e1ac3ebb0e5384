use std::io::{self, IsTerminal, Read};
use std::path::Path;

use console::Term;
use zeroize::{Zeroize, Zeroizing};

use super::args::tokens::TokenSource;
use super::exit::{Exit, Failure};
use crate::key::limits::TOKEN_BYTES;

/// Whether a person can be asked: both the questions and the answers are on a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a yes, unless `yes` was said on the command line. Without a terminal, that is a usage error.
pub(crate) fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !can_ask() {
        return Err(Failure::usage(format!("'{question}' needs a confirmation, and there is no terminal to ask on: say --yes")));
    }
    match cliclack::confirm(question).initial_value(false).interact() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::declined()),
        Err(error) => Err(interrupted(&error)),
    }
}

/// A prompt that was left with Esc or Ctrl-C declines; anything else is a broken terminal.
pub(crate) fn interrupted(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::Interrupted { Failure::declined() } else { Failure::stream("the terminal failed", error) }
}

/// Reads a token from where the source says, and takes one newline off its end.
pub(crate) fn token(source: &TokenSource) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut token = match source.token_file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = std::fs::File::open(path).map_err(|error| Failure::file("read the token from", path, &error))?;
            bounded(file).map_err(|error| Failure::file("read the token from", path, &error))?
        }
        None if can_ask() => prompt()?,
        _ => bounded(io::stdin().lock()).map_err(|error| Failure::stream("cannot read the token from standard input", &error))?,
    };
    if token.last() == Some(&b'\n') {
        token.pop();
        if token.last() == Some(&b'\r') {
            token.pop();
        }
    }
    match token.len() {
        0 => Err(Failure::new(Exit::Data, "token", "no token", "there is no token in what was read: it is empty")),
        1..=TOKEN_BYTES => Ok(token),
        _ => Err(Failure::new(Exit::Data, "token", "no token", format!("what was read is longer than any token ({TOKEN_BYTES} bytes)"))),
    }
}

/// The token as text, for the admin API, which speaks JSON.
pub(crate) fn token_text(source: &TokenSource) -> Result<Zeroizing<String>, Failure> {
    let bytes = token(source)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::new(Exit::Data, "token", "no token", "the token is not UTF-8 text; only 'verify' can ask about such a token")
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads no more than tells that it is too long. The buffer never grows, so that no copy is left behind.
fn bounded(reader: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let longest = TOKEN_BYTES + 3;
    let mut token = Zeroizing::new(Vec::with_capacity(longest * 2));
    reader.take(longest as u64).read_to_end(&mut token)?;
    Ok(token)
}

fn prompt() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let terminal = Term::stderr();
    let failed = |error: io::Error| interrupted(&error);
    terminal.write_str("Token (not shown): ").map_err(failed)?;
    let mut line = terminal.read_secure_line().map_err(failed)?;
    let token = Zeroizing::new(line.as_bytes().to_vec());
    line.zeroize();
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, contents).unwrap();
        token(&TokenSource { token_file: Some(file) })
    }

    #[test]
    fn one_newline_is_taken_off() {
        for contents in ["dw_x", "dw_x\n", "dw_x\r\n"] {
            assert_eq!(read(contents.as_bytes()).unwrap().as_slice(), b"dw_x");
        }
        assert_eq!(read(b"dw_x\n\n").unwrap().as_slice(), b"dw_x\n");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!(read(b"\n").unwrap_err().exit, Exit::Data);
        assert!(read(&[b'a'; TOKEN_BYTES]).is_ok());
        assert_eq!(read(&[b'a'; TOKEN_BYTES + 1]).unwrap_err().exit, Exit::Data);
        let missing = TokenSource { token_file: Some("/nonexistent/token".into()) };
        assert_eq!(token(&missing).unwrap_err().exit, Exit::NoInput);
    }

    #[test]
    fn without_a_terminal_a_confirmation_is_a_usage_error() {
        assert!(confirm(true, "change 3 keys?").is_ok());
        if !can_ask() {
            let failure = confirm(false, "change 3 keys?").unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.detail.contains("--yes"));
        }
    }
}
