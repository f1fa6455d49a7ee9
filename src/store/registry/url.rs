//! URLs as registries hand them out: parsed strictly, resolved against the request that they answer, and compared by
//! origin, because credentials must never leave the one they belong to.

use std::fmt;

/// An origin: what credentials, connections and limits belong to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Origin {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// Host in lower case (an IPv6 address in brackets), with its port where one was written.
    pub authority: String,
}

impl Origin {
    /// Makes an origin; the authority is not checked.
    pub fn new(tls: bool, authority: &str) -> Self {
        Self { tls, authority: authority.to_ascii_lowercase() }
    }

    /// Returns the host without its port.
    pub fn host(&self) -> &str {
        split_port(&self.authority).0
    }

    /// Returns the port, the scheme's default where none was written (RFC 9110, section 4.2).
    pub fn port(&self) -> u16 {
        split_port(&self.authority).1.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// Returns whether scheme, host and port are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.tls == other.tls && self.host() == other.host() && self.port() == other.port()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// Splits `host:port`, leaving the brackets of an IPv6 address on.
pub(super) fn split_port(authority: &str) -> (&str, Option<u16>) {
    let after = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after..].find(':') {
        Some(colon) => (&authority[..after + colon], authority[after + colon + 1..].parse().ok()),
        None => (authority, None),
    }
}

/// An absolute `http` or `https` URL without user information and fragment.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path, with a leading slash, and the query where there is one.
    target: String,
}

impl Url {
    /// Makes a URL out of an origin and a path with its query.
    pub fn new(origin: Origin, target: &str) -> Self {
        Self { origin, target: encode(target) }
    }

    /// Parses an absolute URL; the text in the error says what is wrong and never repeats the URL, which may be
    /// presigned.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("the URL has no scheme")?;
        let tls = if scheme.eq_ignore_ascii_case("https") {
            true
        } else if scheme.eq_ignore_ascii_case("http") {
            false
        } else {
            return Err("the URL is neither http nor https");
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("the URL carries user information");
        }
        if !crate::oci::reference::is_host(authority) {
            return Err("the URL has no valid host");
        }
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self::new(Origin::new(tls, authority), &target))
    }

    /// Resolves a `Location` or `Link` target against the URL of the request that it answers (RFC 3986, section 5).
    ///
    /// A proxy that ends TLS makes registries hand out the right host with the wrong scheme: the same host and port
    /// as written are taken to be this origin.
    pub fn join(&self, text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the URL is empty");
        }
        let has_scheme = text.find(':').is_some_and(|colon| !text[..colon].contains(['/', '?', '#']));
        let mut url = if has_scheme {
            Self::parse(text)?
        } else if let Some(rest) = text.strip_prefix("//") {
            let scheme = if self.origin.tls { "https" } else { "http" };
            Self::parse(&format!("{scheme}://{rest}"))?
        } else {
            let text = text.split('#').next().unwrap_or_default();
            let path = self.path();
            let target = if text.starts_with('/') {
                text.to_owned()
            } else if text.starts_with('?') {
                format!("{path}{text}")
            } else {
                let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
                format!("{folder}{text}")
            };
            Self::new(self.origin.clone(), &without_dots(&target))
        };
        if url.origin.tls != self.origin.tls && url.origin.authority == self.origin.authority {
            url.origin = self.origin.clone();
        }
        Ok(url)
    }

    /// Returns the path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Adds `name=value` to the query; both must need no encoding beyond what [`encode_query`] did.
    pub fn with_query(&self, name: &str, value: &str) -> Self {
        let sign = if self.target.contains('?') { '&' } else { '?' };
        Self { origin: self.origin.clone(), target: format!("{}{sign}{name}={value}", self.target) }
    }

    /// Returns the text that goes on the wire.
    pub fn as_text(&self) -> String {
        format!("{}{}", self.origin, self.target)
    }
}

/// Shows the URL for messages: without its query, which may hold a signature.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Encodes what may not stand in a request line; everything else stays, escapes included.
fn encode(target: &str) -> String {
    let mut out = String::with_capacity(target.len());
    for byte in target.bytes() {
        if byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        {
            out.push(char::from(byte));
        } else {
            push_escape(&mut out, byte);
        }
    }
    out
}

