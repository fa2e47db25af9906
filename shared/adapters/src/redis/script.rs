//! Lua scripts: their text, the hash that a server knows them by, and their arguments.
//! Each script touches one key.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::Value;

use crate::clock::Clock;
use crate::telemetry::is_plain;

/// A Lua script that touches one key.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    body: &'static str,
    by_server: OnceLock<Compiled>,
    by_caller: OnceLock<Compiled>,
}

/// A script as it is sent, and the hash that the server knows it by.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) text: String,
    pub(super) hash: String,
}

impl Script {
    /// A script from its source, without the prelude.
    pub const fn new(name: &'static str, body: &'static str) -> Self {
        Self { name, body, by_server: OnceLock::new(), by_caller: OnceLock::new() }
    }

    /// The script's name, as errors and tests show it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The script as it is sent. Its time is the server's; only a fixed clock,
    /// which only tests have, makes the caller's time an argument.
    pub(super) fn compiled(&self, clock: &Clock) -> &Compiled {
        let with = |now: &str| {
            let text = format!("{}{now}{}", include_str!("scripts/prelude.lua"), self.body);
            Compiled { hash: redis::Script::new(&text).get_hash().to_owned(), text }
        };
        if clock.is_fixed() {
            self.by_caller.get_or_init(|| with(include_str!("scripts/now_given.lua")))
        } else {
            self.by_server.get_or_init(|| with(include_str!("scripts/now_server.lua")))
        }
    }
}

/// A script's arguments, one after the other in one piece of memory: there are
/// some twenty to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    text: String,
    ends: Vec<usize>,
}

impl Args {
    /// None yet, with room for some.
    pub fn new() -> Self {
        Self { text: String::with_capacity(512), ends: Vec::with_capacity(40) }
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, argument: impl Argument) -> Self {
        argument.append(&mut self.text);
        self.ends.push(self.text.len());
        self
    }

    /// One more: fields as an array of JSON, names and values in turn.
    #[must_use]
    pub fn with_json<'f>(mut self, fields: impl Iterator<Item = (&'static str, Cow<'f, str>)>) -> Self {
        append_json(&mut self.text, fields);
        self.ends.push(self.text.len());
        self
    }

    /// One more, that is text already.
    pub fn push_str(&mut self, argument: &str) {
        self.text.push_str(argument);
        self.ends.push(self.text.len());
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Their bytes in all.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(&begin, &end)| &self.text[begin..end])
    }
}

/// What can be an argument.
pub trait Argument {
    /// Appends it as text.
    fn append(&self, text: &mut String);
}

impl Argument for &str {
    fn append(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl Argument for &String {
    fn append(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl Argument for String {
    fn append(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl Argument for char {
    fn append(&self, text: &mut String) {
        text.push(*self);
    }
}

/// Whole numbers, without the detour of formatting: a batch has some hundred.
macro_rules! whole_numbers {
    ($($number:ty)*) => {$(
        impl Argument for $number {
            fn append(&self, text: &mut String) {
                text.push_str(itoa::Buffer::new().format(*self));
            }
        }
    )*};
}

whole_numbers!(u8 u32 u64 usize);

/// Appends fields as an array of JSON. Their names are plain.
fn append_json<'f>(text: &mut String, fields: impl Iterator<Item = (&'static str, Cow<'f, str>)>) {
    let mut before = "[\"";
    for (name, value) in fields {
        text.push_str(before);
        text.push_str(name);
        before = ",\"";
        if is_plain(&value) {
            text.push_str("\",\"");
            text.push_str(&value);
            text.push('"');
        } else {
            text.push_str("\",");
            text.push_str(&Value::from(value).to_string());
        }
    }
    text.push(']');
}

impl<T: AsRef<str>> FromIterator<T> for Args {
    fn from_iter<I: IntoIterator<Item = T>>(arguments: I) -> Self {
        let mut args = Self::new();
        arguments.into_iter().for_each(|argument| args.push_str(argument.as_ref()));
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Millis;

    static ECHO: Script = Script::new("echo", "return now");

    #[test]
    fn texts_as_json_are_read_as_they_were() {
        let texts = ["", "plain", "a \"b\" \\ \n\0\u{1f}", "日本😀", "\u{2028}\u{7f}"];
        let args = Args::new().with(7u64).with_json(texts.iter().map(|text| ("name", Cow::from(*text)))).with('x');
        let all: Vec<&str> = args.iter().collect();
        assert_eq!((all[0], all[2]), ("7", "x"));
        let read: Vec<String> = serde_json::from_str(all[1]).unwrap();
        let pairs: Vec<&str> = texts.iter().flat_map(|text| ["name", *text]).collect();
        assert_eq!(read, pairs);
    }

    #[test]
    fn production_scripts_take_the_servers_time() {
        assert!(ECHO.compiled(&Clock::system()).text.contains("redis.call('TIME')"));
        assert!(!ECHO.compiled(&Clock::fixed(Millis(5))).text.contains("redis.call('TIME')"));
    }
}
