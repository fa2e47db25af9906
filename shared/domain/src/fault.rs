//! What is wrong with somebody's input, one entry a fault, so that all of them
//! can be told at once.

use serde::Serialize;

/// One fault in a request: where, as a JSON Pointer (RFC 6901), and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// JSON Pointer into the request, `""` for the whole of it.
    pub pointer: String,
    /// What is wrong, for a person. It never repeats the value.
    pub message: String,
}

impl Fault {
    /// A fault at `pointer`.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// Escapes one reference token of a JSON Pointer (RFC 6901 §3).
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The first character that SQS refuses, if there is one. SQS takes what XML 1.0
/// takes: tab, line feed, carriage return, U+0020..U+D7FF, U+E000..U+FFFD and
/// U+10000..U+10FFFF (`SendMessage`, API reference).
pub fn refused_by_sqs(text: &str) -> Option<char> {
    text.chars().find(|c| match c {
        '\t' | '\n' | '\r' => false,
        '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_characters_pass_and_others_are_named() {
        assert_eq!(refused_by_sqs("tab\t lf\n cr\r é 漢 \u{1f600} \u{7f} \u{fffd}"), None);
        assert_eq!(refused_by_sqs("a\u{1}"), Some('\u{1}'));
        assert_eq!(refused_by_sqs("a\u{fffe}"), Some('\u{fffe}'));
        assert_eq!(refused_by_sqs("a\u{ffff}"), Some('\u{ffff}'));
    }

    #[test]
    fn pointer_tokens_are_escaped() {
        assert_eq!(pointer_token("a/b~c"), "a~1b~0c");
    }
}