/// Encodes a query value, leaving the `:`, `/` and `,` of scopes and digests readable (RFC 3986, section 3.4).
pub(super) fn encode_query(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escape(&mut out, byte);
        }
    }
    out
}

fn push_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Resolves `.` and `..` in the path of a relative reference (RFC 3986, section 5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut parts: Vec<&str> = Vec::new();
    let mut pieces = path.split('/').skip(1).peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        match piece {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => {
                parts.push(piece);
                continue;
            }
        }
        if last {
            parts.push("");
        }
    }
    let mut out = format!("/{}", parts.join("/"));
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

/// Returns the target of the `rel="next"` link of a `Link` header's value (RFC 8288, section 3).
pub(super) fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let start = rest.find('<')?;
        let end = start + rest[start..].find('>')?;
        let target = &rest[start + 1..end];
        // The parameters end at the next comma outside of quotes.
        let mut quoted = false;
        let tail = &rest[end + 1..];
        let stop = tail
            .char_indices()
            .find(|(_, c)| {
                quoted ^= *c == '"';
                *c == ',' && !quoted
            })
            .map_or(tail.len(), |(at, _)| at);
        let is_next = tail[..stop].split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_ascii_whitespace()
                        .any(|word| word.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target);
        }
        rest = tail.get(stop + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, text: &str) -> String {
        Url::parse(base).unwrap().join(text).unwrap().as_text()
    }

    #[test]
    fn locations_of_every_form_resolve() {
        let base = "https://r.example/v2/app/blobs/uploads/";
        for (text, expected) in [
            ("/v2/app/blobs/uploads/1?s=a%2Fb", "https://r.example/v2/app/blobs/uploads/1?s=a%2Fb"),
            ("1?s=x", "https://r.example/v2/app/blobs/uploads/1?s=x"),
            ("../1", "https://r.example/v2/app/blobs/1"),
            ("?s=x", "https://r.example/v2/app/blobs/uploads/?s=x"),
            ("//other.example/x", "https://other.example/x"),
            ("https://other.example:8443/x", "https://other.example:8443/x"),
            ("https://OTHER.example", "https://other.example/"),
            ("http://r.example/up", "https://r.example/up"),
            ("http://r.example:8080/up", "http://r.example:8080/up"),
            ("/a b#frag", "https://r.example/a%20b"),
            ("1?next=http://x/", "https://r.example/v2/app/blobs/uploads/1?next=http://x/"),
        ] {
            assert_eq!(joined(base, text), expected, "{text}");
        }
        let base = Url::parse(base).unwrap();
        for bad in ["", "ftp://x/", "https://u:p@x/", "https:///x", "https://a b/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_compare_with_default_ports() {
        let origin = |text: &str| Url::parse(text).unwrap().origin;
        assert!(origin("https://r.example/").is(&origin("https://R.example:443/x")));
        assert!(!origin("https://r.example/").is(&origin("http://r.example/")));
        assert!(!origin("https://r.example/").is(&origin("https://r.example:8443/")));
        assert!(!origin("http://[::1]:5000/").is(&origin("http://[::1]:5001/")));
    }

    #[test]
    fn messages_never_show_a_query() {
        let url = Url::parse("https://s3.example/blob?X-Signature=secret").unwrap();
        assert_eq!(url.to_string(), "https://s3.example/blob");
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn the_next_link_is_found_among_others() {
        for (value, next) in [
            ("</v2/x/tags/list?last=b&n=2>; rel=\"next\"", Some("/v2/x/tags/list?last=b&n=2")),
            ("</a>; rel=next", Some("/a")),
            ("</a>; rel=\"prev\", </b?x=1,2>; title=\"a,b\"; rel=\"first next\"", Some("/b?x=1,2")),
            ("</a>; rel=\"prev\"", None),
            ("nonsense", None),
            ("</a", None),
        ] {
            assert_eq!(next_link(value), next, "{value}");
        }
    }
}
