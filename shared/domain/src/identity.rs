//! Names of deliveries and events: their ids, those of their records, and the hash that
//! tells one body from another under the same id.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::names::{is_endpoint_id, is_event_id, is_tenant_or_operator};
use crate::time::Millis;

/// The longest webhook id.
pub const MAX_ID: usize = 128;

/// Whether `id` may name a delivery: 1 to 128 of `A-Z a-z 0-9 _ : -`. The dot is
/// left out because Standard Webhooks uses it to join id, timestamp and body.
pub fn is_webhook_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
}

/// The id of one event's delivery to one endpoint: `<event>.<endpoint>`, and `.<life>` for
/// a later life of it. A direct webhook's id has no dot, so the two never meet.
pub fn delivery_id(event_id: &str, endpoint: &str, life: Option<&str>) -> String {
    match life {
        None => format!("{event_id}.{endpoint}"),
        Some(life) => format!("{event_id}.{endpoint}.{life}"),
    }
}

/// Whether `id` may name a delivery to an endpoint.
pub fn is_delivery_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('.').collect();
    match parts[..] {
        [event_id, endpoint] => is_event_id(event_id) && is_endpoint_id(endpoint),
        [event_id, endpoint, life] => is_event_id(event_id) && is_endpoint_id(endpoint) && is_event_id(life),
        _ => false,
    }
}

/// The endpoint of a delivery's id; `None` for that of a direct webhook.
pub fn endpoint_of_delivery(id: &str) -> Option<&str> {
    id.split('.').nth(1)
}

/// What the record of an event is named by: `<tenant>~<event>`. Neither has a tilde, and no
/// id of a delivery does.
pub fn event_record_id(tenant: &str, event_id: &str) -> String {
    format!("{tenant}~{event_id}")
}

/// The tenant and the event of an event's record, if it names one.
pub fn split_event_record_id(id: &str) -> Option<(&str, &str)> {
    id.split_once('~').filter(|(tenant, event_id)| is_tenant_or_operator(tenant) && is_event_id(event_id))
}

/// What the record of work in pages is named by: `<kind>~~<id>`, where the id is like an event's,
/// or names the record of one. No event's record has two tildes side by side.
pub fn work_record_id(kind: &str, id: &str) -> String {
    format!("{kind}~~{id}")
}

/// The kind and the id of a record of work in pages, if it names one.
pub fn split_work_record_id(id: &str) -> Option<(&str, &str)> {
    let is_kind = |kind: &str| !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    // Asked for every key of a record, and seldom so.
    if !id.contains('~') {
        return None;
    }
    id.split_once("~~").filter(|(kind, of)| is_kind(kind) && (is_event_id(of) || split_event_record_id(of).is_some()))
}

/// Whether `id` may name a record: of a delivery, of an event or of work in pages.
pub fn is_record_id(id: &str) -> bool {
    is_webhook_id(id) || is_delivery_id(id) || split_event_record_id(id).is_some() || split_work_record_id(id).is_some()
}

/// The `webhook-id` that receivers see of an event: the same on every attempt and in every
/// life, and different for two tenants that use one event id.
pub fn event_webhook_id(tenant: &str, event_id: &str) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(tenant.as_bytes());
    // No tenant has a dot.
    hash.update(b".");
    hash.update(event_id.as_bytes());
    format!("msg_{}", URL_SAFE_NO_PAD.encode(&hash.finish().as_ref()[..16]))
}

/// Whether `id` may be a correlation id: 1 to 128 visible ASCII characters.
pub fn is_correlation_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// Tells one body from another under the same webhook id: SHA-256 over URL,
/// payload bytes, headers, event type and the client's `expires_at`, each with
/// its length, cut to 128 bits.
pub fn body_hash(
    url: &str,
    payload: &str,
    headers: &BTreeMap<String, String>,
    event_type: Option<&str>,
    expires_at: Option<Millis>,
) -> String {
    let mut hash = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(url.as_bytes());
    part(payload.as_bytes());
    part(&[u8::from(event_type.is_some())]);
    part(event_type.unwrap_or_default().as_bytes());
    part(expires_at.map(|at| at.0.to_string()).unwrap_or_default().as_bytes());
    for (name, value) in headers {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&hash.finish().as_ref()[..16])
}

/// Whether two hashes under the same id belong to different bodies. An unknown hash,
/// which is empty, fits any.
pub fn is_another_body(hash: &str, other: &str) -> bool {
    !hash.is_empty() && !other.is_empty() && hash != other
}

/// The SHA-256 of some bytes, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_plain() {
        for good in ["a", "order-1:retry_2", &"x".repeat(128)] {
            assert!(is_webhook_id(good), "{good}");
        }
        for bad in ["", "a.b", "a b", "é", "a/b", "a{b}", &"x".repeat(129)] {
            assert!(!is_webhook_id(bad), "{bad}");
        }
    }

    #[test]
    fn deliveries_to_endpoints_have_ids_of_their_own() {
        let endpoint = format!("ep_{}", "a1".repeat(11));
        for life in [None, Some("r1")] {
            let id = delivery_id("order-1", &endpoint, life);
            assert!(is_delivery_id(&id) && !is_webhook_id(&id), "{id}");
        }
        for bad in ["order-1", "order-1.ep_1", &format!(".{endpoint}"), &format!("a.{endpoint}.b.c"), "a.b"] {
            assert!(!is_delivery_id(bad), "{bad}");
        }
    }

    #[test]
    fn records_of_events_have_ids_of_their_own() {
        let id = event_record_id("_operator", "order-1");
        assert_eq!(split_event_record_id(&id), Some(("_operator", "order-1")));
        assert!(is_record_id(&id) && !is_webhook_id(&id) && !is_delivery_id(&id));
        for bad in ["~", "a~", "~b", "a~b~c", "a.b~c", "a~b.c", "a"] {
            assert_eq!(split_event_record_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn records_of_work_have_ids_of_their_own() {
        for of in ["_operator", "r-1", "acme~order-1"] {
            let id = work_record_id("erase", of);
            assert_eq!(split_work_record_id(&id), Some(("erase", of)));
            assert!(is_record_id(&id) && !is_webhook_id(&id) && !is_delivery_id(&id), "{id}");
            assert_eq!(split_event_record_id(&id), None);
        }
        assert_eq!(split_work_record_id("catch_up~~ep-1"), Some(("catch_up", "ep-1")));
        for bad in ["~~", "erase~~", "~~a", "Erase~~a", "erase~~a.b", "erase~~a~b~c", "erase~~~a", "erase~a", "a"] {
            assert_eq!(split_work_record_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn two_tenants_with_one_event_id_have_two_webhook_ids() {
        let id = event_webhook_id("acme", "order-1");
        assert_eq!((id.len(), &id[..4]), (26, "msg_"));
        assert_eq!(id, event_webhook_id("acme", "order-1"));
        assert_ne!(id, event_webhook_id("other", "order-1"));
    }

    #[test]
    fn every_part_of_a_body_counts() {
        let none = BTreeMap::new();
        let some = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let at = Some(Millis(1));
        let hashes = [
            body_hash("u", "p", &none, None, None),
            body_hash("up", "", &none, None, None),
            body_hash("u", "p ", &none, None, None),
            body_hash("u", "p", &some, None, None),
            body_hash("u", "p", &none, Some(""), None),
            body_hash("u", "p", &none, Some("e"), None),
            body_hash("u", "p", &none, None, at),
        ];
        for (i, a) in hashes.iter().enumerate() {
            assert_eq!(a.len(), 22);
            assert!(hashes[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(hashes[0], body_hash("u", "p", &none, None, None));
    }
}
