//! What servers say when they refuse, made safe to show: bounded, on one line, without control characters.

use serde::Deserialize;

use super::super::RegistryMessage;

/// How much of an error body is read, in bytes: room for a few hundred entries of a refused sparse index.
pub(super) const MAX_ERROR_BODY: u64 = 64 * 1024;
/// How much is shown of a body that is not in the registry format, in characters: about two terminal lines.
const MAX_LINE: usize = 200;
/// The longest single message kept from a body in the registry format, in characters; real ones are a sentence.
const MAX_MESSAGE: usize = 1000;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
    // Token servers and gateways have forms of their own.
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Reads the body of a refusal: the registry's JSON, some other JSON, text, or HTML.
pub(super) fn parse(body: &[u8]) -> Vec<RegistryMessage> {
    if let Ok(parsed) = serde_json::from_slice::<Body>(body) {
        let messages: Vec<RegistryMessage> = parsed
            .errors
            .into_iter()
            .map(|entry| RegistryMessage {
                code: clean(&text_of(&entry.code), MAX_MESSAGE),
                message: clean(&entry.message.unwrap_or_default(), MAX_MESSAGE),
                // Kept whole: callers look for digests in it. Compact JSON has its control characters escaped.
                detail: if entry.detail.is_null() { String::new() } else { entry.detail.to_string() },
            })
            .collect();
        if !messages.is_empty() {
            return messages;
        }
        let said = [
            parsed.error_description,
            parsed.message,
            parsed.details.as_ref().map(text_of),
            parsed.error.as_ref().map(text_of),
        ];
        return said
            .into_iter()
            .flatten()
            .find(|text| !text.is_empty())
            .map(|text| plain(&text))
            .into_iter()
            .collect();
    }
    let text = String::from_utf8_lossy(body);
    let line = without_tags(&text);
    line.lines()
        .map(|line| clean(line, MAX_LINE))
        .find(|line| !line.is_empty())
        .map(|line| RegistryMessage { code: String::new(), message: line, detail: String::new() })
        .into_iter()
        .collect()
}

/// Makes a message out of a text of ours or of a server's.
pub(super) fn plain(text: &str) -> RegistryMessage {
    RegistryMessage { code: String::new(), message: clean(text, MAX_LINE), detail: String::new() }
}

/// Makes a text from outside fit for a message: control characters become spaces, runs of space one, the end is cut.
pub(crate) fn clean(text: &str, longest: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split(|c: char| c.is_whitespace() || is_hidden(c)) {
        if word.is_empty() {
            continue;
        }
        if length > 0 {
            out.push(' ');
            length += 1;
        }
        for c in word.chars() {
            if length == longest {
                out.push('…');
                return out;
            }
            out.push(c);
            length += 1;
        }
    }
    out
}

/// Control characters, and those by which a text can be made to read differently than it is (bidirectional overrides,
/// zero-width characters).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn text_of(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Replaces tags by line ends, so that the first text of a page is its first line.
fn without_tags(text: &str) -> String {
    if !text.trim_start().starts_with('<') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                out.push('\n');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_format_keeps_codes_and_details() {
        let said = parse(
            br#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob\u001b[31m unknown","detail":{"digest":"sha256:00"}},
            {"code":"X","message":null}]}"#,
        );
        assert_eq!(said.len(), 2);
        assert_eq!(said[0].to_string(), "MANIFEST_BLOB_UNKNOWN: blob [31m unknown");
        assert_eq!(said[0].detail, r#"{"digest":"sha256:00"}"#);
        assert_eq!(said[1].to_string(), "X");
    }

    #[test]
    fn other_bodies_give_their_first_line() {
        let long = "x".repeat(500);
        for (body, line) in [
            (
                "<html>\n<head><title>413 Request Entity Too Large</title></head>\n",
                "413 Request Entity Too Large",
            ),
            ("\r\n  too many requests\r\nmore", "too many requests"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, "expired"),
            ("\u{1b}]0;title\u{7}hi\u{202e}", "]0;title hi"),
        ] {
            assert_eq!(parse(body.as_bytes())[0].to_string(), line, "{body}");
        }
        assert!(parse(b"").is_empty() && parse(b"{}").is_empty() && parse(b"<html></html>").is_empty());
        assert_eq!(parse(long.as_bytes())[0].message.chars().count(), MAX_LINE + 1);
        assert_eq!(parse(&[0xff, 0xfe, b'a'])[0].message, "\u{fffd}\u{fffd}a");
    }
}
