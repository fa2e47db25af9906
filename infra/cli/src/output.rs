//! How results are shown: as text for people, or as the JSON that the API answered.

use std::io::{IsTerminal as _, Write as _};

use domain::time::Millis;
use serde_json::value::RawValue;

use crate::api::Answer;
use crate::clock;
use crate::text::steers;

/// The form of what is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Aligned text, with colours on a terminal.
    Text,
    /// JSON: what the API answered.
    Json,
}

impl Output {
    /// Shows an answer: as it came, or as this text.
    pub(crate) fn show(self, answer: &Answer, text: impl FnOnce(Millis) -> String) {
        match self {
            Self::Json if answer.status == 204 => json("{}"),
            Self::Json => json(answer.body.trim_end()),
            Self::Text => anstream::print!("{}", text(clock::now())),
        }
    }

    /// Shows the items of a list: as a JSON array, or as this text.
    pub(crate) fn show_list(self, items: &[Box<RawValue>], text: impl FnOnce(Millis) -> String) {
        match self {
            Self::Json => json(&array(items)),
            Self::Text => anstream::print!("{}", text(clock::now())),
        }
    }
}

/// Items as a JSON array.
pub(crate) fn array(items: &[Box<RawValue>]) -> String {
    let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
    format!("[{}]", items.join(",\n "))
}

/// Writes JSON byte for byte, and a line break. On a terminal, what would steer it is escaped as JSON does.
pub(crate) fn json(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = if out.is_terminal() { writeln!(out, "{}", escaped(text)) } else { writeln!(out, "{text}") };
    // Nobody is left to be told.
    drop(written);
}

/// Outside of strings, JSON has no such characters but line breaks.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            '\n' => safe.push(c),
            _ if steers(c) => {
                c.encode_utf16(&mut units).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")))
            }
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_terminal_json_keeps_its_meaning_and_steers_nothing() {
        let text = "{\n \"a\": \"x\u{7f}\u{9b}\u{202e}\"\n}";
        let safe = escaped(text);
        assert_eq!(safe, "{\n \"a\": \"x\\u007f\\u009b\\u202e\"\n}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&safe), read(text));
    }
}
