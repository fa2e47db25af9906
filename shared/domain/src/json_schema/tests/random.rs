//! Random schemas and payloads: the crate says the same of a payload as it is, and nothing is a
//! surprise.

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A small schema, often of parts that meet in a payload.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({ "type": "string", "minLength": 1 })),
        Just(json!({ "type": ["integer", "null"] })),
        Just(json!({ "enum": [1, "a", null, { "a": 1 }] })),
        Just(json!({ "minimum": 1, "multipleOf": 2 })),
        Just(json!({ "pattern": "^a", "maxLength": 2 })),
        Just(json!({ "required": ["a"], "additionalProperties": false })),
        Just(json!({ "$ref": "#/$defs/d" })),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            (prop::sample::select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]), list)
                .prop_map(|(k, v)| json!({ k: v })),
            (
                prop::sample::select(vec!["not", "items", "contains", "propertyNames", "additionalProperties"]),
                inner.clone()
            )
                .prop_map(|(k, v)| json!({ k: v })),
            (inner.clone(), inner.clone(), any::<bool>())
                .prop_map(|(a, b, open)| json!({ "properties": { "a": a, "b": b }, "unevaluatedProperties": open })),
            (inner.clone(), inner)
                .prop_map(|(a, b)| json!({ "if": a, "then": b, "uniqueItems": true, "minProperties": 1 })),
        ]
    })
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const KEYWORDS: [&str; 30] = [
    "a",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$defs",
    "definitions",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "dependentSchemas",
    "dependencies",
    "properties",
    "patternProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "unevaluatedItems",
    "contains",
    "type",
    "pattern",
    "minLength",
    "required",
    "multipleOf",
];

/// JSON whose fields have these names.
fn values(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        (-3..5_i64).prop_map(|n| json!(n)),
        Just(json!(1.5)),
        "[ab]{0,3}".prop_map(|text| json!(text)),
        prop::sample::select(vec!["#", "#/$defs", "#/properties/a", "#a", "object", "urn:a"])
            .prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map(prop::sample::select(names).prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields| json!(fields)),
        ]
    })
}

proptest! {
    #[test]
    fn a_measured_payload_is_judged_as_any_other(part in schemas(), root in schemas(), payload in values(&NAMES)) {
        let whole = json!({ "$defs": { "d": { "type": "string" } }, "allOf": [root], "anyOf": [part, { "type": "object" }] });
        let plain: Validator = jsonschema::options().offline().build(&whole).unwrap();
        let wanted: BTreeSet<String> = plain.iter_errors(&payload).map(|error| error.instance_path().as_str().to_owned()).collect();
        let faults = schema(&whole.to_string()).check("", raw(&payload.to_string()));
        prop_assert_eq!(faults.is_empty(), plain.is_valid(&payload));
        // Missing and unknown fields are told of themselves, and not of their objects.
        let near = |fault: &Fault| wanted.iter().any(|path| {
            let below = fault.pointer.strip_prefix(path.as_str());
            below.is_some_and(|below| below.matches('/').count() <= 1)
        });
        prop_assert!(faults.told().iter().all(near), "{:?} {:?}", faults, wanted);
    }

    #[test]
    fn no_json_as_a_schema_or_payload_is_a_surprise(text in values(&KEYWORDS), payload in values(&NAMES)) {
        if let Ok(schema) = JsonSchema::read("", raw(&text.to_string())) {
            schema.check("", raw(&payload.to_string()));
        }
    }
}
