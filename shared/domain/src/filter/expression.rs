//! The values of one field of a pattern: what stands in its array. Every fault is noted at
//! its place.

use serde_json::value::RawValue;

use super::number::comparable;
use super::range::range;
use super::value::{Number, TextTest, Unwanted, Wanted};
use super::wildcard::Wildcard;
use crate::fault::{Fault, Faults, pointer_token};
use crate::json::{each_field, elements};

/// The types of matches, for whoever wrote another one.
const MATCH_TYPES: &str =
    "must be one of prefix, suffix, equals-ignore-case, anything-but, numeric, exists, wildcard and exactly";

/// Reads the array of a field.
pub(super) fn wanted(pointer: &str, raw: &RawValue, faults: &mut Faults) -> Wanted {
    let mut wanted = Wanted::default();
    match elements(raw, usize::MAX) {
        Ok((items, count)) if count > 0 => {
            for (i, item) in items.into_iter().enumerate() {
                add(&mut wanted, &format!("{pointer}/{i}"), item, faults);
            }
        }
        Ok(_) => faults.add(|| Fault::at(pointer, "must not be empty")),
        Err(_) => faults.add(|| Fault::at(pointer, "must be an array of values, or an object of fields")),
    }
    wanted.texts.sort();
    wanted
}

/// What a JSON value begins with tells what it is.
pub(super) fn first_byte(raw: &RawValue) -> u8 {
    raw.get().bytes().next().unwrap_or_default()
}

fn add(wanted: &mut Wanted, pointer: &str, raw: &RawValue, faults: &mut Faults) {
    match (first_byte(raw), raw.get()) {
        (b'{', _) => add_match(wanted, pointer, raw, faults),
        (b'"', _) => wanted.texts.extend(text(pointer, raw, faults)),
        (b'[', _) => faults.add(|| Fault::at(pointer, "must be a string, number, true, false, null or match object")),
        (_, "true") => wanted.words.0 = true,
        (_, "false") => wanted.words.1 = true,
        (_, "null") => wanted.words.2 = true,
        (_, number) => wanted.numbers.push(Number { text: number.into(), double: comparable(number) }),
    }
}

/// A string. A single surrogate is no text.
fn text(pointer: &str, raw: &RawValue, faults: &mut Faults) -> Option<Box<str>> {
    let text = serde_json::from_str(raw.get()).ok();
    if text.is_none() {
        faults.add(|| Fault::at(pointer, "must be a string"));
    }
    text
}

/// The only field of an object.
fn only_field<'a>(pointer: &str, raw: &'a RawValue, faults: &mut Faults) -> Option<(String, &'a RawValue)> {
    let (mut first, mut count) = (None, 0);
    let read = each_field(raw, |name, value| {
        count += 1;
        if count == 1 {
            first = Some((name.to_owned(), value));
        }
    });
    if read.is_err() || count != 1 {
        faults.add(|| Fault::at(pointer, "must be an object with exactly one field, the type of the match"));
        return None;
    }
    first
}

/// Adds what an object such as `{ "prefix": "a" }` accepts.
fn add_match(wanted: &mut Wanted, pointer: &str, raw: &RawValue, faults: &mut Faults) {
    let Some((name, value)) = only_field(pointer, raw, faults) else { return };
    let pointer = format!("{pointer}/{}", pointer_token(&name));
    match name.as_str() {
        "exists" => match value.get() {
            "true" => wanted.present = true,
            "false" => wanted.absent = true,
            _ => faults.add(|| Fault::at(pointer, "must be true or false")),
        },
        "exactly" => wanted.texts.extend(text(&pointer, value, faults)),
        "numeric" => match range(value) {
            Ok(range) => wanted.ranges.push(range),
            Err((at, why)) => faults.add(|| Fault::at(at.map_or(pointer.clone(), |at| format!("{pointer}/{at}")), why)),
        },
        "anything-but" => wanted.unwanted.extend(unwanted(&pointer, value, faults)),
        name => wanted.tests.extend(test(name, &pointer, value, faults)),
    }
}

