//! A pattern, read into rules. Every fault is noted at its place. What an alternative of an
//! `$or` says of a field replaces what was said of it before, as in AWS's matcher, and so
//! does a field that stands twice.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::expression::{first_byte, wanted};
use super::rules::{Draft, Rules};
use super::value::Wanted;
use crate::fault::{Fault, Faults, pointer_token};
use crate::json::{each_field, elements};

/// Most objects of fields in each other, alternatives included.
pub const MAX_DEPTH: usize = 10;
/// Most rules that a pattern comes to; EventBridge has the same limit.
pub const MAX_RULES: usize = 1_000;
/// Most fields of all rules together, copies that were made on the way included.
const MAX_FIELDS: usize = 32_768;
/// What alternatives stand under.
const OR: &str = "$or";
/// The types of matches. An object that has a field of this name is no alternative.
const MATCH_TYPES: [&str; 9] =
    ["exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr"];

/// Where the reader is.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The names of the outer fields, with dots between them; `None` if there is none.
    path: Option<&'a str>,
    pointer: &'a str,
    depth: usize,
}

#[derive(Default)]
struct Reader {
    paths: BTreeMap<String, usize>,
    wanted: Vec<Wanted>,
    faults: Faults,
    /// How many fields were written into rules so far.
    fields: usize,
    is_too_large: bool,
}

/// Reads a pattern. Faults point below `pointer`.
///
/// # Errors
/// Every fault of it.
pub(super) fn rules(pointer: &str, raw: &RawValue) -> Result<Rules, Faults> {
    let mut reader = Reader::default();
    let place = Place { path: None, pointer, depth: 1 };
    let drafts = reader.object(place, raw, vec![Draft::new()]);
    if reader.faults.is_empty() { Ok(Rules::new(reader.paths, reader.wanted, drafts)) } else { Err(reader.faults) }
}

impl Reader {
    fn fault(&mut self, pointer: &str, message: &str) {
        self.faults.add(|| Fault::at(pointer, message));
    }

    /// Reads an object of fields into each of these rules.
    fn object(&mut self, place: Place<'_>, raw: &RawValue, mut drafts: Vec<Draft>) -> Vec<Draft> {
        if place.depth > MAX_DEPTH {
            self.fault(place.pointer, "at most 10 objects can be in each other");
            return drafts;
        }
        let mut fields = Vec::new();
        if each_field(raw, |name, value| fields.push((name.to_owned(), value))).is_err() {
            self.fault(place.pointer, "must be a JSON object of fields");
        } else if fields.is_empty() {
            self.fault(place.pointer, "must not be empty");
        }
        for (name, value) in fields {
            let pointer = format!("{}/{}", place.pointer, pointer_token(&name));
            if name == OR
                && let Some(alternatives) = self.alternatives(&pointer, value)
            {
                drafts = self.or(Place { pointer: &pointer, ..place }, &alternatives, drafts);
                continue;
            }
            let path = place.path.map_or(name.clone(), |outer| format!("{outer}.{name}"));
            if first_byte(value) == b'{' {
                let place = Place { path: Some(&path), pointer: &pointer, depth: place.depth + 1 };
                drafts = self.object(place, value, drafts);
            } else {
                self.field(&path, &pointer, value, &mut drafts);
            }
        }
        drafts
    }

    /// Reads the values of a field.
    fn field(&mut self, path: &str, pointer: &str, raw: &RawValue, drafts: &mut [Draft]) {
        let values = wanted(pointer, raw, &mut self.faults);
        let number = self.paths.len();
        let path = *self.paths.entry(path.to_owned()).or_insert(number);
        let wanted = self.wanted.len();
        self.wanted.push(values);
        self.count(pointer, drafts.len());
        if !self.is_too_large {
            for draft in drafts {
                draft.insert(path, wanted);
            }
        }
    }

    /// The alternatives of an `$or`: two objects of fields or more. Anything else is a field
    /// that has this name, as in AWS's matcher.
    fn alternatives<'a>(&mut self, pointer: &str, raw: &'a RawValue) -> Option<Vec<&'a RawValue>> {
        let (items, count) = elements(raw, usize::MAX).ok()?;
        let is_alternative = |raw: &RawValue| {
            let mut is_one = true;
            let read = each_field(raw, |name, _| is_one = is_one && !MATCH_TYPES.contains(&name));
            read.is_ok() && is_one
        };
        if !items.iter().all(|raw| is_alternative(raw)) {
            return None;
        }
        if count == 1 {
            self.fault(pointer, "must have two alternatives or more");
        }
        (count > 0).then_some(items)
    }

    /// Reads alternatives: each into copies of the rules so far.
    fn or(&mut self, place: Place<'_>, alternatives: &[&RawValue], drafts: Vec<Draft>) -> Vec<Draft> {
        let mut all = Vec::new();
        for (i, raw) in alternatives.iter().enumerate() {
            let pointer = format!("{}/{i}", place.pointer);
            let place = Place { pointer: &pointer, depth: place.depth + 1, ..place };
            self.count(&pointer, drafts.iter().map(BTreeMap::len).sum());
            // Of what is too large, only the faults are of interest.
            let copies = if self.is_too_large { Vec::new() } else { drafts.clone() };
            all.extend(self.object(place, raw, copies));
            if all.len() > MAX_RULES {
                self.too_large(&pointer);
            }
        }
        all
    }

    fn count(&mut self, pointer: &str, fields: usize) {
        self.fields = self.fields.saturating_add(fields);
        if self.fields > MAX_FIELDS {
            self.too_large(pointer);
        }
    }

    fn too_large(&mut self, pointer: &str) {
        if !self.is_too_large {
            self.is_too_large = true;
            self.fault(pointer, "the alternatives have too many combinations; at most 1000");
        }
    }
}
