//! Image paths: the part of kubectl's JSONPath that names places in a document.

use serde_json::Value;

use super::ChartError;

/// A step from a value to those in it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The value of a key.
    Key(String),
    /// The value at a place of a list.
    At(usize),
    /// All values of a list or object.
    All,
    /// The values of a key at any depth.
    Anywhere(String),
}

/// An image path: `{.a.b}`, `{.a[*].b}`, `{.a[0]}`, `{.a['k']}`, `{..k}`.
#[derive(Debug)]
pub(super) struct ImagePath {
    text: String,
    steps: Vec<Step>,
}

impl ImagePath {
    /// Parses a path.
    pub(super) fn parse(text: &str) -> Result<Self, ChartError> {
        let steps = steps(text).map_err(|why| ChartError::ImagePath { text: text.to_owned(), why })?;
        Ok(Self { text: text.to_owned(), steps })
    }

    /// Returns the path as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Finds what the path names in a document.
    pub(super) fn find<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        let mut values = vec![document];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in values {
                match step {
                    Step::Key(key) => next.extend(value.get(key)),
                    Step::At(place) => next.extend(value.get(place)),
                    Step::All => next.extend(children(value)),
                    Step::Anywhere(key) => anywhere(value, key, &mut next),
                }
            }
            values = next;
        }
        values
    }
}

/// Returns the values in a value.
pub(super) fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(object) => Box::new(object.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn anywhere<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    found.extend(value.get(key));
    for child in children(value) {
        anywhere(child, key, found);
    }
}

fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inner = inner.ok_or("it has no braces around it")?.trim();
    let mut rest = inner.strip_prefix('$').unwrap_or(inner);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            let (key, after) = key(after)?;
            steps.push(Step::Anywhere(key));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(".*") {
            steps.push(Step::All);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let (key, after) = key(after)?;
            steps.push(Step::Key(key));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (step, after) = bracket(after)?;
            steps.push(step);
            rest = after;
        } else {
            return Err("a step begins with `.` or `[`");
        }
    }
    if steps.is_empty() { Err("it names nothing") } else { Ok(steps) }
}

/// Reads a key up to the next step; `\.` is a dot in it.
fn key(text: &str) -> Result<(String, &str), &'static str> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => key.push(chars.next().ok_or("it ends after a `\\`")?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            '{' | '}' | '*' | '(' | ')' | '?' | '@' | ',' | ' ' | ']' | '"' | '\'' => {
                return Err("a key has only letters, digits, `-`, `_` and `/`");
            }
            c => key.push(c),
        }
    }
    if key.is_empty() { Err("a key is empty") } else { Ok((key, &text[end..])) }
}

/// Reads what stands in brackets.
fn bracket(text: &str) -> Result<(Step, &str), &'static str> {
    const FORMS: &str = "in brackets only `*`, a number and a key in quotes are understood";
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let (key, after) = text[1..].split_once(quote).ok_or("a quote is not closed")?;
        let after = after.strip_prefix(']').ok_or(FORMS)?;
        return Ok((Step::Key(key.to_owned()), after));
    }
    let (inside, after) = text.split_once(']').ok_or("a bracket is not closed")?;
    match inside.trim() {
        "*" => Ok((Step::All, after)),
        number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((Step::At(number.parse().map_err(|_| FORMS)?), after))
        }
        _ => Err(FORMS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_name_places() {
        let document = json!({
            "spec": { "image": "a", "list": [{ "image": "b" }, { "image": "c", "x.y/z": "d" }], "map": { "k": "e" } },
        });
        for (path, found) in [
            ("{.spec.image}", json!(["a"])),
            ("{$.spec.image}", json!(["a"])),
            ("{ .spec.list[*].image }", json!(["b", "c"])),
            ("{.spec.list[1].image}", json!(["c"])),
            ("{.spec.list[7].image}", json!([])),
            ("{.spec['image']}", json!(["a"])),
            ("{.spec.list[*][\"x.y/z\"]}", json!(["d"])),
            ("{.spec.list[*].x\\.y/z}", json!(["d"])),
            ("{.spec.map.*}", json!(["e"])),
            ("{..image}", json!(["a", "b", "c"])),
            ("{.absent.image}", json!([])),
        ] {
            let values: Vec<Value> =
                ImagePath::parse(path).unwrap().find(&document).into_iter().cloned().collect();
            assert_eq!(json!(values), found, "{path}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_it() {
        for path in [
            "",
            ".spec.image",
            "{}",
            "{spec}",
            "{.spec..}",
            "{.a[?(@.b)].c}",
            "{.a[1:2]}",
            "{.a[0,1]}",
            "{.a['b'}",
            "{.a[*}",
            "{.a}{.b}",
            "{range .a[*]}",
            "{.a[-1]}",
            "{.a\\",
        ] {
            let error = ImagePath::parse(path).unwrap_err().to_string();
            assert!(error.contains(&format!("`{path}`")), "{error}");
        }
    }
}
