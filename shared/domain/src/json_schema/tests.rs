//! What schemas say of payloads, which schemas are refused, and what both may cost.

mod random;

use serde_json::json;

use super::*;

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

fn schema(text: &str) -> JsonSchema {
    JsonSchema::read("/schema", raw(text)).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn told(faults: &Faults) -> Vec<(&str, &str)> {
    faults.told().iter().map(|fault| (fault.pointer.as_str(), fault.message.as_str())).collect()
}

/// Objects with one field in one another.
fn nested(field: &str, leaf: &str, depth: usize) -> String {
    format!("{}{leaf}{}", format!(r#"{{"{field}":"#).repeat(depth), "}".repeat(depth))
}

/// The pointers of what is wrong with a schema.
fn refused(text: &str) -> Vec<String> {
    let faults = JsonSchema::read("/schema", raw(text)).map(|_| text).unwrap_err();
    faults.told().iter().map(|fault| fault.pointer.clone()).collect()
}

fn fits(schema_text: &str, payload: &str) -> bool {
    schema(schema_text).check("", raw(payload)).is_empty()
}

#[test]
fn every_fault_of_a_payload_is_told_at_its_place_and_none_repeats_a_value() {
    let order = schema(
        r#"{"type":"object","required":["id","z~/"],"additionalProperties":false,"properties":{
            "id":{"type":"string","pattern":"^o_[0-9]+$"},"total":{"type":"number","minimum":0.5,"multipleOf":0.5},
            "state":{"enum":["open","paid"]},"lines":{"type":"array","minItems":2,"uniqueItems":true,"items":{"type":["string","null"]}},
            "note":{"maxLength":3},"kind":{"const":"k"},"either":{"anyOf":[{"type":"null"},{"minimum":3,"type":"integer"}]},
            "one":{"oneOf":[{"minimum":1},{"minimum":2}]},"not":{"not":{"type":"string"}},"never":false,
            "names":{"propertyNames":{"maxLength":2}},"has":{"contains":{"const":1}}}}"#,
    );
    let payload = r#"{"id":"canary","total":0.3,"state":"canary","lines":["canary","canary",7],"note":"canary","kind":"canary",
        "either":"canary","one":3,"not":"canary","never":"canary","names":{"canary":1},"has":["canary"],"x/y":"canary"}"#;
    let faults = order.check("/payload", raw(payload));
    let mut all = told(&faults);
    all.sort_unstable();
    assert_eq!(
        all,
        [
            ("/payload/either", "fits none of the alternatives"),
            ("/payload/has", "must contain what the schema says, as often as it says"),
            ("/payload/id", "must match the pattern `^o_[0-9]+$`"),
            ("/payload/kind", "is not the value that is allowed"),
            ("/payload/lines", "has an item twice"),
            ("/payload/lines/2", "must be of one of these types: null, string"),
            ("/payload/names/canary", "must not have this name"),
            ("/payload/never", "must not be there"),
            ("/payload/not", "is what the schema excludes"),
            ("/payload/note", "has at most 3 characters"),
            ("/payload/one", "fits more than one of the alternatives"),
            ("/payload/state", "is none of the values that are allowed"),
            ("/payload/total", "must be a multiple of 0.5"),
            ("/payload/total", "must be at least 0.5"),
            ("/payload/x~1y", "unknown field"),
            ("/payload/z~0~1", "the field is missing"),
        ]
    );
    assert!(order.check("/payload", raw(r#"{"id":"o_1","z~/":1}"#)).told()[0].pointer == "/payload/z~0~1");
    assert_eq!(told(&order.check("", raw("7"))), [("", "must be of the type object")]);
}

#[test]
fn a_schema_means_what_its_dialect_says() {
    let dialect = |name: &str, rest: &str| format!(r#"{{"$schema":"{name}",{rest}}}"#);
    let four = "http://json-schema.org/draft-04/schema#";
    assert!(!fits(&dialect(four, r#""minimum":1,"exclusiveMinimum":true"#), "1"));
    for name in ["http://json-schema.org/draft-06/schema#", "http://json-schema.org/draft-07/schema"] {
        assert!(!fits(&dialect(name, r#""exclusiveMinimum":1"#), "1"), "{name}");
        assert!(!fits(&dialect(name, r#""format":"ipv4""#), r#""canary""#), "{name}");
    }
    for name in ["https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2020-12/schema"] {
        assert!(!fits(&dialect(name, r#""dependentRequired":{"a":["b"]}"#), r#"{"a":1}"#), "{name}");
        assert!(fits(&dialect(name, r#""format":"ipv4""#), r#""canary""#), "{name}: a note");
    }
    // Without a dialect, the newest.
    assert!(!fits(r#"{"prefixItems":[{"type":"string"}]}"#, "[1]"));
    assert!(fits(r#"{"format":"ipv4","unknown":[]}"#, r#""canary""#));
    assert!(fits("true", "{}") && !fits("false", "{}"));
    assert!(fits(&dialect(four, r#""format":"regex""#), r#""((""#), "the payload is not compiled");
}

#[test]
fn a_schema_refers_to_its_own_parts() {
    for reference in ["#/$defs/text", "#/%24defs/text", "#text", "#/elsewhere/0"] {
        let text = format!(
            r#"{{"$id":"https://a.example/s","properties":{{"a":{{"$ref":"{reference}"}}}},
                "$defs":{{"text":{{"$anchor":"text","type":"string"}}}},"elsewhere":[{{"type":"string"}}]}}"#
        );
        assert!(fits(&text, r#"{"a":"x"}"#) && !fits(&text, r#"{"a":1}"#), "{reference}");
    }
    let list = r##"{"required":["value"],"properties":{"next":{"anyOf":[{"type":"null"},{"$ref":"#"}]}}}"##;
    assert!(fits(list, r#"{"value":1,"next":{"value":2,"next":null}}"#));
    assert!(!fits(list, r#"{"value":1,"next":{"next":null}}"#));
    // What only looks like a reference is data.
    assert!(fits(
        r#"{"const":{"$ref":"https://a.example/x"},"default":{"$ref":"x"}}"#,
        r#"{"$ref":"https://a.example/x"}"#
    ));
    assert!(fits(r#"{"properties":{"$ref":{"type":"string"},"not":true,"pattern":{}}}"#, r#"{"$ref":"x"}"#));
}

#[test]
fn a_schema_that_leads_out_or_is_none_is_refused_at_its_places() {
    for reference in
        ["https://a.example/x", "file:///etc/passwd", "other.json#/x", "", "#/$defs/none", "#none", "#/%FF"]
    {
        let text = format!(r#"{{"properties":{{"a/b":{{"items":{{"$ref":"{reference}"}}}}}}}}"#);
        assert_eq!(refused(&text), ["/schema/properties/a~1b/items/$ref"], "{reference}");
    }
    assert_eq!(refused(r#"{"$dynamicRef":"https://a.example/x#y"}"#), ["/schema/$dynamicRef"]);
    assert_eq!(refused(r#"{"$schema":"https://a.example/own"}"#), ["/schema/$schema"]);
    assert_eq!(refused(r#"{"$defs":{"a":{"$id":"https://a.example/a"}}}"#), ["/schema/$defs/a/$id"]);
    assert_eq!(
        refused(
            r##"{"properties":{"a":{"type":"nope"},"b":7,"c":{"pattern":"(("}},"required":7,"allOf":[],
                "patternProperties":{"^(?=x)":{},"(a)\\1":{}},"items":{"$ref":"#/nowhere"}}"##
        ),
        [
            "/schema/properties/b",
            "/schema/items/$ref",
            "/schema/patternProperties/(a)\\1",
            "/schema/patternProperties/^(?=x)",
            "/schema/properties/c/pattern",
            "/schema/allOf",
            "/schema/properties/a/type",
            "/schema/required",
        ]
    );
    for (text, place) in
        [("7", ""), ("null", ""), ("[]", ""), (r#"{"not":[]}"#, "/not"), (r#"{"items":[{}]}"#, "/items")]
    {
        assert_eq!(refused(text), [format!("/schema{place}")], "{text}");
    }
    let faults =
        JsonSchema::read("/schema", raw(r#"{"enum":"canary","pattern":"(canary","$ref":"canary"}"#)).unwrap_err();
    assert!(faults.count() == 3 && told(&faults).iter().all(|(_, message)| !message.contains("canary")), "{faults:?}");
}

#[test]
fn a_schema_is_bounded() {
    let taken = |text: &str| JsonSchema::read("/schema", raw(text)).is_ok();
    let padded = |bytes: usize| format!(r#"{{"description":"{}"}}"#, "x".repeat(bytes - 18));
    assert!(taken(&padded(MAX_SCHEMA)));
    assert_eq!(refused(&padded(MAX_SCHEMA + 1)), ["/schema"]);
    // Schemas inside one another, for other values and for the same.
    let within = |keyword: &str, depth: usize| nested(keyword, "{}", depth);
    assert!(taken(&within("items", 100)) && taken(&within("not", 31)));
    assert_eq!(refused(&within("items", 200)), ["/schema"]);
    assert_eq!(refused(&within("not", 32)).len(), 1);
    // Regular expressions.
    let patterns = |count: usize| {
        let patterns: Vec<Value> = (0..count).map(|n| json!({ "pattern": n.to_string() })).collect();
        json!({ "oneOf": patterns }).to_string()
    };
    assert!(taken(&patterns(100)));
    assert_eq!(refused(&patterns(101)), ["/schema"]);
    assert_eq!(refused(r#"{"pattern":"^(a{1000}){1000}$"}"#), ["/schema/pattern"]);
    let faults = JsonSchema::read("", raw(&format!(r#"{{"allOf":[{}0]}}"#, "0,".repeat(30_000)))).unwrap_err();
    assert_eq!((faults.count(), faults.told().len()), (30_001, 100));
}

#[test]
fn references_that_double_or_lead_in_a_circle_are_refused() {
    let doubled = |times: usize| {
        let twice = |n: usize| json!({ "allOf": vec![json!({ "$ref": format!("#/$defs/{n}") }); 2] });
        let mut parts: serde_json::Map<_, _> = (1..=times).map(|n| (n.to_string(), twice(n - 1))).collect();
        parts.insert("0".into(), json!({ "type": "string" }));
        json!({ "$defs": parts, "$ref": format!("#/$defs/{times}") }).to_string()
    };
    assert!(fits(&doubled(8), r#""x""#));
    let faults = JsonSchema::read("", raw(&doubled(14))).unwrap_err();
    assert_eq!(told(&faults), [("/$defs/12", "has more than 10000 schemas for one value")]);
    for circle in [
        r##"{"$ref":"#"}"##,
        r##"{"not":{"anyOf":[true,{"$ref":"#"}]}}"##,
        r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
    ] {
        assert_eq!(refused(circle).len(), 1, "{circle}");
    }
}

/// A union that leads back to itself: what alternatives are wrong with doubles with every level.
const UNION: &str = r##"{"anyOf":[
    {"required":["a"],"properties":{"a":{"$ref":"#"},"x":{"type":"string"}}},
    {"required":["a"],"properties":{"a":{"$ref":"#"}},"minProperties":1}]}"##;

#[test]
fn alternatives_that_double_with_every_level_end_after_so_many_errors() {
    let union = schema(UNION);
    for (depth, message) in
        [(1, "fits none of the alternatives"), (8, "fits none of the alternatives"), (100, TOO_MANY_FAULTS)]
    {
        assert_eq!(told(&union.check("/p", raw(&nested("a", "{}", depth)))), [("/p", message)], "{depth}");
    }
    assert!(union.check("", raw(&nested("a", "1", 100))).is_empty());
}

#[test]
fn a_product_of_alternatives_and_values_ends_after_so_many_looks() {
    let many = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");
    let items = schema(&format!(r#"{{"items":{{"anyOf":[{}]}}}}"#, many(4_000, &|n| format!(r#"{{"const":{n}}}"#))));
    assert!(items.check("", raw(&format!("[{}]", many(100, &|n| (n * 10).to_string())))).is_empty());
    let slow = format!("[{}]", many(50_000, &|_| "3999".to_owned()));
    assert_eq!(told(&items.check("/p", raw(&slow))), [("/p", TOO_MUCH_WORK)]);

    let unique = schema(&format!(r#"{{"allOf":[{}]}}"#, many(300, &|_| r#"{"uniqueItems":true}"#.to_owned())));
    assert!(unique.check("", raw("[1,2]")).is_empty());
    let slow = format!("[[{}]]", many(50_000, &|n| n.to_string()));
    assert_eq!(told(&unique.check("/p", raw(&slow))), [("/p", TOO_MUCH_WORK)]);

    let texts = schema(&format!(r#"{{"allOf":[{}]}}"#, many(1_000, &|n| format!(r#"{{"minLength":{n}}}"#))));
    assert!(texts.check("", raw(&format!("\"{}\"", "x".repeat(1_000)))).is_empty());
    assert_eq!(told(&texts.check("/p", raw(&format!("\"{}\"", "x".repeat(250_000))))), [("/p", TOO_MUCH_WORK)]);
}

#[test]
fn a_payload_full_of_faults_has_some_told() {
    let numbers = format!("[{}0]", "0,".repeat(99_999));
    let strings = schema(r#"{"items":{"type":"string"}}"#);
    let faults = strings.check("/p", raw(&format!("[{}0]", "0,".repeat(9_999))));
    assert_eq!((faults.count(), faults.told().len(), faults.told()[99].pointer.as_str()), (10_000, 100, "/p/99"));
    assert_eq!(told(&strings.check("/p", raw(&numbers))), [("/p/0", "must be of the type string")], "the first");
    // Each error of a `not` keeps the schema, so fewer are made.
    let excluded = schema(&format!(r#"{{"items":{{"not":{{"enum":[0,"{}"]}}}}}}"#, "x".repeat(10_000)));
    let faults = excluded.check("/p", raw(&format!("[{}0]", "0,".repeat(999))));
    assert_eq!(told(&faults), [("/p/0", "is what the schema excludes")]);
}

#[test]
fn a_payload_that_cannot_be_read_as_numbers_and_levels_is_refused() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for payload in [deep.as_str(), "1e999"] {
        assert_eq!(told(&schema("true").check("/p", raw(payload))), [("/p", UNREADABLE)]);
    }
}

#[test]
fn the_deepest_payload_and_the_longest_chain_fit_the_stack() {
    for kind in ["$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas"] {
        let count = if kind == "$ref" { 29 } else { 14 };
        let link = |n: usize| {
            let next =
                json!({ "$ref": if n + 1 < count { format!("#/$defs/{}", n + 1) } else { "#/$defs/end".into() } });
            match kind {
                "$ref" => next,
                "not" | "if" => json!({ kind: next }),
                "dependentSchemas" => json!({ kind: { "a": next } }),
                _ => json!({ kind: [next] }),
            }
        };
        let mut parts: serde_json::Map<_, _> = (0..count).map(|n| (n.to_string(), link(n))).collect();
        parts.insert("end".into(), json!({ "properties": { "a": { "$ref": "#" }, "b": false } }));
        let chain = schema(&json!({ "$defs": parts, "$ref": "#/$defs/0" }).to_string());
        // An overflow ends the test run. The main thread of a function has four times as much.
        let checked = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || [r#"{"b":1}"#, "1"].map(|leaf| chain.check("", raw(&nested("a", leaf, 126)))));
        for faults in checked.unwrap().join().unwrap() {
            assert!(
                faults.told().iter().all(|fault| ![TOO_MUCH_WORK, TOO_MANY_FAULTS].contains(&&*fault.message)),
                "{kind}"
            );
        }
    }
}
