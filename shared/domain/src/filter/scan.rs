//! The parts of a JSON text, one after the other. The text is known to be well-formed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error, Visitor};

use super::value::Value;

/// A part of a JSON text.
#[derive(Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The innermost object or array ends.
    End,
    /// A field's name. Its value follows.
    Name(Cow<'a, str>),
    /// Any other value.
    Leaf(Value<'a>),
}

/// Reads the parts of a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// Begins with the first part of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Goes on after `bytes`.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        skipped
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
    }

    /// A string, which begins here.
    fn string(&mut self) -> Cow<'a, str> {
        let bytes = self.rest.as_bytes();
        let (mut at, mut has_escapes) = (1, false);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        let text = self.skip(at + 1);
        if has_escapes {
            return Cow::Owned(unescaped(text));
        }
        Cow::Borrowed(text.get(1..text.len().saturating_sub(1)).unwrap_or_default())
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.space();
        Some(match self.rest.as_bytes().first()? {
            b'{' => {
                self.skip(1);
                Token::Object
            }
            b'[' => {
                self.skip(1);
                Token::Array
            }
            b'}' | b']' => {
                self.skip(1);
                Token::End
            }
            b'"' => {
                let text = self.string();
                self.space();
                if self.rest.starts_with(':') {
                    self.skip(1);
                    Token::Name(text)
                } else {
                    Token::Leaf(Value::Text(text))
                }
            }
            _ => {
                let ends = |c: char| matches!(c, ',' | ']' | '}' | ' ' | '\t' | '\n' | '\r');
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                Token::Leaf(Value::word(self.skip(end)))
            }
        })
    }
}

/// The text of a JSON string with escapes. Half a surrogate pair becomes U+FFFD.
fn unescaped(json: &str) -> String {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_bytes(Bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_names_before_a_colon() {
        let tokens: Vec<_> = Scanner::new("{\"a\" : \"\\u00e9\\n\" ,\"b\":[1.0]}\n").collect();
        let text = |text: &'static str| Token::Leaf(Value::Text(text.into()));
        assert_eq!(
            tokens,
            [
                Token::Object,
                Token::Name("a".into()),
                text("é\n"),
                Token::Name("b".into()),
                Token::Array,
                Token::Leaf(Value::word("1.0")),
                Token::End,
                Token::End
            ]
        );
        let halves: Vec<_> = Scanner::new(r#"["\ud800x","\ud83d\ude00"]"#).collect();
        assert!(matches!(&halves[1], Token::Leaf(Value::Text(half)) if half.ends_with("\u{fffd}x")), "{halves:?}");
        assert_eq!(halves[2], text("\u{1f600}"));
    }
}
