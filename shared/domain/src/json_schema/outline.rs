//! What a JSON Schema is like before it is compiled: which of its parts are schemas, where its
//! references lead, and how much work one value of a payload can be. Every fault has its place.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::wording;
use crate::fault::Faults;

/// Most regular expressions. Each takes memory.
const MAX_PATTERNS: usize = 100;
/// How many schemas can apply to one value inside one another, by references and by keywords
/// such as `allOf`. Each takes stack, as often as a payload is deep.
const MAX_CHAIN: usize = 32;
/// How many schemas can apply to one value in all.
const MAX_AT_ONCE: u64 = 10_000;

/// What the value of a keyword is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// A schema.
    One,
    /// A schema, or an array of schemas.
    Some,
    /// Schemas by name. Under `dependencies` they may be arrays of names.
    Named,
}

/// The keywords that hold schemas for the same value, in any draft.
const IN_PLACE: [(&str, Holds); 9] = [
    ("allOf", Holds::Some),
    ("anyOf", Holds::Some),
    ("oneOf", Holds::Some),
    ("not", Holds::One),
    ("if", Holds::One),
    ("then", Holds::One),
    ("else", Holds::One),
    ("dependentSchemas", Holds::Named),
    ("dependencies", Holds::Named),
];
/// The keywords that hold schemas for parts of the value, or for nothing by themselves.
const BELOW: [(&str, Holds); 13] = [
    ("properties", Holds::Named),
    ("patternProperties", Holds::Named),
    ("additionalProperties", Holds::One),
    ("unevaluatedProperties", Holds::One),
    ("propertyNames", Holds::One),
    ("items", Holds::Some),
    ("prefixItems", Holds::Some),
    ("additionalItems", Holds::One),
    ("unevaluatedItems", Holds::One),
    ("contains", Holds::One),
    ("contentSchema", Holds::One),
    ("$defs", Holds::Named),
    ("definitions", Holds::Named),
];
/// The keywords that refer to a schema for the same value.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// A schema in the schema.
struct Part<'a> {
    value: &'a Value,
    /// Where it is, as a JSON Pointer below the part that it is in; of the root or of what a
    /// reference found elsewhere, as a whole.
    place: String,
    inside: Option<usize>,
    /// The parts that apply to the same value.
    in_place: Vec<usize>,
}

/// What one part comes to for one value.
#[derive(Clone, Copy)]
enum Weight {
    /// It is being weighed.
    Open,
    /// So many schemas inside one another, and in all.
    Known { chain: usize, at_once: u64 },
}

