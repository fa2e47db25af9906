//! Which events an endpoint wants, said in the syntax of EventBridge's event patterns over
//! `{ "event_type": …, "payload": … }`. The answers are those of AWS's own matcher, which it
//! publishes as Event Ruler. Neither what a pattern says nor what an event has can make
//! matching endless: its steps are counted.
//!
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html>

mod caseless;
pub mod event;
mod expression;
mod number;
mod range;
mod reading;
mod rules;
mod scan;
mod search;
mod steps;
mod value;
mod wildcard;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::event::Event;
pub use self::reading::{MAX_DEPTH, MAX_RULES};
use self::rules::Rules;
pub use self::steps::MAX_STEPS;
use self::steps::Steps;
use crate::fault::{Fault, Faults};

/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 4096;

/// The JSON text of an event pattern, as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The filter that it says.
    ///
    /// # Errors
    /// Every fault of it. What a filter was made from has none.
    pub fn filter(&self) -> Result<Filter, Faults> {
        let raw = serde_json::from_str(&self.0).map_err(|_| Fault::at("", "must be a JSON object of fields"))?;
        Filter::read("", raw)
    }
}

/// What a filter says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The endpoint wants it.
    Matched,
    /// The endpoint does not want it.
    NotMatched,
    /// It took more than [`MAX_STEPS`] to tell, so it counts as not matched.
    TooMuchWork,
}

/// A filter that was read. Copies share what they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pattern: Pattern,
    rules: Arc<Rules>,
}

