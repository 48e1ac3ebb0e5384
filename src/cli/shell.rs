/// A word as a POSIX shell reads it back: bare where nothing in it is special, else in single quotes.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The words of a command as one line for a shell.
pub(crate) fn line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let words = ["", "plain", "leads.*", "it's", "a b", "$HOME", "`x`", "\\", "ü", "*", "-n", "a\"b", "!x", "~", "2001:db8::/32"];
        for word in words {
            let output = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output().unwrap();
            let expected = if word == "-n" { "-n" } else { word };
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{word}");
        }
    }
}
