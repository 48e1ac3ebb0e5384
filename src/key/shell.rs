/// A word as a POSIX shell reads it back: bare where nothing in it is special, else in single quotes.
pub fn shell_word(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The words of a command as one line for a shell.
pub fn shell_line(words: &[String]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// Such a line in parts that a shell reads as the same one when all but the last end in a backslash: broken between words, so that each
/// fits `width` if no single word is longer.
pub fn shell_parts(line: &str, width: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in shell_split(line).into_iter().flat_map(|word| list_parts(word, width)) {
        let part = parts.last_mut().expect("there is a part");
        // Room for a space before the word, and for a space and the backslash behind it.
        if !part.is_empty() && part.chars().count() + word.chars().count() + 3 > width {
            parts.push(word);
        } else {
            part.push_str(if part.is_empty() { "" } else { " " });
            part.push_str(&word);
        }
    }
    parts
}

/// A flag with a list that is too long for a line, as the same flag several times.
fn list_parts(word: &str, width: usize) -> Vec<String> {
    let fits = |word: &str| word.chars().count() + 3 <= width;
    let bare = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')).unwrap_or(word);
    let Some((flag, list)) = bare.split_once('=').filter(|_| !fits(word) && bare.starts_with("--") && !bare.contains('\'')) else {
        return vec![word.to_owned()];
    };
    let mut parts: Vec<String> = Vec::new();
    for entry in list.split(',') {
        match parts.last_mut() {
            Some(part) if fits(&shell_word(&format!("{part},{entry}"))) => part.push_str(&format!(",{entry}")),
            _ => parts.push(format!("{flag}={entry}")),
        }
    }
    parts.iter().map(|part| shell_word(part)).collect()
}

/// The words of a line made by `shell_line`, as they stand there.
fn shell_split(line: &str) -> Vec<&str> {
    let (mut words, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\'' => quoted = !quoted,
            '\\' if !quoted => escaped = true,
            ' ' if !quoted => {
                words.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&line[start..]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let words = ["", "plain", "leads.*", "it's", "a b", "$HOME", "`x`", "\\", "ü", "*", "-n", "a\"b", "!x", "~", "2001:db8::/32"];
        for word in words {
            let output = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", shell_word(word))).output().unwrap();
            let expected = if word == "-n" { "-n" } else { word };
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn a_long_list_becomes_several_flags() {
        let line = "doorward edit a/b --add-grant=leads.insert,leads.list,a.b,orders.read";
        let parts = ["doorward edit a/b", "--add-grant=leads.insert", "--add-grant=leads.list,a.b", "--add-grant=orders.read"];
        assert_eq!(shell_parts(line, 30), parts);
        assert_eq!(shell_parts(line, 80), [line]);
        let line = "doorward edit a/b '--remove-grant=leads.insert,leads.list,blog.*'";
        assert_eq!(shell_parts(line, 42), ["doorward edit a/b", "--remove-grant=leads.insert,leads.list", "'--remove-grant=blog.*'"]);
        let line = "doorward edit a/b '--remove-tag=it'\\''s,fine'";
        assert_eq!(shell_parts(line, 20), ["doorward edit a/b", "'--remove-tag=it'\\''s,fine'"], "such a list stays whole");
    }

    #[test]
    fn a_broken_line_is_the_same_to_a_shell() {
        let words = ["printf", "%s|", "it's long", "a b  c", "\\", "'", "leads.*,orders.read", "ü"].map(str::to_owned);
        let whole = shell_line(&words);
        let run = |script: &str| std::process::Command::new("sh").arg("-c").arg(script).output().unwrap().stdout;
        for width in [1, 12, 20, 40, 200] {
            let parts = shell_parts(&whole, width);
            assert_eq!(run(&parts.join(" \\\n")), run(&whole), "{width}: {parts:?}");
            assert!(width < 30 || parts.iter().all(|part| part.chars().count() + 2 <= width), "{width}: {parts:?}");
        }
    }
}