impl Filter {
    /// Reads a filter. Faults point below `base`, and none repeats a value.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn read(base: &str, raw: &RawValue) -> Result<Self, Faults> {
        let text = raw.get();
        if text.len() > MAX_PATTERN {
            return Err(Fault::at(base, "has at most 4096 bytes").into());
        }
        let rules = reading::rules(base, raw)?;
        Ok(Self { pattern: Pattern(text.into()), rules: Arc::new(rules) })
    }

    /// What it was made from.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        // What is read of a text, such as a wildcard, is some times as large as the text.
        const READ: usize = 12;
        self.pattern.as_str().len() * READ + self.rules.bytes()
    }

    /// Whether an endpoint with this filter wants the event.
    pub fn matches(&self, event: &Event<'_>) -> Match {
        self.matches_within(event, MAX_STEPS).0
    }

    /// The same with a limit of steps of one's own, and how many were taken.
    pub fn matches_within(&self, event: &Event<'_>, most: u64) -> (Match, u64) {
        let mut steps = Steps::new(most);
        let found = match search::matches(&self.rules, event, &mut steps) {
            Ok(true) => Match::Matched,
            Ok(false) => Match::NotMatched,
            Err(steps::TooMuchWork) => Match::TooMuchWork,
        };
        (found, steps.taken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn filter(pattern: &str) -> Filter {
        Filter::read("", raw(pattern)).unwrap_or_else(|faults| panic!("{pattern}: {faults:?}"))
    }

    /// What a filter of this pattern for the payload says, and its steps.
    fn asked(pattern: &str, payload: &str) -> (Match, u64) {
        filter(&format!(r#"{{"payload":{pattern}}}"#))
            .matches_within(&Event::new("order.paid", raw(payload)), MAX_STEPS)
    }

    fn wants(pattern: &str, payload: &str) -> bool {
        asked(pattern, payload).0 == Match::Matched
    }

    fn places(pattern: &str) -> Vec<String> {
        let faults = Filter::read("/filter", raw(pattern)).unwrap_err();
        faults.told().iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn every_field_must_find_one_of_its_values() {
        let paid = filter(r#"{"event_type":[{"prefix":"order."}],"payload":{"total":[{"numeric":[">",100]}]}}"#);
        let said = |kind, payload| paid.matches(&Event::new(kind, raw(payload)));
        assert_eq!(said("order.paid", r#"{"total":100.5}"#), Match::Matched);
        assert_eq!(said("order.paid", r#"{"total":"100.5"}"#), Match::NotMatched);
        assert_eq!(said("user.created", r#"{"total":100.5}"#), Match::NotMatched);
    }

    #[test]
    fn numbers_are_equal_whatever_they_are_written_like() {
        assert!(wants(r#"{"a":[100]}"#, r#"{"a":1.00e2}"#) && !wants(r#"{"a":[100]}"#, r#"{"a":"100"}"#));
        let long = "12345678901234567890";
        assert!(wants(&format!(r#"{{"a":[{long}]}}"#), &format!(r#"{{"a":{long}}}"#)), "by its text");
        assert!(!wants(&format!(r#"{{"a":[{long}]}}"#), &format!(r#"{{"a":{long}.0}}"#)));
        assert!(wants(r#"{"a":[{"anything-but":[1]}]}"#, r#"{"a":"1"}"#));
        assert!(!wants(r#"{"a":[{"anything-but":1}]}"#, r#"{"a":1.0}"#));
    }

    #[test]
    fn only_values_that_are_no_objects_exist() {
        let (present, absent) = (r#"{"a":[{"exists":true}]}"#, r#"{"a":[{"exists":false}]}"#);
        for (payload, exists) in [
            ("{}", false),
            (r#"{"a":null}"#, true),
            (r#"{"a":{}}"#, false),
            (r#"{"a":{"b":1}}"#, false),
            (r#"{"a":[]}"#, false),
            (r#"{"a":[[],[{}]]}"#, false),
            (r#"{"a":[[0]]}"#, true),
            ("7", false),
        ] {
            assert_eq!((wants(present, payload), wants(absent, payload)), (exists, !exists), "{payload}");
        }
    }

    #[test]
    fn fields_of_one_array_are_found_in_one_element() {
        let both = r#"{"items":{"a":[1],"b":[2]}}"#;
        assert!(wants(both, r#"{"items":[{"a":0,"b":2},{"a":1,"b":2}]}"#));
        assert!(!wants(both, r#"{"items":[{"a":1},{"b":2}]}"#));
        assert!(!wants(both, r#"{"items":[[{"a":1},{"b":2}],[{"b":2}]]}"#));
        assert!(wants(both, r#"{"items":[[{"a":1},{"a":1,"b":[3,2]}]]}"#));
        let with_a_gap = r#"{"x":{"a":[1],"a-":[9],"b":[2]}}"#;
        assert!(!wants(with_a_gap, r#"{"x":[{"a":1},{"a-":9,"b":2}]}"#));
        // A value that is an element itself belongs together with all.
        let mixed = r#"{"$or":[{"items":[0],"items.a":[1]},{"none":[1]}]}"#;
        assert!(wants(mixed, r#"{"items":[{"a":1},0]}"#));
        // What must be absent is looked for in the elements that were chosen before it.
        let (then, first) = (r#"{"i":{"a":[1],"b":[{"exists":false}]}}"#, r#"{"i":{"a":[{"exists":false}],"b":[1]}}"#);
        assert!(wants(then, r#"{"i":[{"a":1},{"b":1}]}"#) && !wants(first, r#"{"i":[{"a":1},{"b":1}]}"#));
    }

    #[test]
    fn names_with_dots_are_paths() {
        for payload in [r#"{"a":{"b.c":1}}"#, r#"{"a.b":{"c":1}}"#, r#"{"a.b.c":[1]}"#, r#"{"a":0,"a.b":[{"c":1}]}"#] {
            assert!(wants(r#"{"a":{"b":{"c":[1]}}}"#, payload) && wants(r#"{"a.b.c":[1]}"#, payload), "{payload}");
        }
        assert!(!wants(r#"{"a":{"":[1]}}"#, r#"{"a":1}"#) && wants(r#"{"a":{"":[1]}}"#, r#"{"a":{"":1}}"#));
    }

    #[test]
    fn what_is_said_later_of_a_field_counts() {
        assert!(wants(r#"{"a":[1],"a":[2]}"#, r#"{"a":2}"#) && !wants(r#"{"a":[1],"a":[2]}"#, r#"{"a":1}"#));
        let either = r#"{"a":[1],"$or":[{"a":[2]},{"b":[3]}]}"#;
        assert!(wants(either, r#"{"a":2}"#) && wants(either, r#"{"a":1,"b":3}"#) && !wants(either, r#"{"a":1}"#));
        assert!(wants(r#"{"$or":["x",{"prefix":"y"}]}"#, r#"{"$or":"yes"}"#), "a field of this name");
    }

    #[test]
    fn every_fault_is_at_its_place_and_repeats_no_value() {
        let pattern = r#"{"event_type":"canary","payload":{"a":[],"b":{},"c":[[1],{},{"canary":1},{"prefix":1,"x":2}],
            "d":[{"exists":1},{"wildcard":"**"},{"wildcard":"\\canary"},{"prefix":{"suffix":"canary"}}],
            "e/":[{"anything-but":[]},{"anything-but":[1,"canary"]},{"anything-but":null},{"anything-but":{"prefix":["a",""]}}],
            "f":[{"numeric":["canary",1]},{"numeric":[">",1,"<",1]}],"$or":[{"g":[1]}]}}"#;
        assert_eq!(
            places(pattern),
            [
                "/event_type",
                "/payload/a",
                "/payload/b",
                "/payload/c/0",
                "/payload/c/1",
                "/payload/c/2/canary",
                "/payload/c/3",
                "/payload/d/0/exists",
                "/payload/d/1/wildcard",
                "/payload/d/2/wildcard",
                "/payload/d/3/prefix/suffix",
                "/payload/e~1/0/anything-but",
                "/payload/e~1/1/anything-but/1",
                "/payload/e~1/2/anything-but",
                "/payload/e~1/3/anything-but/prefix/1",
                "/payload/f/0/numeric/0",
                "/payload/f/1/numeric/3",
                "/payload/$or",
            ]
            .map(|place| format!("/filter{place}"))
        );
        let faults = Filter::read("", raw(pattern)).unwrap_err();
        assert!(faults.told().iter().all(|fault| !fault.message.contains("canary")), "{faults:?}");
        for whole in ["[]", "null", "{}"] {
            assert_eq!(places(whole), ["/filter"]);
        }
    }

    #[test]
    fn patterns_are_bounded() {
        let deep = |n: usize| format!("{}[1]{}", r#"{"a":"#.repeat(n), "}".repeat(n));
        assert!(Filter::read("", raw(&deep(MAX_DEPTH))).is_ok());
        assert_eq!(places(&deep(MAX_DEPTH + 1)), [format!("/filter{}", "/a".repeat(MAX_DEPTH))]);
        let long = |n: usize| format!(r#"{{"a":["{}"]}}"#, "x".repeat(n - r#"{"a":[""]}"#.len()));
        assert!(Filter::read("", raw(&long(MAX_PATTERN))).is_ok());
        assert_eq!(places(&long(MAX_PATTERN + 1)), ["/filter"]);
        let combined = |n: usize| {
            let each = |i: usize| format!(r#""k{i}":{{"$or":[{{"a":[1]}},{{"b":[2]}}]}}"#);
            format!("{{{}}}", (0..n).map(each).collect::<Vec<_>>().join(","))
        };
        assert!(Filter::read("", raw(&combined(9))).is_ok());
        for n in [10, 40, 90] {
            assert_eq!(places(&combined(n)).len(), 1, "{n}");
        }
    }

    #[test]
    fn the_combinations_of_a_pattern_count_as_memory() {
        let each = |i: usize| format!(r#""k{i}":{{"$or":[{{"a":[1]}},{{"b":[2]}}]}}"#);
        let many = format!("{{{}}}", (0..9).map(each).collect::<Vec<_>>().join(","));
        assert!(filter(&many).bytes() > 512 * 9 * 24 && filter(r#"{"a":[1]}"#).bytes() < 1_000);
    }

    #[test]
    fn a_pattern_is_kept_as_it_was_given() {
        let text = r#"{ "payload" : {"a":[ 1.0 ]} }"#;
        let pattern = filter(text).pattern().clone();
        assert_eq!(pattern.as_str(), text);
        let stored = serde_json::to_string(&pattern).unwrap();
        assert_eq!(serde_json::from_str::<Pattern>(&stored).unwrap().filter().unwrap(), filter(text));
    }

    /// Valid JSON with every part of the syntax, to be broken.
    const EVERYTHING: &str = r#"{"event_type":["a",{"prefix":{"equals-ignore-case":"é"}},{"anything-but":{"wildcard":["*\\*","b"]}}],
        "payload":{"a":[1.5e3,{"numeric":[">=",-1,"<",2]},null,{"exists":false}],"$or":[{"b.c":["\ud83d\ude00"]},{"b":{"c":[true]}}]}}"#;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_text_breaks_the_reader_or_the_matcher(
            cut in 0..400usize, until in 0..4usize, put in r#"[\[\]{}:,"$*\\a.>=<0-9é -]{0,4}"#
        ) {
            let all: Vec<char> = EVERYTHING.chars().collect();
            let (before, after) = all.split_at(cut.min(all.len()));
            let broken: String = before.iter().copied().chain(put.chars()).chain(after.iter().skip(until).copied()).collect();
            let Ok(broken) = serde_json::from_str::<&RawValue>(&broken) else { return Ok(()) };
            let filters = [broken, raw(EVERYTHING)].map(|pattern| Filter::read("", pattern));
            prop_assert!(filters[1].is_ok());
            for filter in filters.iter().flatten() {
                for payload in [broken, raw(EVERYTHING), raw(r#"{"a":1500,"b":{"c":true}}"#)] {
                    prop_assert_ne!(filter.matches(&Event::new("a", payload)), Match::TooMuchWork);
                }
            }
        }
    }
}
