//! How results are shown: as text for people, or as the JSON that the API answered.

use serde_json::value::RawValue;

use crate::api::Answer;
use crate::clock;
use domain::time::Millis;

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
            Self::Json => anstream::println!("{}", answer.body.trim_end()),
            Self::Text => anstream::print!("{}", text(clock::now())),
        }
    }

    /// Shows the items of a list: as a JSON array, or as this text.
    pub(crate) fn show_list(self, items: &[Box<RawValue>], text: impl FnOnce(Millis) -> String) {
        match self {
            Self::Json => {
                let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
                anstream::println!("[{}]", items.join(",\n "));
            }
            Self::Text => anstream::print!("{}", text(clock::now())),
        }
    }
}
