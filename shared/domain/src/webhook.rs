//! What a client asks for: one webhook, read from JSON with every fault named
//! at once and the payload's bytes kept as they were written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use url::Url;

use crate::address::Guard;
use crate::fault::{Fault, Faults, pointer_token, refused_by_sqs};
use crate::headers;
use crate::identity;
use crate::json::{each_field, elements};
use crate::object::ObjectReader;
use crate::time::Millis;

/// The longest URL, in bytes.
pub const MAX_URL: usize = 2048;
/// The furthest that `expires_at` may lie ahead: 7 days.
pub const MAX_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most webhooks in one batch.
pub const MAX_BATCH: usize = 100;
/// Headers that are looked at one by one. More are too many in any case.
const MAX_VETTED_HEADERS: usize = 100;
/// What is wrong with an `expires_at` that has passed.
const PAST: &str = "lies in the past: it has expired";

const FIELDS: &[&str] = &["webhook_url", "payload", "reference_id", "event_type", "headers", "expires_at"];

/// A webhook that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook<'a> {
    /// The client's own id for it.
    pub reference_id: Option<String>,
    /// Where to, as the client wrote it.
    pub url: String,
    /// The JSON to send, byte for byte.
    pub payload: &'a str,
    /// What kind of event it tells of.
    pub event_type: Option<String>,
    /// Extra headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// When it is no longer worth delivering.
    pub expires_at: Option<Millis>,
    /// The fault of a webhook whose `expires_at` has passed. A request that is repeated may
    /// come so late. It is taken as the duplicate of a delivery that is known, and for
    /// nothing else.
    pub expired: Option<Fault>,
}

/// What a webhook is judged by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The longest payload, in bytes.
    pub max_payload_bytes: usize,
    /// Which addresses may be sent to.
    pub guard: Guard,
}

/// Why a webhook is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The payload has more bytes than allowed.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// Everything that is wrong with it.
    Invalid(Faults),
}

impl Rejection {
    /// The same, with `most` of its faults.
    #[must_use]
    pub fn first(self, most: usize) -> Self {
        match self {
            Self::Invalid(faults) => Self::Invalid(faults.first(most)),
            Self::TooLarge { bytes } => Self::TooLarge { bytes },
        }
    }
}

/// The webhooks of a batch request, each still to be read.
///
/// # Errors
/// Every fault of the envelope.
pub fn read_batch(raw: &RawValue) -> Result<Vec<&RawValue>, Faults> {
    read_items("webhooks", raw)
}

/// The items of a batch request, which are in the field `name`.
pub(crate) fn read_items<'a>(name: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, Faults> {
    let mut reader = ObjectReader::open("", raw, &[name], "the request").map_err(Faults::from)?;
    let items = reader.required(name).map(|value| elements(value, MAX_BATCH));
    match items {
        None => {}
        Some(Err(_)) => reader.fault(name, "must be an array"),
        Some(Ok((_, count))) if !(1..=MAX_BATCH).contains(&count) => {
            reader.fault(name, format!("a batch has 1 to 100 {name}"));
        }
        Some(Ok((items, _))) if reader.is_sound() => return Ok(items),
        Some(Ok(_)) => {}
    }
    Err(reader.finish())
}

/// Reads one webhook. Faults point below `base`, `""` when it is the request. One that has
/// an id and whose only fault is that it has expired is given with that fault.
///
/// # Errors
/// [`Rejection::Invalid`] with every fault; [`Rejection::TooLarge`] when the
/// payload's size is the only one.
pub fn read<'a>(base: &str, raw: &'a RawValue, now: Millis, rules: &Rules) -> Result<Webhook<'a>, Rejection> {
    let mut reader =
        ObjectReader::open(base, raw, FIELDS, "a webhook").map_err(|fault| Rejection::Invalid(fault.into()))?;
    reader.required("webhook_url");
    let url = reader.text("webhook_url").and_then(|url| vetted_url(&mut reader, url, rules));
    let payload = payload(&mut reader);
    let reference_id = reader.text_if(
        "reference_id",
        identity::is_webhook_id,
        "must be 1 to 128 of A-Z, a-z, 0-9, underscore, colon and hyphen",
    );
    let event_type = reader.text_if(
        "event_type",
        is_event_type,
        "must be 1 to 128 of A-Z, a-z, 0-9, underscore, dot, colon, slash and hyphen",
    );
    let headers = extra_headers(base, &mut reader);
    let expires_at = expires_at(&mut reader, now);
    let expired = expires_at.and_then(|at| expired(base, at, now));

    match (url, payload) {
        (Some(url), Some(payload)) if reader.is_sound() => {
            let is_too_large = payload.len() > rules.max_payload_bytes;
            match expired {
                // An id that is made now is not known.
                Some(fault) if reference_id.is_none() || is_too_large => Err(Rejection::Invalid(fault.into())),
                None if is_too_large => Err(Rejection::TooLarge { bytes: payload.len() }),
                expired => Ok(Webhook { reference_id, url, payload, event_type, headers, expires_at, expired }),
            }
        }
        _ => {
            expired.into_iter().for_each(|fault| reader.faults(fault));
            Err(Rejection::Invalid(reader.finish()))
        }
    }
}

