//! A request's query string, taken apart parameter by parameter, with every fault
//! named at once.

use std::collections::BTreeMap;

use domain::fault::{Fault, Faults, pointer_token};
use domain::place::Place;
use domain::time::Millis;
use url::form_urlencoded;

use super::answer::Problem;

/// What a parameter is not.
const UNKNOWN: &str = "unknown parameter";

/// The parameters that are not asked for yet, and the faults so far.
#[derive(Debug)]
pub struct QueryString {
    left: BTreeMap<String, String>,
    faults: Faults,
}

impl QueryString {
    /// Takes a query string apart.
    pub fn of(text: &str) -> Self {
        let mut query = Self { left: BTreeMap::new(), faults: Faults::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if query.left.contains_key(name.as_ref()) {
                query.fault(&name, "duplicate parameter");
            } else {
                query.left.insert(name.into_owned(), value.into_owned());
            }
        }
        query
    }

    fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.add(|| Fault::at(format!("/{}", pointer_token(name)), message));
    }

    /// A parameter as `read` understands it; `wants` says what that is.
    pub fn optional<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<T>, wants: &str) -> Option<T> {
        let value = self.left.remove(name)?;
        let read = read(&value);
        if read.is_none() {
            self.fault(name, wants);
        }
        read
    }

    /// A whole number in a range, or the default.
    pub fn number(&mut self, name: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> usize {
        let wants = format!("must be a whole number from {} to {}", range.start(), range.end());
        let read = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| plain && range.contains(number))
        };
        self.optional(name, read, &wants).unwrap_or(default)
    }

    /// `true` or `false`, the default.
    pub fn flag(&mut self, name: &str) -> bool {
        self.optional(name, |text| text.parse().ok(), "must be true or false").unwrap_or(false)
    }

    /// A time.
    pub fn time(&mut self, name: &str) -> Option<Millis> {
        self.optional(name, Millis::parse_rfc3339, "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)")
    }

    /// The place that an answer's cursor named.
    pub fn cursor(&mut self) -> Option<Place> {
        self.optional("cursor", Place::from_cursor, "must be a `next_cursor` from an earlier response")
    }

    /// Ends the reading: what was not asked for is unknown.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.left).into_keys() {
            self.fault(&name, UNKNOWN);
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_query_is_named() {
        let mut query = QueryString::of("limit=0&cursor=%00&since=now&x=1&x=2&dry_run=yes&%7E/=");
        query.number("limit", 50, 1..=200);
        query.cursor();
        query.time("since");
        query.flag("dry_run");
        let body = query.finish().unwrap_err().to_json("c");
        let pointers: Vec<&str> =
            body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(pointers, ["/x", "/limit", "/cursor", "/since", "/dry_run", "/x", "/~0~1"]);
    }

    #[test]
    fn numbers_are_digits_in_range() {
        for (text, wanted) in [("", Some(50)), ("limit=7", Some(7)), ("limit=200", Some(200))] {
            let mut query = QueryString::of(text);
            let number = query.number("limit", 50, 1..=200);
            assert_eq!(query.finish().ok().map(|()| number), wanted, "{text}");
        }
        for text in ["limit=", "limit=+7", "limit=201", "limit=7.0", "limit=99999999999999999999", "limit=%C2%B2"] {
            let mut query = QueryString::of(text);
            query.number("limit", 50, 1..=200);
            assert!(query.finish().is_err(), "{text}");
        }
    }
}
