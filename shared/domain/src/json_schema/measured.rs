//! A payload as the validator sees it: every look at it is counted, and a check that takes too
//! many looks ends at once. The crate has no limit of its own, and some schemas double the work
//! with every level of a payload.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::resume_unwind;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp, unique};
use serde_json::{Map, Number, Value};

/// So many bytes of a text are one look.
const BYTES_A_LOOK: usize = 64;

/// What a check may still cost.
#[derive(Debug)]
pub(super) struct Work {
    looks: Cell<usize>,
    errors: Cell<usize>,
}

/// What a check that costs too much unwinds with.
struct TooMuchWork;

impl Work {
    /// So many looks, and so many errors that are made, also those of alternatives that do not
    /// matter in the end.
    pub(super) fn new(looks: usize, errors: usize) -> Self {
        Self { looks: Cell::new(looks), errors: Cell::new(errors) }
    }

    fn take(left: &Cell<usize>, count: usize) {
        match left.get().checked_sub(count) {
            Some(rest) => left.set(rest),
            // No panic hook is called. Nothing else ends a check of this crate at once.
            None => resume_unwind(Box::new(TooMuchWork)),
        }
    }
}

/// The representation of JSON whose values are [`Measured`].
pub(super) struct MeasuredJson;

/// A value and what may be spent on it.
#[derive(Clone, Copy)]
pub(super) struct Measured<'a> {
    value: &'a Value,
    /// `None` for the name of a field, which was counted with its object.
    work: Option<&'a Work>,
}

impl<'a> Measured<'a> {
    /// A whole payload.
    pub(super) fn new(value: &'a Value, work: &'a Work) -> Self {
        Self { value, work: Some(work) }
    }

    fn look(&self) -> &'a Value {
        self.looks(1)
    }

    fn looks(&self, count: usize) -> &'a Value {
        if let Some(work) = self.work {
            Work::take(&work.looks, count);
        }
        self.value
    }

    fn text(&self) -> Option<&'a str> {
        let text = self.look().as_str()?;
        self.looks(text.len() / BYTES_A_LOOK);
        Some(text)
    }

    fn below(&self, value: &'a Value) -> Self {
        Self { value, work: self.work }
    }
}

impl Json for MeasuredJson {
    type Node<'a> = Measured<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;
    // As for the crate's own values, which are kept in the same maps.
    const KEYS_PER_LOOKUP: usize = 2;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Measured<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        f(Measured { value: buffer, work: None })
    }
}

impl<'a> Node<'a, MeasuredJson> for Measured<'a> {
    type Object = Fields<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Fields<'a>> {
        let fields = self.look().as_object()?;
        Some(Fields { fields, of: *self })
    }

    fn as_array(&self) -> Option<Items<'a>> {
        let items = self.look().as_array()?;
        Some(Items { items, of: *self })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.text().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.look().as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.look().as_bool()
    }

    fn is_null(&self) -> bool {
        self.look().is_null()
    }

    fn json_type(&self) -> JsonType {
        JsonType::from(self.look())
    }

    fn string_length(&self) -> Option<u64> {
        self.text().map(|text| text.chars().count() as u64)
    }

    fn equals_value(&self, expected: &Value) -> bool {
        cmp::equal(self.look(), expected)
    }

    /// Only errors ask for it, to keep what they are about. They get the names of fields and
    /// nothing else, because errors of alternatives keep copies.
    fn to_value(&self) -> Cow<'a, Value> {
        let Some(work) = self.work else { return Cow::Borrowed(self.value) };
        Work::take(&work.errors, 1);
        Cow::Owned(Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.value).addr()))
    }
}

/// The fields of an object.
pub(super) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    of: Measured<'a>,
}

impl<'a> Object<'a, MeasuredJson> for Fields<'a> {
    type Node = Measured<'a>;
    type MemberName = &'a str;
    type MembersIter = FieldsIter<'a>;

    fn len(&self) -> usize {
        self.fields.len()
    }

    fn get(&self, key: &String) -> Option<Measured<'a>> {
        self.of.look();
        self.fields.get(key).map(|value| self.of.below(value))
    }

    fn members(&self) -> FieldsIter<'a> {
        FieldsIter { fields: self.fields.iter(), of: self.of }
    }
}

/// Goes through the fields of an object.
pub(super) struct FieldsIter<'a> {
    fields: serde_json::map::Iter<'a>,
    of: Measured<'a>,
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = (&'a str, Measured<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.fields.next()?;
        self.of.looks(1 + name.len() / BYTES_A_LOOK);
        Some((name, self.of.below(value)))
    }
}

/// The items of an array.
pub(super) struct Items<'a> {
    items: &'a [Value],
    of: Measured<'a>,
}

impl<'a> Array<'a, MeasuredJson> for Items<'a> {
    type Node = Measured<'a>;
    type ElementsIter = ItemsIter<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> ItemsIter<'a> {
        ItemsIter { items: self.items.iter(), of: self.of }
    }

    fn is_unique(&self) -> bool {
        // Everything in the items is compared.
        self.items.iter().for_each(|item| count_all(&self.of.below(item)));
        unique::is_unique(self.items)
    }
}

/// Looks at a value and everything in it once. A value that was read from text is not deep.
fn count_all(node: &Measured<'_>) {
    node.text();
    match node.value {
        Value::Array(items) => items.iter().for_each(|item| count_all(&node.below(item))),
        Value::Object(fields) => fields.values().for_each(|value| count_all(&node.below(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Goes through the items of an array.
pub(super) struct ItemsIter<'a> {
    items: std::slice::Iter<'a, Value>,
    of: Measured<'a>,
}

impl<'a> Iterator for ItemsIter<'a> {
    type Item = Measured<'a>;

    fn next(&mut self) -> Option<Measured<'a>> {
        let item = self.items.next()?;
        self.of.look();
        Some(self.of.below(item))
    }
}