/// A test for texts.
fn test(name: &str, pointer: &str, raw: &RawValue, faults: &mut Faults) -> Option<TextTest> {
    let is_affix = matches!(name, "prefix" | "suffix");
    if is_affix && first_byte(raw) == b'{' {
        let (inner, value) = only_field(pointer, raw, faults)?;
        let pointer = format!("{pointer}/{}", pointer_token(&inner));
        if inner != "equals-ignore-case" {
            faults.add(|| Fault::at(pointer, "must be equals-ignore-case"));
            return None;
        }
        let text = text(&pointer, value, faults)?;
        return Some(if name == "prefix" { TextTest::CaselessPrefix(text) } else { TextTest::CaselessSuffix(text) });
    }
    if !is_affix && !matches!(name, "equals-ignore-case" | "wildcard") {
        faults.add(|| Fault::at(pointer, MATCH_TYPES));
        return None;
    }
    let text = text(pointer, raw, faults)?;
    match name {
        "prefix" => Some(TextTest::Prefix(text)),
        "suffix" => Some(TextTest::Suffix(text)),
        "equals-ignore-case" => Some(TextTest::Caseless(text)),
        _ => match Wildcard::read(&text) {
            Ok(wildcard) => Some(TextTest::Wildcard(wildcard)),
            Err(why) => {
                faults.add(|| Fault::at(pointer, why));
                None
            }
        },
    }
}

/// What an `anything-but` does not accept.
fn unwanted(pointer: &str, raw: &RawValue, faults: &mut Faults) -> Option<Unwanted> {
    if first_byte(raw) == b'{' {
        return unwanted_tests(pointer, raw, faults);
    }
    let items = one_or_more(pointer, raw, faults)?;
    let is_text = |raw: &RawValue| first_byte(raw) == b'"';
    let texts = items.first().is_some_and(|(_, raw)| is_text(raw));
    let (mut of_text, mut of_number) = (Vec::new(), Vec::new());
    for (pointer, raw) in &items {
        let is_number = first_byte(raw).is_ascii_digit() || first_byte(raw) == b'-';
        if is_text(raw) && texts {
            of_text.extend(text(pointer, raw, faults));
        } else if is_number && !texts {
            match comparable(raw.get()) {
                Some(double) => of_number.push(double),
                None => faults.add(|| Fault::at(pointer, "has more digits than can be compared")),
            }
        } else {
            faults.add(|| Fault::at(pointer, "must be strings alone, or numbers alone"));
        }
    }
    of_text.sort();
    Some(if texts { Unwanted::Texts(of_text) } else { Unwanted::Numbers(of_number) })
}

/// What an `anything-but` of another match does not accept.
fn unwanted_tests(pointer: &str, raw: &RawValue, faults: &mut Faults) -> Option<Unwanted> {
    let (name, value) = only_field(pointer, raw, faults)?;
    let pointer = format!("{pointer}/{}", pointer_token(&name));
    if !matches!(name.as_str(), "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
        faults.add(|| Fault::at(pointer, "must be one of prefix, suffix, equals-ignore-case and wildcard"));
        return None;
    }
    let is_affix = matches!(name.as_str(), "prefix" | "suffix");
    let mut tests = Vec::new();
    for (pointer, raw) in one_or_more(&pointer, value, faults)? {
        if first_byte(raw) != b'"' {
            faults.add(|| Fault::at(pointer, "must be a string"));
        } else if is_affix && raw.get() == "\"\"" {
            // It would leave nothing.
            faults.add(|| Fault::at(pointer, "must not be empty"));
        } else {
            tests.extend(test(&name, &pointer, raw, faults));
        }
    }
    Some(Unwanted::Tests(tests))
}

/// The elements of an array that has some, or the value itself; each with its place.
fn one_or_more<'a>(pointer: &str, raw: &'a RawValue, faults: &mut Faults) -> Option<Vec<(String, &'a RawValue)>> {
    let Ok((items, count)) = elements(raw, usize::MAX) else { return Some(vec![(pointer.to_owned(), raw)]) };
    if count == 0 {
        faults.add(|| Fault::at(pointer, "must not be empty"));
        return None;
    }
    Some(items.into_iter().enumerate().map(|(i, raw)| (format!("{pointer}/{i}"), raw)).collect())
}