/// A schema taken apart.
pub(super) struct Outline<'a> {
    parts: Vec<Part<'a>>,
    by_address: BTreeMap<usize, usize>,
    anchors: BTreeMap<&'a str, usize>,
    /// The keyword that names a schema: it was `id` once.
    id: &'static str,
    /// Regular expressions, with their places.
    patterns: Vec<(String, &'a str)>,
    longest_not: usize,
    base: &'a str,
    faults: Faults,
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

fn step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl<'a> Outline<'a> {
    /// Takes a schema apart. Faults point below `base`; `id` is the keyword that names a schema.
    pub(super) fn of(base: &'a str, root: &'a Value, id: &'static str) -> Self {
        let mut outline = Self {
            parts: Vec::new(),
            by_address: BTreeMap::new(),
            anchors: BTreeMap::new(),
            id,
            patterns: Vec::new(),
            longest_not: 0,
            base,
            faults: Faults::default(),
        };
        outline.part(root, String::new(), None);
        outline.follow_references(root);
        if outline.faults.is_empty() {
            outline.weigh_all();
        }
        if outline.patterns.len() > MAX_PATTERNS {
            outline.fault("", format!("has at most {MAX_PATTERNS} regular expressions"));
            outline.patterns.clear();
        }
        outline
    }

    /// Its regular expressions, with their places; none if there are too many.
    pub(super) fn patterns(&self) -> &[(String, &'a str)] {
        &self.patterns
    }

    /// The length of the longest schema under a `not`, as text. Errors of a `not` keep it.
    pub(super) fn longest_not(&self) -> usize {
        self.longest_not
    }

    /// What is wrong.
    pub(super) fn into_faults(self) -> Faults {
        self.faults
    }

    /// Notes a fault at a place in the schema.
    pub(super) fn fault(&mut self, place: &str, message: impl Into<String>) {
        let base = self.base;
        self.faults.add(|| wording::fault(base, place, None, message.into()));
    }

    /// Where a part is.
    fn pointer(&self, part: usize) -> String {
        let mut places = Vec::new();
        let mut at = Some(part);
        while let Some(part) = at {
            places.push(self.parts[part].place.as_str());
            at = self.parts[part].inside;
        }
        places.into_iter().rev().collect()
    }

    /// Takes in a part, and everything in it.
    fn part(&mut self, value: &'a Value, place: String, inside: Option<usize>) -> usize {
        if let Some(known) = self.by_address.get(&address(value)) {
            return *known;
        }
        let part = self.parts.len();
        self.parts.push(Part { value, place, inside, in_place: Vec::new() });
        self.by_address.insert(address(value), part);
        let Value::Object(fields) = value else {
            if !value.is_boolean() {
                self.fault(&self.pointer(part), "must be an object or a boolean");
            }
            return part;
        };
        self.take_names(part, fields);
        self.take_patterns(part, fields);
        for (keyword, holds) in IN_PLACE {
            let found = self.below(part, fields, keyword, holds);
            self.parts[part].in_place.extend(found);
        }
        for (keyword, holds) in BELOW {
            self.below(part, fields, keyword, holds);
        }
        part
    }

    /// Takes in what a keyword of a part holds.
    fn below(&mut self, part: usize, fields: &'a Map<String, Value>, keyword: &str, holds: Holds) -> Vec<usize> {
        let at = step(keyword);
        match (holds, fields.get(keyword)) {
            (Holds::Some, Some(Value::Array(items))) => {
                let items = items.iter().enumerate();
                items.map(|(i, item)| self.part(item, format!("{at}/{i}"), Some(part))).collect()
            }
            (Holds::One | Holds::Some, Some(value)) => vec![self.part(value, at, Some(part))],
            (Holds::Named, Some(Value::Object(named))) => {
                let schemas = named.iter().filter(|(_, value)| keyword != "dependencies" || !value.is_array());
                schemas.map(|(name, value)| self.part(value, format!("{at}{}", step(name)), Some(part))).collect()
            }
            // What is no object is told of with the rest of what the dialect forbids.
            (Holds::Named, Some(_)) | (_, None) => Vec::new(),
        }
    }

    /// Notes what a part is called.
    fn take_names(&mut self, part: usize, fields: &'a Map<String, Value>) {
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(Value::String(name)) = fields.get(keyword) {
                self.anchors.insert(name, part);
            }
        }
        if part > 0 && fields.get(self.id).is_some_and(Value::is_string) {
            let place = format!("{}/{}", self.pointer(part), self.id);
            let message = "is for the whole schema only: refer to its parts as `#/$defs/name`";
            self.fault(&place, message);
        }
    }

    fn take_patterns(&mut self, part: usize, fields: &'a Map<String, Value>) {
        if let Some(Value::String(pattern)) = fields.get("pattern") {
            self.patterns.push((format!("{}/pattern", self.pointer(part)), pattern));
        }
        if let Some(Value::Object(named)) = fields.get("patternProperties") {
            let base = format!("{}/patternProperties", self.pointer(part));
            // As many as tell that they are too many.
            let more = named.keys().take(MAX_PATTERNS + 1);
            self.patterns.extend(more.map(|pattern| (format!("{base}{}", step(pattern)), pattern.as_str())));
        }
        if let Some(not) = fields.get("not") {
            self.longest_not = self.longest_not.max(not.to_string().len());
        }
        self.patterns.truncate(MAX_PATTERNS + 1);
    }

    /// Connects what is referred to, and takes in what nothing else led to.
    fn follow_references(&mut self, root: &'a Value) {
        let mut part = 0;
        while let Some(Part { value, .. }) = self.parts.get(part) {
            let value = *value;
            for keyword in REFERENCES {
                let Some(Value::String(reference)) = value.get(keyword) else { continue };
                match self.target(root, reference) {
                    Some(target) => self.parts[part].in_place.push(target),
                    None => {
                        let place = format!("{}/{keyword}", self.pointer(part));
                        self.fault(&place, "must lead to a part of this schema, as `#/$defs/name`");
                    }
                }
            }
            part += 1;
        }
    }

    /// The part that a reference leads to. A reference that does not begin with `#` leads out of
    /// the schema.
    fn target(&mut self, root: &'a Value, reference: &str) -> Option<usize> {
        let fragment = percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()?;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return self.anchors.get(fragment.as_ref()).copied();
        }
        let value = root.pointer(&fragment).filter(|value| value.is_object() || value.is_boolean())?;
        Some(self.part(value, fragment.into_owned(), None))
    }

    /// Finds a part that is too much work for one value. One is told: others have the same cause.
    fn weigh_all(&mut self) {
        let mut known = vec![None; self.parts.len()];
        for part in 0..self.parts.len() {
            if let Err((place, message)) = self.weigh(part, 1, &mut known) {
                let place = self.pointer(place);
                return self.fault(&place, message);
            }
        }
    }

    fn weigh(&self, part: usize, depth: usize, known: &mut [Option<Weight>]) -> Result<(usize, u64), (usize, String)> {
        match known[part] {
            Some(Weight::Known { chain, at_once }) => return Ok((chain, at_once)),
            Some(Weight::Open) => return Err((part, "leads back to itself without going into the payload".to_owned())),
            None => known[part] = Some(Weight::Open),
        }
        let (mut chain, mut at_once) = (1, 1_u64);
        for next in &self.parts[part].in_place {
            if depth == MAX_CHAIN {
                chain = MAX_CHAIN + 1;
                break;
            }
            let (below, many) = self.weigh(*next, depth + 1, known)?;
            chain = chain.max(below + 1);
            at_once = at_once.saturating_add(many);
        }
        if chain > MAX_CHAIN {
            return Err((part, format!("has more than {MAX_CHAIN} schemas inside one another for one value")));
        }
        if at_once > MAX_AT_ONCE {
            return Err((part, format!("has more than {MAX_AT_ONCE} schemas for one value")));
        }
        known[part] = Some(Weight::Known { chain, at_once });
        Ok((chain, at_once))
    }
}
