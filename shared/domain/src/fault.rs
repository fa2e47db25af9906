//! What is wrong with somebody's input, one entry a fault, so that all of them
//! can be told at once.

use std::borrow::Cow;

use serde::Serialize;

/// Most faults that are kept of one request. The others are only counted.
pub const MAX_FAULTS: usize = 100;
/// The longest name in a pointer, in characters. Every valid name is shorter.
const MAX_TOKEN: usize = 128;

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

/// The faults of a request: the first hundred, and how many there are. A request that
/// consists of faults costs no more memory than one that has a few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    told: Vec<Fault>,
    count: usize,
}

impl Faults {
    /// Notes a fault. It is not made if it is only counted.
    pub fn add(&mut self, fault: impl FnOnce() -> Fault) {
        if self.told.len() < MAX_FAULTS {
            self.told.push(fault());
        }
        self.count += 1;
    }

    /// Notes faults that were found elsewhere in the request.
    pub fn append(&mut self, other: Self) {
        let room = MAX_FAULTS.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
        self.count += other.count;
    }

    /// The same faults, of which `most` are kept.
    #[must_use]
    pub fn first(mut self, most: usize) -> Self {
        self.told.truncate(most);
        self
    }

    /// Those that are kept, in the order they were found.
    pub fn told(&self) -> &[Fault] {
        &self.told
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self { told: vec![fault], count: 1 }
    }
}

/// Escapes one reference token of a JSON Pointer (RFC 6901 §3). A name that is too long is
/// cut, and ends with an ellipsis.
pub fn pointer_token(name: &str) -> String {
    let kept = match name.char_indices().nth(MAX_TOKEN) {
        Some((end, _)) => Cow::from(format!("{}…", name.get(..end).unwrap_or_default())),
        None => Cow::from(name),
    };
    kept.replace('~', "~0").replace('/', "~1")
}

/// Names as a fault tells of them: `a, b or c`.
pub fn listed(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
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
    fn pointer_tokens_are_escaped_and_bounded() {
        assert_eq!(pointer_token("a/b~c"), "a~1b~0c");
        assert_eq!(pointer_token(&"é".repeat(128)), "é".repeat(128));
        assert_eq!(pointer_token(&"é".repeat(4_000_000)), format!("{}…", "é".repeat(128)));
    }

    #[test]
    fn names_are_listed_as_a_sentence_has_them() {
        let lists = [listed(&[]), listed(&["a"]), listed(&["a", "b"]), listed(&["a", "b", "c"])];
        assert_eq!(lists, ["", "a", "a or b", "a, b or c"]);
    }

    #[test]
    fn faults_past_the_hundredth_are_counted_and_not_made() {
        let mut faults = Faults::default();
        let mut made = 0;
        for _ in 0..1000 {
            faults.add(|| {
                made += 1;
                Fault::at("/a", "x")
            });
        }
        let mut all = Faults::from(Fault::at("/first", "x"));
        all.append(faults);
        assert_eq!((made, all.told().len(), all.count()), (100, 100, 1001));
        assert_eq!(all.told()[0].pointer, "/first");
        let few = all.first(20);
        assert_eq!((few.told().len(), few.count(), few.is_empty()), (20, 1001, false));
    }
}
