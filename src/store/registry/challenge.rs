//! Parsing of `WWW-Authenticate` (RFC 9110, section 11.6.1): a registry's way to say who may answer for it.

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Scheme in lower case, e.g. `bearer`.
    pub scheme: String,
    /// Parameters in their order, names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns a parameter that is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// Parses one header value, which may hold several challenges; what can't be read is left out.
pub(super) fn parse(value: &str) -> Vec<Challenge> {
    let mut scan = Scan { rest: value };
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        scan.skip(|c| c == ',' || c.is_ascii_whitespace());
        let word = scan.token();
        if word.is_empty() {
            // Not a token: step over it, so that a broken part does not hide the rest.
            if scan.advance().is_none() {
                return challenges;
            }
            continue;
        }
        scan.skip(|c| c.is_ascii_whitespace());
        if let Some(after) = scan.rest.strip_prefix('=')
            && let Some(challenge) = challenges.last_mut()
        {
            scan.rest = after.trim_start();
            let value = scan.value();
            challenge.parameters.push((word.to_ascii_lowercase(), value));
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }
}

struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(what);
    }

    fn advance(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    /// A token (RFC 9110, section 5.6.2), possibly empty.
    fn token(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c))
            .unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    /// A quoted string, or everything up to the next comma or space: some registries leave the quotes out.
    fn value(&mut self) -> String {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end =
                self.rest.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            return value.to_owned();
        };
        self.rest = quoted;
        let mut value = String::new();
        while let Some(c) = self.advance() {
            match c {
                '"' => break,
                '\\' => value.extend(self.advance()),
                c => value.push(c),
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_challenge_keeps_commas_in_quotes() {
        let all = parse(
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].scheme, "bearer");
        assert_eq!(all[0].get("realm"), Some("https://auth.example/token"));
        assert_eq!(all[0].get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(all[0].get("error"), None);
    }

    #[test]
    fn several_challenges_unquoted_values_and_escapes_are_read() {
        let all = parse(r#"Negotiate, BASIC Realm = "a \"b\", c" , bearer realm=https://x/t, service=s"#);
        let schemes: Vec<&str> = all.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(all[1].get("realm"), Some(r#"a "b", c"#));
        assert_eq!(all[2].get("realm"), Some("https://x/t"));
        assert_eq!(all[2].get("service"), Some("s"));
    }

    #[test]
    fn nonsense_ends() {
        for text in ["", ",,,", "=", "\"", "Bearer realm=\"open", "Bearer \u{1f600} realm=x", "= , = \""] {
            let _ = parse(text);
        }
        assert_eq!(parse("Bearer realm=\"open")[0].get("realm"), Some("open"));
    }
}
