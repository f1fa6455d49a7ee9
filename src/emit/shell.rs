//! Words for a POSIX shell.

/// Quotes a word for a shell, where it needs it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        for (word, quoted_word) in [
            ("a/b:c@d", "a/b:c@d"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$x", "'$x'"),
            ("docker://[::1]:5000/a", "'docker://[::1]:5000/a'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quoted(word), quoted_word);
        }
    }
}