/// Reads a URL that a webhook may be sent to.
///
/// # Errors
/// Why it is not one.
pub fn read_url(text: &str, guard: &Guard) -> Result<Url, String> {
    vet_text(text)?;
    let url = Url::parse(text).map_err(|error| format!("not an absolute URL: {error}"))?;
    vet_url(&url, guard)?;
    Ok(url)
}

/// The same for a URL that was read from this text already.
///
/// # Errors
/// Why a webhook may not be sent to it.
pub fn vet_read_url(text: &str, url: &Url, guard: &Guard) -> Result<(), String> {
    vet_text(text)?;
    vet_url(url, guard)
}

fn vet_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_URL {
        return Err("a URL has at most 2048 bytes".to_owned());
    }
    // The parser would silently drop these, and the client never meant them.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_strange = |c: char| c.is_control() || c.is_whitespace();
    if !is_plain && (text.chars().any(is_strange) || refused_by_sqs(text).is_some()) {
        return Err("a URL has no white space, control characters or non-characters".to_owned());
    }
    Ok(())
}

fn vet_url(url: &Url, guard: &Guard) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme is https or http".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL carries no credentials; set an authorization header instead".to_owned());
    }
    if url.port() == Some(0) {
        return Err("port 0 cannot be connected to".to_owned());
    }
    // RFC 1035 §2.3.4. A name in another script is longer than it was written.
    if url.host_str().is_some_and(|host| host.len() > 253) {
        return Err("a host name has at most 253 characters".to_owned());
    }
    if url.domain().is_some_and(|name| !is_host_name(name)) {
        return Err(
            "a host name is labels of letters, digits, hyphens and underscores, with dots between them".to_owned()
        );
    }
    guard.vet_literal(url).map_err(|forbidden| forbidden.to_string())
}

/// Whether a request can be made for this host name, and a certificate be checked for
/// it. The URL standard takes more (`a{b`, `a!b`, `a..b`), and all of that would be
/// accepted, to fail at every attempt.
fn is_host_name(name: &str) -> bool {
    // The dot at the end of an absolute name.
    name.strip_suffix('.').unwrap_or(name).split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    })
}

fn is_event_type(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:/-".contains(&b))
}

fn vetted_url(reader: &mut ObjectReader<'_>, text: String, rules: &Rules) -> Option<String> {
    match read_url(&text, &rules.guard) {
        Ok(_) => Some(text),
        Err(why) => {
            reader.fault("webhook_url", why);
            None
        }
    }
}

/// The field `payload`, as it was written.
pub(crate) fn payload<'a>(reader: &mut ObjectReader<'a>) -> Option<&'a str> {
    let Some(raw) = reader.raw("payload") else {
        reader.fault("payload", "the field is missing; send null for an empty payload");
        return None;
    };
    is_queueable(reader, "payload", raw.get()).then_some(raw.get())
}

/// Whether a queue takes the JSON text of the field `name`. If not, that is noted.
pub(crate) fn is_queueable(reader: &mut ObjectReader<'_>, name: &str, text: &str) -> bool {
    let refused = refused_by_sqs(text);
    if let Some(c) = refused {
        reader.fault(name, format!("U+{:04X} cannot be queued; write it as a JSON escape", u32::from(c)));
    }
    refused.is_none()
}

fn extra_headers(base: &str, reader: &mut ObjectReader<'_>) -> BTreeMap<String, String> {
    let mut accepted = BTreeMap::new();
    let Some(raw) = reader.raw("headers") else { return accepted };
    let (mut fields, mut count, mut total) = (Vec::new(), 0, 0);
    let read = each_field(raw, |name, raw| {
        count += 1;
        total += name.len() + raw.get().len();
        if count <= MAX_VETTED_HEADERS {
            fields.push((name.to_owned(), raw));
        }
    });
    if read.is_err() {
        reader.fault("headers", "must be an object of strings");
        return accepted;
    }
    if count > headers::MAX_HEADERS {
        reader.fault("headers", "at most 20 headers");
    }
    for (name, raw) in fields {
        let pointer = format!("{base}/headers/{}", pointer_token(&name));
        let Ok(value) = serde_json::from_str::<String>(raw.get()) else {
            reader.faults(Fault::at(pointer, "must be a string"));
            continue;
        };
        match headers::vet(base, &name, &value) {
            Err(fault) => reader.faults(fault),
            Ok(lower) => {
                if accepted.insert(lower, value).is_some() {
                    reader.faults(Fault::at(pointer, "duplicate header"));
                }
            }
        }
    }
    if total > headers::MAX_TOTAL {
        reader.fault("headers", "at most 16384 bytes in all");
    }
    accepted
}

