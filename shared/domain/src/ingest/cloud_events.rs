//! CloudEvents 1.0 in the structured mode of its JSON format.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::sent::{Names, Payload, Sent, names};
use crate::fault::Faults;
use crate::json::well_formed;
use crate::object::{ObjectReader, parsed};
use crate::trace::Trace;

/// Reads an event. Attributes that are not known are extensions, and ignored.
pub(super) fn read<'a>(mut reader: ObjectReader<'a>, max_payload_bytes: usize) -> Result<Sent<'a>, Faults> {
    reader.text_if("specversion", |version| version == "1.0", "must be \"1.0\"");
    let names = names(&mut reader, "type");
    let (field, payload) = payload(&mut reader);
    let payload = payload.filter(|payload| payload.is_sound(&mut reader, field, max_payload_bytes));
    match (names, payload) {
        (Some(Names { foreign, event_id, event_type }), Some(payload)) if reader.is_sound() => Ok(Sent {
            event_id: Some(event_id),
            event_type,
            payload,
            expires_at: None,
            trace: trace(&reader),
            foreign: Some(foreign),
        }),
        _ => Err(reader.finish()),
    }
}

/// An attribute that is set. One that is `null` is not (§2.2).
fn attribute<'a>(reader: &ObjectReader<'a>, name: &str) -> Option<&'a RawValue> {
    reader.raw(name).filter(|raw| raw.get() != "null")
}

/// The trace of the Distributed Tracing extension. One that is invalid is ignored, as the
/// header is.
fn trace(reader: &ObjectReader<'_>) -> Option<Trace> {
    attribute(reader, "traceparent").and_then(parsed::<String>).and_then(|text| Trace::of_traceparent(&text))
}

/// The payload, and the field that it comes from. `data` is JSON as it stands: a text of
/// another content type is a string there (§3.1.2). Without any data it is `null`.
fn payload<'a>(reader: &mut ObjectReader<'a>) -> (&'static str, Option<Payload<'a>>) {
    match (reader.raw("data"), attribute(reader, "data_base64")) {
        (None, None) => ("data", Some(Payload::Made("null".to_owned()))),
        (Some(data), None) => ("data", Some(Payload::Written(data.get()))),
        (None, Some(encoded)) => ("data_base64", binary(reader, encoded)),
        (Some(_), Some(_)) => {
            reader.fault("data_base64", "an event has either `data` or `data_base64`");
            ("data_base64", None)
        }
    }
}

/// The payload of binary data. Its content type decides, and not its bytes: JSON is decoded,
/// and anything else stays the string of base64 that it is. Without a content type it is JSON
/// (CloudEvents §3.1.1, `datacontenttype`).
fn binary<'a>(reader: &mut ObjectReader<'a>, encoded: &'a RawValue) -> Option<Payload<'a>> {
    let is_json = match attribute(reader, "datacontenttype") {
        None => true,
        Some(_) => is_json(&reader.text("datacontenttype")?),
    };
    let text = reader.text("data_base64")?;
    let Ok(bytes) = STANDARD.decode(text) else {
        reader.fault("data_base64", "must be base64 with padding (RFC 4648 §4)");
        return None;
    };
    if !is_json {
        return Some(Payload::Written(encoded.get()));
    }
    let json = std::str::from_utf8(&bytes).ok().and_then(|text| well_formed(text).ok());
    if json.is_none() {
        reader.fault("data_base64", "must be the base64 of JSON, unless `datacontenttype` names another content");
    }
    json.map(|json| Payload::Made(json.get().to_owned()))
}

/// Whether a content type is that of JSON: `*/json` or `*/*+json`, with any parameters.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(fields: &str) -> Result<(String, Option<Trace>), Vec<String>> {
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t"{fields}}}"#);
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        match read(ObjectReader::open_any("", raw, 20, "it").unwrap(), 40) {
            Ok(sent) => Ok((sent.payload.as_str().to_owned(), sent.trace)),
            Err(faults) => Err(faults.told().iter().map(|fault| fault.pointer.clone()).collect()),
        }
    }

    fn payload_of(fields: &str) -> String {
        read_with(fields).expect(fields).0
    }

    #[test]
    fn data_is_json_as_it_stands() {
        for (fields, payload) in [
            ("", "null"),
            (r#","data_base64":null"#, "null"),
            (r#","data":null"#, "null"),
            (r#","data": [ 1.0 ] "#, "[ 1.0 ]"),
            (r#","data":"{\"a\":1}""#, r#""{\"a\":1}""#),
            (r#","datacontenttype":"application/xml","data":"<a b=\"\u00e9\"/>""#, r#""<a b=\"\u00e9\"/>""#),
            (r#","datacontenttype":"text/plain","data":{}"#, "{}"),
        ] {
            assert_eq!(payload_of(fields), payload);
        }
    }

    #[test]
    fn the_content_type_decides_what_becomes_of_binary_data() {
        let json = r#","data_base64":"IHsiYSI6MS4wfQo=""#;
        for content_type in ["", r#""application/json""#, r#""Text/JSON; charset=utf-8""#, r#""a/b+json""#, "null"] {
            let field =
                if content_type.is_empty() { String::new() } else { format!(",\"datacontenttype\":{content_type}") };
            assert_eq!(payload_of(&format!("{json}{field}")), r#"{"a":1.0}"#);
        }
        for content_type in ["application/octet-stream", "json", "a/jsonp", "text/x; a/json"] {
            let fields = format!("{json},\"datacontenttype\":\"{content_type}\"");
            assert_eq!(payload_of(&fields), r#""IHsiYSI6MS4wfQo=""#);
        }
    }

    #[test]
    fn binary_data_that_is_not_what_it_says_is_refused() {
        for bad in [
            r#","data_base64":"/w==""#,
            r#","data_base64":"YQ==""#,
            r#","data_base64":"""#,
            r#","data_base64":"not base64","datacontenttype":"a/b""#,
            r#","data_base64":1"#,
            r#","data_base64":"MQ==","data":null"#,
            // The string of U+FFFF, which no queue takes.
            r#","data_base64":"Iu+/vyI=""#,
        ] {
            assert_eq!(read_with(bad), Err(vec!["/data_base64".to_owned()]), "{bad}");
        }
        assert_eq!(read_with(r#","data_base64":"MQ==","datacontenttype":1"#), Err(vec!["/datacontenttype".to_owned()]));
        let large = STANDARD.encode(format!("\"{}\"", "x".repeat(39)));
        assert_eq!(read_with(&format!(r#","data_base64":"{large}""#)), Err(vec!["/data_base64".to_owned()]));
    }

    #[test]
    fn a_trace_is_taken_and_an_invalid_one_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = |value: &str| read_with(&format!(r#","traceparent":{value}"#)).unwrap().1;
        assert_eq!(trace(&format!("\"{good}\"")), Trace::of_traceparent(good));
        for value in ["null", "1", "\"00\""] {
            assert_eq!(trace(value), None);
        }
    }
}
