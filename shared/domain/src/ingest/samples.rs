//! An event in every format, for tests.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

pub(super) const OWN: &str = r#"{"event_type":"order.paid","payload": { "b":1.0,  "a":[ ] } ,"event_id":"o-1"}"#;
pub(super) const CLOUD_EVENT: &str = r#"{"specversion":"1.0","id":"A/1","source":"/shop","type":"com.example/order paid",
    "time":"2018-04-05T17:31:00Z","tenant":"x","kind":5,"unset":null,"data": { "b":1.0,  "a":[ ] } ,
    "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;
pub(super) const EVENT_BRIDGE: &str = r#"{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","detail-type":"Order Placed",
    "source":"shop.orders","account":"111122223333","time":"2017-12-22T18:43:48Z","region":"us-west-1",
    "resources":["a"],"replay-name":"r","detail": { "b":1.0,  "a":[ ] } }"#;
pub(super) const FORMATS: [&str; 3] = [OWN, CLOUD_EVENT, EVENT_BRIDGE];

/// `text` with a field that is set to this JSON, or that is not there.
pub(super) fn with(text: &str, field: &str, value: Option<&str>) -> String {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
    fields.remove(field);
    fields.extend(value.map(|value| (field.to_owned(), serde_json::from_str(value).unwrap())));
    serde_json::to_string(&fields).unwrap()
}
