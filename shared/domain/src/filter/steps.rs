//! The work of matching, counted. A step is one thing looked at: a node of the event, a
//! name, a value, or sixteen bytes of text.

/// Most steps that one filter takes for one event. It lets a plain filter pass over the
/// largest payload, and ends a hostile one after 5 to 40 ms.
pub const MAX_STEPS: u64 = 1_000_000;
/// The bytes of text that are looked at in one step.
const BYTES: usize = 16;

/// The steps were used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuchWork;

/// A budget of steps.
#[derive(Debug)]
pub(crate) struct Steps {
    most: u64,
    taken: u64,
}

impl Steps {
    /// A budget of `most` steps.
    pub(crate) fn new(most: u64) -> Self {
        Self { most, taken: 0 }
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes one step.
    pub(super) fn one(&mut self) -> Result<(), TooMuchWork> {
        self.take(1)
    }

    /// Takes a step, and one for every sixteen bytes.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), TooMuchWork> {
        self.take(1 + bytes / BYTES)
    }

    /// Takes the steps of a binary search among `count`: one for every two comparisons.
    pub(super) fn search(&mut self, count: usize) -> Result<(), TooMuchWork> {
        self.take(1 + count.checked_ilog2().unwrap_or(0) as usize / 2)
    }

    fn take(&mut self, steps: usize) -> Result<(), TooMuchWork> {
        self.taken = self.taken.saturating_add(steps as u64);
        if self.taken > self.most { Err(TooMuchWork) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::event::Event;
    use crate::filter::{Filter, Match};

    /// What a filter says of a payload, and its steps.
    fn asked(pattern: &str, payload: &str) -> (Match, u64) {
        let filter = Filter::read("", serde_json::from_str(pattern).unwrap()).unwrap();
        filter.matches_within(&Event::new("a.b", serde_json::from_str(payload).unwrap()), MAX_STEPS)
    }

    fn list(n: usize, each: impl Fn(usize) -> String) -> String {
        (0..n).map(each).collect::<Vec<_>>().join(",")
    }

    /// Checks that the steps for `n` things are at most linear in them.
    fn is_linear(pattern: &str, payload: impl Fn(usize) -> String) {
        let steps = |n| {
            let (found, steps) = asked(pattern, &payload(n));
            assert_eq!(found, Match::NotMatched, "{pattern}: {steps}");
            steps
        };
        let (some, more) = (steps(500), steps(4_000));
        assert!(more <= 12 * some, "{pattern}: {some} steps, then {more}");
        assert!(more < MAX_STEPS / 3, "{pattern}: {more}");
    }

    #[test]
    fn an_array_costs_steps_for_each_element_once() {
        is_linear(r#"{"payload":["x"]}"#, |n| format!("[{}]", list(n, |i| i.to_string())));
        is_linear(r#"{"payload":[{"exists":false}]}"#, |n| format!("[{}]", list(n, |i| i.to_string())));
        // Every element has the first three, and none the fourth.
        is_linear(r#"{"payload":{"a":[1],"b":[2],"c":[3],"d":[4]}}"#, |n| {
            format!("[{}]", list(n, |_| r#"{"a":1,"b":2,"c":3,"d":5}"#.into()))
        });
    }

    #[test]
    fn arrays_that_have_nothing_in_common_are_not_combined() {
        let fields = ["a", "b", "c", "d", "e", "f"];
        let pattern = fields.map(|name| format!(r#""{name}":{{"x":[1]}}"#)).join(",");
        is_linear(&format!(r#"{{"payload":{{{pattern},"g":[1]}}}}"#), |n| {
            let array = list(n / 10, |_| r#"{"x":1}"#.into());
            format!("{{{}}}", fields.map(|name| format!(r#""{name}":[{array}]"#)).join(","))
        });
        // The same in every element of an array.
        is_linear(&format!(r#"{{"payload":{{"all":{{{pattern},"g":[1]}}}}}}"#), |n| {
            let array = list(9, |_| r#"{"x":1}"#.into());
            let element = fields.map(|name| format!(r#""{name}":[{array}]"#)).join(",");
            format!(r#"{{"all":[{}]}}"#, list(n / 50, |_| format!("{{{element}}}")))
        });
    }

    #[test]
    fn deep_payloads_cost_a_step_a_level() {
        is_linear(r#"{"payload":{"a":[1],"b":[2]}}"#, |n| {
            format!(r#"{}{{"a":1,"b":3}}{}"#, "[".repeat(n), "]".repeat(n))
        });
        let deep = format!("{}1{}", r#"{"a":["#.repeat(30_000), "]}".repeat(30_000));
        let (found, steps) = asked(r#"{"payload":{"a":{"a":{"a":[1]}}}}"#, &deep);
        assert!(found == Match::NotMatched && steps < 100, "{steps}");
    }

    #[test]
    fn wildcards_pass_over_a_text_once() {
        for stars in [1, 10, 1_000] {
            let pattern = format!(r#"{{"payload":[{{"wildcard":"{}b"}}]}}"#, "*a".repeat(stars));
            is_linear(&pattern, |n| format!(r#""{}""#, "a".repeat(60 * n)));
        }
        is_linear(r#"{"payload":[{"wildcard":"*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab*"}]}"#, |n| {
            format!(r#""{}""#, "a".repeat(60 * n))
        });
    }

    #[test]
    fn thousands_of_alternatives_are_looked_up() {
        let pattern = format!(r#"{{"payload":[{}]}}"#, list(680, |i| format!(r#""{i:03}""#)));
        is_linear(&pattern, |n| format!("[{}]", list(n, |i| format!(r#""x{i}""#))));
        let names = format!(r#"{{"payload":{{"{}":[1]}}}}"#, "a.".repeat(1_900));
        let (found, steps) = asked(&names, &format!("{{{}}}", list(20_000, |i| format!(r#""{i}":1"#))));
        assert!(found == Match::NotMatched && steps < 40_000, "{steps}");
    }

    #[test]
    fn the_largest_plain_payloads_are_not_too_much() {
        let numbers = format!("[{}]", list(100_000, |_| "1".into()));
        for pattern in
            [r#"{"payload":["x"]}"#, r#"{"payload":[{"prefix":"x"}]}"#, r#"{"payload":[{"numeric":[">",1]}]}"#]
        {
            assert_eq!(asked(pattern, &numbers).0, Match::NotMatched);
        }
        let objects = format!("[{}]", list(10_000, |_| r#"{"a":1,"b":2,"c":3,"d":4}"#.into()));
        assert_eq!(asked(r#"{"payload":{"a":[1],"b":[2],"c":[3],"d":[5]}}"#, &objects).0, Match::NotMatched);
    }

    #[test]
    fn what_would_take_too_long_ends_at_the_limit() {
        let prefixes = list(230, |i| format!(r#"{{"prefix":"{i}"}}"#));
        let texts = format!("[{}]", list(40_000, |_| r#""xxx""#.into()));
        let rules =
            (0..9).map(|i| format!(r#""k{i}":{{"$or":[{{"a":[1]}},{{"b":[1]}}]}}"#)).collect::<Vec<_>>().join(",");
        let all = list(9, |i| format!(r#""k{i}":{{"a":[{0}],"b":[{0}]}}"#, list(1_000, |_| "1".into())));
        for (pattern, payload) in [
            (format!(r#"{{"payload":[{prefixes}]}}"#), texts),
            (format!(r#"{{"payload":{{{rules},"z":[1]}}}}"#), format!("{{{all}}}")),
        ] {
            let (found, steps) = asked(&pattern, &payload);
            assert_eq!(found, Match::TooMuchWork);
            assert!((MAX_STEPS..MAX_STEPS + 20_000).contains(&steps), "{steps}");
        }
    }
}
