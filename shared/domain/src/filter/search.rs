//! Whether an event matches a rule.
//!
//! Each field of a rule must find a value at its path. Where a path leads into an array,
//! fields that are found in different elements do not belong together: what two paths have
//! in common must lead through the same elements. So the search goes from field to field, in
//! the order of their paths, with the elements that were chosen so far. Only those matter
//! that a later path can lead to; choices that differ in others are the same choice. This
//! bounds the choices by the elements of the event, where trying all combinations would not.

use std::collections::BTreeSet;

use super::event::{Event, NodeId, Shape};
use super::rules::{Field, Rules};
use super::steps::{Steps, TooMuchWork};
use super::value::{Value, Wanted};

/// An element that was chosen, of an array that the first `prefix` bytes of a path lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Choice {
    prefix: usize,
    element: NodeId,
}

/// The elements that fields were found in so far, sorted.
type Choices = Vec<Choice>;

/// Whether the event matches one of the rules.
pub(super) fn matches(rules: &Rules, event: &Event<'_>, steps: &mut Steps) -> Result<bool, TooMuchWork> {
    for rule in rules.iter() {
        if matches_rule(rules, rule, event, steps)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn matches_rule(rules: &Rules, rule: &[Field], event: &Event<'_>, steps: &mut Steps) -> Result<bool, TooMuchWork> {
    let mut before = BTreeSet::from([Choices::new()]);
    for field in rule {
        let mut after = BTreeSet::new();
        for choices in &before {
            steps.one()?;
            let mut walk = Walk {
                event,
                path: rules.path(*field),
                shared: field.shared,
                choices,
                links: Vec::new(),
                open: Vec::new(),
                steps,
            };
            walk.extend(rules.wanted(*field), &mut after)?;
        }
        if after.is_empty() {
            return Ok(false);
        }
        before = after;
    }
    Ok(true)
}

/// An element that the way to a value leads through, and the one before.
struct Link {
    choice: Choice,
    before: Option<usize>,
}

/// A value to go on from.
#[derive(Clone, Copy)]
struct Stop {
    node: NodeId,
    /// Where in the path the next name begins; `None` if there is none.
    next: Option<usize>,
    /// The elements on the way here.
    link: Option<usize>,
}

/// Goes along a path to all values that agree with the choices so far.
struct Walk<'e, 'a, 's> {
    event: &'e Event<'a>,
    path: &'e str,
    /// Elements matter to later fields up to here.
    shared: usize,
    choices: &'s Choices,
    links: Vec<Link>,
    open: Vec<Stop>,
    steps: &'s mut Steps,
}

impl<'e, 'a> Walk<'e, 'a, '_> {
    /// Adds the choices that there are after this field.
    fn extend(&mut self, wanted: &Wanted, after: &mut BTreeSet<Choices>) -> Result<(), TooMuchWork> {
        let takes_values = wanted.takes_values();
        let mut is_absent = true;
        self.open.push(Stop { node: self.event.root(), next: Some(0), link: None });
        while let Some(stop) = self.open.pop() {
            self.steps.one()?;
            let Some(value) = self.go_on(stop)? else { continue };
            is_absent = false;
            if !takes_values {
                return Ok(());
            }
            let choices = self.chosen(stop.link)?;
            self.steps.search(after.len())?;
            if !after.contains(&choices) && wanted.accepts(value, self.steps)? {
                after.insert(choices);
            }
        }
        if is_absent && wanted.absent {
            after.insert(self.chosen(None)?);
        }
        Ok(())
    }

    /// Goes on from a value, or gives it if it is where the path ends.
    fn go_on(&mut self, stop: Stop) -> Result<Option<&'e Value<'a>>, TooMuchWork> {
        let event = self.event;
        match (event.shape(stop.node), stop.next) {
            (Shape::Leaf(value), None) => return Ok(Some(value)),
            (Shape::Leaf(_), Some(_)) | (Shape::Object(_), None) => {}
            (Shape::Object(own), Some(start)) => {
                let fields = event.fields(own);
                let rest = self.path.get(start..).unwrap_or_default();
                self.steps.text(rest.len())?;
                // A name may have dots, so a path can be cut into names at any of them.
                let ends = rest.match_indices('.').map(|(at, _)| at).chain([rest.len()]);
                for end in ends {
                    let name = rest.get(..end).unwrap_or_default();
                    let next = (end < rest.len()).then_some(start + end + 1);
                    self.steps.search(fields.len())?;
                    let first = fields.partition_point(|(other, _)| &**other < name);
                    let same = fields.iter().skip(first).take_while(|(other, _)| other == name);
                    self.open.extend(same.map(|(_, node)| Stop { node: *node, next, ..stop }));
                }
            }
            (Shape::Array(own), _) => self.enter(stop, event.elements(own))?,
        }
        Ok(None)
    }

    /// Goes into an array: to the element that was chosen, or to all. An element that is
    /// neither object nor array is no choice: it belongs together with every other.
    fn enter(&mut self, stop: Stop, elements: &[NodeId]) -> Result<(), TooMuchWork> {
        let event = self.event;
        let is_leaf = |element: &NodeId| matches!(event.shape(*element), Shape::Leaf(_));
        let is_chosen = |choice: &&Choice| choice.element != stop.node && event.is_in(choice.element, stop.node);
        let chosen = self.choices.iter().find(is_chosen).and_then(|choice| {
            let after = elements.partition_point(|element| *element <= choice.element);
            elements.get(after.checked_sub(1)?).copied()
        });
        if let (Some(chosen), Some(_)) = (chosen, stop.next) {
            self.open.push(Stop { node: chosen, ..stop });
            return Ok(());
        }
        let prefix = stop.next.map_or(self.path.len(), |next| next.saturating_sub(1));
        // In an array of arrays, the innermost element tells the others.
        let before = match stop.link.and_then(|link| self.links.get(link)) {
            Some(link) if link.choice.prefix == prefix => link.before,
            Some(_) | None => stop.link,
        };
        for element in elements {
            self.steps.one()?;
            let mut stop = Stop { node: *element, ..stop };
            if !is_leaf(element) {
                if chosen.is_some_and(|chosen| chosen != *element) {
                    continue;
                }
                // Later fields need not agree with what they do not lead to.
                if chosen.is_none() && prefix <= self.shared {
                    stop.link = Some(self.links.len());
                    self.links.push(Link { choice: Choice { prefix, element: *element }, before });
                }
            }
            self.open.push(stop);
        }
        Ok(())
    }

    /// The choices so far and the elements on the way, without those that no later path leads to.
    fn chosen(&mut self, mut link: Option<usize>) -> Result<Choices, TooMuchWork> {
        let matters = |choice: &&Choice| choice.prefix <= self.shared;
        let mut chosen: Choices = self.choices.iter().filter(matters).copied().collect();
        while let Some(Link { choice, before }) = link.and_then(|link| self.links.get(link)) {
            self.steps.one()?;
            let is_known = |known: &Choice| self.event.is_in(known.element, choice.element);
            if !chosen.iter().any(is_known) {
                chosen
                    .retain(|known| known.prefix != choice.prefix || !self.event.is_in(choice.element, known.element));
                chosen.push(*choice);
            }
            link = *before;
        }
        chosen.sort();
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::filter::{Filter, Match};
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    /// The element that was chosen of each array.
    type Elements = BTreeMap<usize, usize>;
    /// The values of an event, each with its path and the elements that it is in.
    type Leaves = Vec<(String, Json, Elements)>;

    fn flatten(path: &str, value: &Json, within: &Elements, arrays: &mut usize, leaves: &mut Leaves) {
        match value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    flatten(&path, value, within, arrays, leaves);
                }
            }
            Json::Array(elements) => {
                *arrays += 1;
                let array = *arrays;
                for (i, element) in elements.iter().enumerate() {
                    let mut within = within.clone();
                    if element.is_object() || element.is_array() {
                        within.insert(array, i);
                    }
                    flatten(path, element, &within, arrays, leaves);
                }
            }
            leaf @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
                leaves.push((path.to_owned(), leaf.clone(), within.clone()))
            }
        }
    }

    /// The definition: every combination is tried.
    fn tried(fields: &[(String, Vec<Option<i64>>)], leaves: &Leaves, chosen: &Elements) -> bool {
        let Some(((path, wanted), rest)) = fields.split_first() else { return true };
        let agree = |within: &Elements| within.iter().all(|(a, i)| chosen.get(a).is_none_or(|other| other == i));
        let here: Vec<_> = leaves.iter().filter(|(at, _, within)| at == path && agree(within)).collect();
        if here.is_empty() && wanted.contains(&None) && tried(rest, leaves, chosen) {
            return true;
        }
        here.iter().any(|(_, value, within)| {
            let chosen = chosen.iter().chain(within).map(|(a, i)| (*a, *i)).collect();
            wanted.contains(&value.as_i64()) && !value.is_null() && tried(rest, leaves, &chosen)
        })
    }

    fn value() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![(0..3).prop_map(|n| json!(n)), Just(json!({})), Just(json!([]))];
        leaf.prop_recursive(5, 40, 4, |inner| {
            let names = prop::sample::select(vec!["a", "b", "c", "a-", "a.b"]);
            let fields = prop::collection::btree_map(names, inner.clone(), 0..4);
            prop_oneof![
                fields.prop_map(|fields| json!(fields)),
                prop::collection::vec(inner, 0..4).prop_map(Json::from),
            ]
        })
    }

    fn fields() -> impl Strategy<Value = BTreeMap<String, Vec<Option<i64>>>> {
        let wanted = prop::collection::vec(prop::option::weighted(0.8, 0..3i64), 1..3);
        prop::collection::btree_map(r"payload(\.(a|b|c|a-)){0,3}", wanted, 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn it_finds_what_trying_everything_finds(payload in value(), fields in fields()) {
            let of = |wanted: &Option<i64>| wanted.map_or(json!({"exists": false}), |number| json!(number));
            let pattern: serde_json::Map<_, _> = fields.iter()
                .map(|(path, wanted)| (path.clone(), wanted.iter().map(of).collect()))
                .collect();
            let (pattern, text) = (Json::from(pattern).to_string(), payload.to_string());
            let mut leaves = Leaves::new();
            flatten("payload", &payload, &Elements::new(), &mut 0, &mut leaves);
            let fields: Vec<_> = fields.into_iter().collect();
            let wanted = tried(&fields, &leaves, &Elements::new());
            let filter = Filter::read("", serde_json::from_str(&pattern).unwrap()).unwrap();
            let found = filter.matches(&Event::new("a", serde_json::from_str(&text).unwrap()));
            prop_assert_eq!(found == Match::Matched, wanted, "{} {}", pattern, text);
        }
    }
}
