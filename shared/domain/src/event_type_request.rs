//! What a client wants an event type to be, read from JSON with every fault named at once.

use serde_json::value::RawValue;

use crate::event_type::{Definition, JsonText, MAX_DEFINITION, MAX_DESCRIPTION};
use crate::fault::{Fault, Faults};
use crate::json_schema::JsonSchema;
use crate::names::{is_event_type, is_reserved_event_type};
use crate::object::ObjectReader;

/// What is wrong with a name that an event type is to be written under.
pub fn name_fault(name: &str) -> Option<Fault> {
    let message = if !is_event_type(name) {
        "must be words of A-Z, a-z, 0-9, underscore and hyphen with dots between them, at most 128 characters"
    } else if is_reserved_event_type(name) {
        "is reserved: `steadhook` and all names below it are the stack's own"
    } else {
        return None;
    };
    Some(Fault::at("/name", message))
}

/// Reads a definition. Example and schema are kept as they were written.
///
/// # Errors
/// Every fault of it. An example that does not fit its schema is one.
pub fn definition(raw: &RawValue) -> Result<Definition, Faults> {
    if raw.get().len() > MAX_DEFINITION {
        return Err(Fault::at("", format!("has at most {MAX_DEFINITION} bytes")).into());
    }
    let mut reader = ObjectReader::open("", raw, &["description", "example", "schema", "deprecated"], "an event type")?;
    let fits = |text: &str| text.chars().count() <= MAX_DESCRIPTION;
    let description = reader.text_if("description", fits, "has at most 512 characters").unwrap_or_default();
    let (example, schema) = (reader.raw("example"), reader.raw("schema"));
    match schema.map(|schema| JsonSchema::read("/schema", schema)) {
        Some(Ok(compiled)) => {
            if let Some(example) = example {
                reader.faults(compiled.check("/example", example));
            }
        }
        Some(Err(faults)) => reader.faults(faults),
        None => {}
    }
    let deprecated = reader.flag("deprecated");
    let faults = reader.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Definition { description, example: example.map(JsonText::of), schema: schema.map(JsonText::of), deprecated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Definition, Vec<String>> {
        let pointers = |faults: Faults| faults.told().iter().map(|fault| fault.pointer.clone()).collect();
        definition(serde_json::from_str(text).unwrap()).map_err(pointers)
    }

    #[test]
    fn everything_is_kept_as_it_was_written() {
        assert_eq!(read("{}").unwrap(), Definition::default());
        let text =
            r#"{"description":"é","example":{ "b":1.50,"a":[ ]},"schema":{ "type" : "object" },"deprecated":true}"#;
        let given = read(text).unwrap();
        assert_eq!(given.example.as_ref().unwrap().as_str(), r#"{ "b":1.50,"a":[ ]}"#);
        assert_eq!(given.schema.as_ref().unwrap().as_str(), r#"{ "type" : "object" }"#);
        assert_eq!((given.description.as_str(), given.deprecated), ("é", true));
        assert!(given.compiled().unwrap().is_some());
        let kept: Definition = serde_json::from_str(&serde_json::to_string(&given).unwrap()).unwrap();
        assert_eq!(kept, given);
        assert_eq!(read(r#"{"example":null}"#).unwrap().example.unwrap().as_str(), "null");
    }

    #[test]
    fn every_fault_is_named_at_once_and_none_repeats_a_value() {
        let text = r#"{"description":7,"schema":{"type":"canary","properties":{"a":{"$ref":"https://canary/"}}},"deprecated":"canary",
            "canaryfield":1}"#;
        let faults = definition(serde_json::from_str(text).unwrap()).unwrap_err();
        let told: Vec<&str> = faults.told().iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(told, ["/canaryfield", "/description", "/schema/properties/a/$ref", "/schema/type", "/deprecated"]);
        assert!(faults.told().iter().all(|fault| !fault.message.contains("canary")), "{faults:?}");
        assert_eq!(read("[]").unwrap_err(), [""]);
        assert_eq!(read(r#"{"schema":null}"#).unwrap_err(), ["/schema"]);
        assert_eq!(read(&format!(r#"{{"description":"{}"}}"#, "x".repeat(513))).unwrap_err(), ["/description"]);
    }

    #[test]
    fn an_example_fits_its_schema() {
        let with = |example: &str| {
            read(&format!(
                r#"{{"example":{example},"schema":{{"required":["id"],"properties":{{"n":{{"type":"number"}}}}}}}}"#
            ))
        };
        assert!(with(r#"{"id":1,"n":2}"#).is_ok());
        assert_eq!(with(r#"{"n":"x"}"#).unwrap_err(), ["/example/id", "/example/n"]);
    }

    #[test]
    fn a_definition_is_bounded() {
        let padded = |bytes: usize| format!(r#"{{"example":"{}"}}"#, "x".repeat(bytes - 14));
        assert!(read(&padded(MAX_DEFINITION)).is_ok());
        assert_eq!(read(&padded(MAX_DEFINITION + 1)).unwrap_err(), [""]);
    }

    #[test]
    fn the_names_of_the_stack_are_its_own() {
        assert!(name_fault("invoice.paid").is_none() && name_fault("steadhooks.a").is_none());
        for name in ["steadhook.test", "steadhook", "a..b", "", "é", &"a".repeat(129)] {
            assert_eq!(name_fault(name).unwrap().pointer, "/name", "{name}");
        }
    }
}
