//! An event as filters see it: a tree of values, made once and asked by many filters. It
//! is made without recursion, and costs memory in proportion to its text.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::scan::{Scanner, Token};
use super::value::Value;

/// The number of a value in its tree. A value is numbered before what is in it.
pub(super) type NodeId = u32;

/// The event of an endpoint: `{ "event_type": …, "payload": … }`.
#[derive(Debug)]
pub struct Event<'a> {
    nodes: Vec<Node<'a>>,
    /// The fields of all objects, those of one object together and sorted by name.
    fields: Vec<(Cow<'a, str>, NodeId)>,
    /// The elements of all arrays, those of one array together and in their order.
    elements: Vec<NodeId>,
}

/// A value, and the number that follows the last one in it.
#[derive(Debug)]
struct Node<'a> {
    shape: Shape<'a>,
    end: NodeId,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    /// An object: which fields are its own.
    Object(Range<u32>),
    /// An array: which elements are its own.
    Array(Range<u32>),
    /// Neither.
    Leaf(Value<'a>),
}

/// An object or array that has not ended.
struct Open<'a> {
    id: NodeId,
    is_object: bool,
    /// How many fields and elements of outer values wait for their end.
    fields: usize,
    elements: usize,
    /// The name of the field whose value comes next.
    name: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// The event of this type with this payload.
    pub fn new(event_type: &'a str, payload: &'a RawValue) -> Self {
        // Values are numbered in their order, so these numbers are known.
        let (root, kind, first) = (0, 1, 2);
        let fields = vec![("event_type".into(), kind), ("payload".into(), first)];
        let mut event = Self { nodes: Vec::new(), fields, elements: Vec::new() };
        event.add(Shape::Object(0..2));
        event.add(Shape::Leaf(Value::Text(event_type.into())));
        event.read(payload.get());
        event.end(root);
        event
    }

    /// The whole of it.
    pub(super) fn root(&self) -> NodeId {
        0
    }

    /// What a value is. There is one for each number that this tree gave.
    pub(super) fn shape(&self, id: NodeId) -> &Shape<'a> {
        &self.nodes[id as usize].shape
    }

    /// Whether the value `inner` is `outer`, or somewhere in it.
    pub(super) fn is_in(&self, inner: NodeId, outer: NodeId) -> bool {
        (outer..self.nodes[outer as usize].end).contains(&inner)
    }

    /// The fields of an object, sorted by name.
    pub(super) fn fields(&self, own: &Range<u32>) -> &[(Cow<'a, str>, NodeId)] {
        &self.fields[own.start as usize..own.end as usize]
    }

    /// The elements of an array, in their order.
    pub(super) fn elements(&self, own: &Range<u32>) -> &[NodeId] {
        &self.elements[own.start as usize..own.end as usize]
    }

    fn add(&mut self, shape: Shape<'a>) -> NodeId {
        let id = count(self.nodes.len());
        self.nodes.push(Node { shape, end: id + 1 });
        id
    }

    fn end(&mut self, id: NodeId) {
        let end = count(self.nodes.len());
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.end = end;
        }
    }

    /// Adds the values of a JSON text.
    fn read(&mut self, text: &'a str) {
        let mut open: Vec<Open<'a>> = Vec::new();
        let (mut fields, mut elements) = (Vec::new(), Vec::new());
        for token in Scanner::new(text) {
            let shape = match token {
                Token::Name(name) => {
                    if let Some(open) = open.last_mut() {
                        open.name = name;
                    }
                    continue;
                }
                Token::End => {
                    if let Some(open) = open.pop() {
                        self.close(open, &mut fields, &mut elements);
                    }
                    continue;
                }
                Token::Object => Shape::Object(0..0),
                Token::Array => Shape::Array(0..0),
                Token::Leaf(value) => Shape::Leaf(value),
            };
            let is_object = matches!(shape, Shape::Object(_));
            let is_leaf = matches!(shape, Shape::Leaf(_));
            let id = self.add(shape);
            match open.last_mut() {
                Some(outer) if outer.is_object => fields.push((std::mem::take(&mut outer.name), id)),
                Some(_) => elements.push(id),
                None => {}
            }
            if !is_leaf {
                let (fields, elements) = (fields.len(), elements.len());
                open.push(Open { id, is_object, fields, elements, name: Cow::default() });
            }
        }
    }

    /// Moves what is in an object or array to its place.
    fn close(&mut self, open: Open<'a>, fields: &mut Vec<(Cow<'a, str>, NodeId)>, elements: &mut Vec<NodeId>) {
        let shape = if open.is_object {
            let start = count(self.fields.len());
            let own = fields.get_mut(open.fields..).unwrap_or_default();
            own.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.fields.extend(fields.drain(open.fields..));
            Shape::Object(start..count(self.fields.len()))
        } else {
            let start = count(self.elements.len());
            self.elements.extend(elements.drain(open.elements..));
            Shape::Array(start..count(self.elements.len()))
        };
        if let Some(node) = self.nodes.get_mut(open.id as usize) {
            node.shape = shape;
        }
        self.end(open.id);
    }
}

/// A count of values. A payload of 4 GiB, which would have more, is none.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event: &Event<'_>, id: NodeId) -> serde_json::Value {
        match event.shape(id) {
            Shape::Object(own) => {
                let fields = event.fields(own).iter();
                fields.map(|(name, id)| (name.to_string(), shown(event, *id))).collect()
            }
            Shape::Array(own) => event.elements(own).iter().map(|id| shown(event, *id)).collect(),
            Shape::Leaf(Value::Text(text)) => text.to_string().into(),
            Shape::Leaf(Value::Number { text, .. }) => serde_json::from_str(text).unwrap(),
            Shape::Leaf(Value::True) => true.into(),
            Shape::Leaf(Value::False) => false.into(),
            Shape::Leaf(Value::Null) => serde_json::Value::Null,
        }
    }

    #[test]
    fn a_payload_is_read_as_it_is() {
        for payload in [
            "7",
            " [ ] ",
            r#"{ "b" : [ 1 , [ ], {"x":{}} , "a\"\\" ], "a\n":{"z":null,"y":[true,false,[[-1.5e3]]]} , "":"" }"#,
        ] {
            let raw: &RawValue = serde_json::from_str(payload).unwrap();
            let event = Event::new("a.b", raw);
            let wanted: serde_json::Value = serde_json::from_str(payload).unwrap();
            assert_eq!(shown(&event, 0), serde_json::json!({"event_type": "a.b", "payload": wanted}));
            assert!((0..count(event.nodes.len())).all(|id| event.is_in(id, 0)));
        }
    }

    #[test]
    fn a_deep_payload_costs_no_stack() {
        let text = format!("{}{}", r#"[{"a":"#.repeat(25_000), "1".to_owned() + &"}]".repeat(25_000));
        let event = Event::new("a", serde_json::from_str(&text).unwrap());
        assert_eq!(event.nodes.len(), 50_003);
    }
}