/// The fault of an `expires_at` that has passed.
pub(crate) fn expired(base: &str, at: Millis, now: Millis) -> Option<Fault> {
    (at <= now).then(|| Fault::at(format!("{base}/expires_at"), PAST))
}

/// The field `expires_at`. It may lie in the past.
pub(crate) fn expires_at(reader: &mut ObjectReader<'_>, now: Millis) -> Option<Millis> {
    let text = reader.text("expires_at")?;
    let message = match Millis::parse_rfc3339(&text) {
        None => "must be a date and time in RFC 3339, after 1970",
        Some(at) if at > now.after(MAX_LIFE) => "lies more than 7 days ahead",
        Some(at) => return Some(at),
    };
    reader.fault("expires_at", message);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls_pki_types::ServerName;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn rules() -> Rules {
        Rules { max_payload_bytes: 64, guard: Guard::default() }
    }

    fn faults(text: &str) -> Vec<(String, String)> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        match read("", raw, NOW, &rules()) {
            Err(Rejection::Invalid(faults)) => {
                faults.told().iter().map(|f| (f.pointer.clone(), f.message.clone())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn pointers(text: &str) -> Vec<String> {
        faults(text).into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn the_payload_is_kept_byte_for_byte() {
        let text = "{\"payload\" :  { \"b\":1.0,  \"a\" : 12345678901234567890123 ,\"é\":\"\\ud800\"} ,\
                    \"webhook_url\":\"https://example.com/Hook?x=1\"}";
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let webhook = read("", raw, NOW, &rules()).unwrap();
        assert_eq!(webhook.payload, "{ \"b\":1.0,  \"a\" : 12345678901234567890123 ,\"é\":\"\\ud800\"}");
        assert_eq!(webhook.url, "https://example.com/Hook?x=1");
    }

    #[test]
    fn null_is_a_payload_and_absence_is_not() {
        let raw: &RawValue = serde_json::from_str(r#"{"webhook_url":"https://a.example","payload":null}"#).unwrap();
        assert_eq!(read("", raw, NOW, &rules()).unwrap().payload, "null");
        assert_eq!(pointers(r#"{"webhook_url":"https://a.example"}"#), ["/payload"]);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(
            pointers(
                r#"{"webhook_url":"ftp://a.example","reference_id":"a b","event_type":"","headers":{"Host":"x","y":1},
                    "expires_at":"2001-01-01T00:00:00Z","extra/field":1,"payload":1,"payload":2}"#
            ),
            [
                "/extra~1field",
                "/payload",
                "/webhook_url",
                "/reference_id",
                "/event_type",
                "/headers/Host",
                "/headers/y",
                "/expires_at"
            ]
        );
        assert_eq!(pointers("{}"), ["/webhook_url", "/payload"]);
        assert_eq!(pointers("[]"), [""]);
    }

    #[test]
    fn wrong_types_are_faults_null_included() {
        for field in ["webhook_url", "reference_id", "event_type", "expires_at", "headers"] {
            for value in ["null", "1", "[]", "true"] {
                let text = format!(r#"{{"{field}":{value},"payload":1}}"#);
                assert!(pointers(&text).contains(&format!("/{field}")), "{text}");
            }
        }
    }

    #[test]
    fn urls_that_cannot_or_must_not_be_called_are_refused() {
        let long = format!("https://a.example/{}", "x".repeat(2048));
        for url in [
            "",
            "example.com",
            "/x",
            "mailto:a@b",
            "file:///etc/passwd",
            "https://",
            "http://u:p@a.example/",
            "https://u@a.example/",
            "http://a.example:0/",
            "http://a b.example/",
            "http://a.example/\\n",
            &long,
            "http://a.example/\u{ffff}",
            "http://127.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://0x7f.1/",
            "http://169.254.169.254/",
            "http://[::1]:9/",
            "http://a{b/",
            "http://a}b.example/",
            "http://a`b.example/",
            "http://a\"b.example/",
            "https://a!b.example/",
            "https://a,b.example/",
            "https://a..example/",
            "https://.example/",
            "https://-a.example/",
            "https://a-.example/",
            &format!("https://{}.example/", "a".repeat(64)),
        ] {
            assert!(read_url(&url.replace("\\n", "\n"), &Guard::default()).is_err(), "{url}");
        }
        for url in
            ["https://a.example", "http://a.example:8080/x?y=z#f", "https://bücher.example/", "https://a_b.example./"]
        {
            assert!(read_url(url, &Guard::default()).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_deadline_is_ahead_and_within_a_week() {
        let at = |offset_s: i64| {
            let at = Millis(u64::try_from(1_700_000_000_000 + offset_s * 1000).unwrap());
            let text = format!(r#"{{"webhook_url":"https://a.example","payload":1,"expires_at":"{at}"}}"#);
            let raw: Box<RawValue> = serde_json::from_str(&text).unwrap();
            read("", &raw, NOW, &rules()).is_ok()
        };
        assert_eq!([-1, 0, 1, 604_800, 604_801].map(at), [false, false, true, true, false]);
    }

    #[test]
    fn size_is_counted_in_the_payloads_bytes() {
        let of = |n: usize| {
            let text = format!(r#"{{"webhook_url":"https://a.example","payload":"{}"}}"#, "é".repeat(n));
            let raw: Box<RawValue> = serde_json::from_str(&text).unwrap();
            read("", &raw, NOW, &rules()).map(|_| ())
        };
        assert_eq!(of(31), Ok(()));
        assert_eq!(of(32), Err(Rejection::TooLarge { bytes: 66 }));
    }

    #[test]
    fn what_sqs_refuses_is_told_to_the_client() {
        let text = "{\"webhook_url\":\"https://a.example\",\"payload\":\"\u{ffff}\"}";
        assert_eq!(pointers(text), ["/payload"]);
    }

    #[test]
    fn a_batch_has_1_to_100_items_and_nothing_else() {
        let of = |text: &str| read_batch(serde_json::from_str(text).unwrap()).map(|items| items.len());
        let hundred = vec!["{}"; 100].join(",");
        assert_eq!(of(&format!(r#"{{"webhooks":[{hundred}]}}"#)), Ok(100));
        for bad in [
            r#"{"webhooks":[]}"#,
            &format!(r#"{{"webhooks":[{hundred},{{}}]}}"#),
            "{}",
            "[]",
            r#"{"webhooks":{}}"#,
            r#"{"webhooks":[1],"x":1}"#,
            r#"{"webhooks":[1],"webhooks":[1]}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_url_reader(text in "(https?:/{0,3}|ftp://|)(\\PC{0,9}@)?\\PC{0,20}(:[0-9]{0,6})?[/?#]?\\PC{0,20}") {
            if let Ok(url) = read_url(&text, &Guard::default()) {
                prop_assert!(url.has_host() && url.username().is_empty() && url.password().is_none());
                prop_assert!(matches!(url.scheme(), "http" | "https"));
                prop_assert!(refused_by_sqs(&text).is_none());
            }
        }

        /// The sender's own types: what is accepted with a 202 can be called.
        #[test]
        fn every_url_that_is_read_can_be_called(
            host in "[!-~]{1,12}|[a-z0-9{}`\"_.-]{1,12}|\\PC{1,6}|([a-z0-9-]{1,70}\\.){1,3}[a-z]{1,3}\\.?",
            port in "|:[0-9]{1,5}",
            rest in "|[/?#][!-~]{0,20}|[/?#]\\PC{0,9}",
        ) {
            let text = format!("https://{host}{port}{rest}");
            if let Ok(url) = read_url(&text, &Guard::allowing(vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()])) {
                let uri = http::Uri::try_from(url.as_str());
                prop_assert_eq!(uri.as_ref().ok().and_then(http::Uri::host), url.host_str(), "{}", url);
                let name = url.host_str().unwrap().trim_start_matches('[').trim_end_matches(']');
                prop_assert!(ServerName::try_from(name).is_ok(), "{url}: no certificate can be checked");
            }
        }

        #[test]
        fn no_spelling_of_a_private_address_passes(bits: u32, style in 0..6, path in "[a-z]{0,5}") {
            let address = std::net::Ipv4Addr::from(bits);
            let [a, b, c, d] = address.octets();
            let host = match style {
                0 => address.to_string(),
                1 => bits.to_string(),
                2 => format!("{bits:#x}"),
                3 => format!("{a:#o}.{b:#x}.{c}.{d}").replace("0o", "0"),
                4 => format!("{a}.{}", bits & 0x00ff_ffff),
                _ => format!("[::ffff:{address}]"),
            };
            let passes = read_url(&format!("http://{host}/{path}"), &Guard::default()).is_ok();
            prop_assert_eq!(passes, style < 5 && crate::address::is_public(address.into()), "{}", host);
        }
    }
}
