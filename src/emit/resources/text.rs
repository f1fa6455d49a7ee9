//! YAML and TOML as barge writes them: the same value gives the same bytes, and what could be read as something else than
//! the text it is stands in quotes.

use std::fmt::Write;

use serde_json::Value;

/// Plain words that YAML 1.1 or 1.2 takes for something else than text.
const NO_TEXT: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

/// Returns a value as a YAML document in block style; the keys of objects in their order, which is alphabetical.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

/// Puts text in double quotes, with the escapes that YAML and TOML have in common.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            // Written to a `String`, which can't fail.
            c => _ = write!(quoted, "\\U{:08X}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}

fn block(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                text.push_str(&" ".repeat(indent));
                text.push_str(&scalar(key));
                text.push(':');
                // A list stands below its key without a step in, as the field writes it.
                let step = if value.is_array() { 0 } else { 2 };
                below(value, indent + step, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let start = text.len();
                block(item, indent + 2, text);
                text.replace_range(start..start + indent + 2, &format!("{}- ", " ".repeat(indent)));
            }
        }
        one => {
            text.push_str(&" ".repeat(indent));
            text.push_str(&flat(one));
            text.push('\n');
        }
    }
}

fn below(value: &Value, indent: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        block(value, indent, text);
    } else {
        text.push_str(&format!(" {}\n", flat(value)));
    }
}

/// Returns what needs no lines of its own.
fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Returns text plain where no reader can take it for anything else, else in quotes.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
        && !NO_TEXT.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn blocks_are_written_as_people_write_them() {
        let value = json!({
            "kind": "A", "spec": { "list": [{ "mirrors": ["r.example/a", "1.5"], "source": "x" }, "y"], "none": {} },
            "empty": "", "count": 3,
        });
        let expected = "count: 3\nempty: \"\"\nkind: A\nspec:\n  list:\n  - mirrors:\n    - r.example/a\n    - \"1.5\"\n    \
                        source: x\n  - \"y\"\n  none: {}\n";
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn what_looks_like_something_else_is_quoted() {
        for text in [
            "true",
            "No",
            "NULL",
            "1",
            "1e3",
            "0x1f",
            "~",
            "-",
            "a: b",
            "a#b",
            "r.example:5000",
            "v1:",
            "@a",
            " a",
        ] {
            assert_eq!(scalar(text), format!("\"{text}\""));
        }
        for text in ["a", "reg.test/a-b/c_d", "v1.2", "true-ish"] {
            assert_eq!(scalar(text), text);
        }
        assert_eq!(quoted("a\"b\\c\n\u{1b}é"), "\"a\\\"b\\\\c\\U0000000A\\U0000001B\\U000000E9\"");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_what_it_was(key in any::<String>(), text in any::<String>()) {
            let value = json!({ key: [{ "a": text.clone() }, text] });
            let read: Value = serde_saphyr::from_str(&yaml(&value)).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
