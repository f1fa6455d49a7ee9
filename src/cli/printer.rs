//! The one place that owns standard output and standard error.
//!
//! Standard output carries the result and nothing else; with `--json` it is exactly one document, on failure too.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

pub use barge::emit::shell::quoted;
use serde_json::{Value, json};

use super::failure::Failure;

/// How many items of a grouped warning are named before the rest is counted.
const SHOWN_ITEMS: usize = 5;

/// Prints results, notes, warnings and errors.
pub struct Printer {
    json: bool,
    quiet: bool,
    warnings: Mutex<Vec<Value>>,
    bars: indicatif::MultiProgress,
}

impl Printer {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, warnings: Mutex::default(), bars: indicatif::MultiProgress::new() }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The bars, which must be out of the way while something is printed.
    pub fn bars(&self) -> &indicatif::MultiProgress {
        &self.bars
    }

    pub fn is_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// Prints a line of the result, unless the result is a document.
    pub fn line(&self, text: &str) {
        if !self.json {
            self.to_stdout(format!("{}\n", clean(text)).as_bytes());
        }
    }

    /// Prints bytes of the result as they are.
    pub fn raw(&self, bytes: &[u8]) {
        self.to_stdout(bytes);
    }

    /// Prints the result document, where one is wanted.
    pub fn document(&self, command: &str, code: u8, mut result: Value) {
        if !self.json {
            return;
        }
        let warnings =
            std::mem::take(&mut *self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if let Value::Object(fields) = &mut result {
            fields.insert("barge".to_owned(), json!(1));
            fields.insert("command".to_owned(), json!(command));
            fields.insert("exitCode".to_owned(), json!(code));
            fields.insert("warnings".to_owned(), json!(warnings));
        }
        self.to_stdout(format!("{result:#}\n").as_bytes());
    }

    /// Tells people something that is no warning.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.to_stderr(&format!("{}\n", clean(text)));
        }
    }

    /// Warns of one cause that concerns some things.
    pub fn warning(&self, cause: &str, items: &[String]) {
        let (cause, items) = (clean(cause), items.iter().map(|item| clean(item)).collect::<Vec<_>>());
        let warning = json!({ "cause": cause, "items": items });
        let mut said = self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.contains(&warning) {
            return;
        }
        said.push(warning);
        drop(said);
        let mut text = match items.len() {
            0 => format!("warning: {cause}\n"),
            1 => format!("warning: {cause}: {}\n", items[0]),
            count => format!("warning: {cause} ({count}):\n"),
        };
        if items.len() > 1 {
            for item in items.iter().take(SHOWN_ITEMS) {
                text.push_str(&format!("  {item}\n"));
            }
            if items.len() > SHOWN_ITEMS {
                text.push_str(&format!("  and {} more (all with --json)\n", items.len() - SHOWN_ITEMS));
            }
        }
        self.to_stderr(&text);
    }

    /// Prints a failure and returns its exit code.
    pub fn failure(&self, failure: &Failure) -> u8 {
        let mut text = format!("error: {}\n", clean(&failure.message));
        for cause in &failure.causes {
            text.push_str(&format!("  because: {}\n", clean(cause)));
        }
        for hint in &failure.hints {
            text.push_str(&format!("hint: {}\n", clean(hint)));
        }
        if let Some(next) = &failure.next {
            text.push_str(&format!("next: {}\n", clean(next)));
        }
        self.to_stderr(&text);
        self.document(
            failure.command,
            failure.code,
            json!({
                "outcome": "FAILED",
                "error": {
                    "kind": failure.kind,
                    "message": clean(&failure.message),
                    "causes": failure.causes.iter().map(|cause| clean(cause)).collect::<Vec<_>>(),
                    "hints": failure.hints,
                    "next": failure.next,
                },
            }),
        );
        failure.code
    }

    fn to_stdout(&self, bytes: &[u8]) {
        self.bars.suspend(|| {
            let mut out = io::stdout().lock();
            // A reader that went away (`barge … | head`) is no failure of the work.
            out.write_all(bytes).and_then(|()| out.flush()).ok();
        });
    }

    fn to_stderr(&self, text: &str) {
        self.bars.suspend(|| {
            // With standard error gone there is nobody left to tell.
            io::stderr().lock().write_all(text.as_bytes()).ok();
        });
    }
}

/// Strips control characters, which text from outside could steer a terminal with.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Returns a number of bytes for people.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Returns `1 image`, `2 images`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns the command as it was typed; credentials are to be typed again, on standard input.
pub fn typed() -> String {
    let mut words = vec!["barge".to_owned()];
    let mut typed = std::env::args().skip(1);
    while let Some(word) = typed.next() {
        match word.as_str() {
            "--creds" => {
                typed.next();
                words.push("--creds -".to_owned());
            }
            _ if word.starts_with("--creds=") => words.push("--creds -".to_owned()),
            _ => words.push(quoted(&word)),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\r\nc\u{9b}d"), "a[31mbcd");
    }
}
