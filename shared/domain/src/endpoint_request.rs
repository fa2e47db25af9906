//! What a client asks of an endpoint: to make one, to give it another secret, to test it.
//! Requests are read from JSON with every fault named at once. No fault repeats a value.

mod fields;
mod headers;
pub mod patch;
pub mod settings;
pub mod state;

use std::time::Duration;

use serde_json::value::RawValue;

use self::headers::HeaderChange;
use self::settings::{Confidential, HeaderSetting, Settings};
use crate::address::Guard;
use crate::fault::{Fault, Faults, pointer_token, refused_by_sqs};
use crate::names::{is_event_type, is_reserved_event_type};
use crate::object::{ObjectReader, parsed};
use crate::signature::SigningSecret;

/// How long an older secret still signs, unless the request says otherwise, in seconds.
const OVERLAP_S: u64 = 86_400;
/// The shortest and the longest overlap, in seconds. Consumers keep cards for a while, and
/// the shortest is longer than that.
const OVERLAPS_S: std::ops::RangeInclusive<u64> = 1_200..=604_800;
/// The event type of a test that names none.
pub const TEST_EVENT_TYPE: &str = "steadhook.test";

/// A new endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// What it is.
    pub settings: Settings,
    /// What its webhooks are signed with, if the client has a secret already.
    pub secret: Option<Confidential>,
}

/// Another secret for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The new secret; one is made if there is none.
    pub secret: Option<Confidential>,
    /// How long the older ones still sign.
    pub overlap: Duration,
}

/// A test of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test<'a> {
    /// The event type to test with.
    pub event_type: String,
    /// The JSON to send, byte for byte; `None` for the usual one.
    pub payload: Option<&'a str>,
}

/// Reads a new endpoint.
///
/// # Errors
/// Every fault of it.
pub fn new_endpoint(raw: &RawValue, guard: &Guard) -> Result<NewEndpoint, Faults> {
    let known = [fields::SETTINGS, &["secret", "state"]].concat();
    let mut reader = ObjectReader::open("", raw, &known, "an endpoint")?;
    if reader.raw("state").is_some() {
        reader.fault("state", "is not set here: a new endpoint is enabled; change it afterwards");
    }
    reader.required("url");
    let url = fields::url(&mut reader, guard);
    let uid = fields::uid(&mut reader);
    let description = fields::description(&mut reader).unwrap_or_default();
    let event_types = fields::event_types(&mut reader).unwrap_or_default();
    let filter = fields::filter(&mut reader);
    let headers = headers::read(&mut reader, false).unwrap_or_default();
    let headers = headers.into_iter().filter_map(|(name, change)| {
        let given = given(&mut reader, &name, change)?;
        Some((name, given))
    });
    let headers = headers.collect();
    let retry_schedule = fields::retry_schedule(&mut reader).unwrap_or_default();
    let rate = fields::rate(&mut reader);
    let metadata = fields::metadata(&mut reader, false).unwrap_or_default();
    let metadata = metadata.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let secret = secret(&mut reader);
    match url {
        Some(url) if reader.is_sound() => Ok(NewEndpoint {
            settings: Settings { url, uid, description, event_types, filter, headers, retry_schedule, rate, metadata },
            secret,
        }),
        _ => Err(reader.finish()),
    }
}

/// The header of a new endpoint. Its value must be there.
fn given(reader: &mut ObjectReader<'_>, name: &str, change: HeaderChange) -> Option<HeaderSetting> {
    match change {
        HeaderChange::Set { value: Some(value), sensitive } => {
            Some(HeaderSetting::new(value, sensitive.unwrap_or(false)))
        }
        HeaderChange::Set { value: None, .. } | HeaderChange::Remove => {
            reader.faults(Fault::at(format!("/headers/{}/value", pointer_token(name)), "the field is missing"));
            None
        }
    }
}

/// Reads the wish for another secret.
///
/// # Errors
/// Every fault of it.
pub fn rotation(raw: &RawValue) -> Result<Rotation, Faults> {
    let mut reader = ObjectReader::open("", raw, &["secret", "overlap_s"], "the request")?;
    let secret = secret(&mut reader);
    let seconds = |raw| parsed::<u64>(raw).filter(|seconds| OVERLAPS_S.contains(seconds));
    let wants = format!("must be a whole number of seconds from {} to {}", OVERLAPS_S.start(), OVERLAPS_S.end());
    let overlap = reader.optional("overlap_s", seconds, &wants);
    let faults = reader.finish();
    if faults.is_empty() {
        Ok(Rotation { secret, overlap: Duration::from_secs(overlap.unwrap_or(OVERLAP_S)) })
    } else {
        Err(faults)
    }
}

/// Reads the wish for a test.
///
/// # Errors
/// Every fault of it.
pub fn test(raw: &RawValue) -> Result<Test<'_>, Faults> {
    let mut reader = ObjectReader::open("", raw, &["event_type", "payload"], "the request")?;
    // Nobody can make a receiver believe that the stack itself told it something else.
    let allowed = |name: &str| is_event_type(name) && (!is_reserved_event_type(name) || name == TEST_EVENT_TYPE);
    let wants = "must be words of A-Z, a-z, 0-9, underscore and hyphen with dots between them, and not a reserved `steadhook` name";
    let event_type = reader.text_if("event_type", allowed, wants);
    let payload = reader.raw("payload").map(RawValue::get);
    if let Some(c) = payload.and_then(refused_by_sqs) {
        reader.fault("payload", format!("U+{:04X} cannot be queued; write it as a JSON escape", u32::from(c)));
    }
    let faults = reader.finish();
    if faults.is_empty() {
        Ok(Test { event_type: event_type.unwrap_or_else(|| TEST_EVENT_TYPE.to_owned()), payload })
    } else {
        Err(faults)
    }
}

/// A signing secret in the field `secret`.
fn secret(reader: &mut ObjectReader<'_>) -> Option<Confidential> {
    let text = reader.text("secret")?;
    match SigningSecret::parse(&text) {
        Ok(_) => Some(Confidential::new(text)),
        Err(error) => {
            reader.fault("secret", error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rate;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn made(text: &str) -> Result<NewEndpoint, Vec<String>> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        new_endpoint(raw, &Guard::default())
            .map_err(|faults| faults.told().iter().map(|fault| fault.pointer.clone()).collect())
    }

    #[test]
    fn the_smallest_endpoint_is_a_url() {
        let NewEndpoint { settings, secret } = made(r#"{"url":"https://a.example/Hook"}"#).unwrap();
        assert_eq!((settings.url.as_str(), settings.retry_schedule.waits_s().len()), ("https://a.example/Hook", 7));
        assert!(settings.uid.is_none() && settings.headers.is_empty() && settings.rate.is_none() && secret.is_none());
    }

    #[test]
    fn everything_that_is_given_is_kept_and_nothing_confidential_is_shown() {
        let text = format!(
            r#"{{"url":"https://a.example/","uid":"order_1","description":"é","event_types":["a.b","c.*"],"filter":{{"payload": {{"a":[1.0]}}}},
                "headers":{{"X-Team":"blue","Authorization":{{"value":"Bearer hush","sensitive":true}},"x-old":{{"value":"1"}}}},
                "secret":"{SECRET}","retry_schedule_s":[],"rate_per_s":0.5,"metadata":{{"owner":"mara"}}}}"#
        );
        let endpoint = made(&text).unwrap();
        let settings = &endpoint.settings;
        assert_eq!(settings.headers["x-team"], HeaderSetting::Plain("blue".into()));
        assert_eq!(settings.headers["x-old"], HeaderSetting::Plain("1".into()));
        assert_eq!(
            settings.headers["authorization"],
            HeaderSetting::Sensitive(Confidential::new("Bearer hush".into()))
        );
        assert_eq!(settings.filter.as_ref().unwrap().as_str(), r#"{"payload": {"a":[1.0]}}"#);
        assert_eq!((settings.event_types.len(), settings.metadata["owner"].as_str()), (2, "mara"));
        assert!(settings.retry_schedule.waits_s().is_empty(), "one attempt");
        assert_eq!(settings.rate, Rate::try_from(0.5).ok());
        assert_eq!(endpoint.secret.as_ref().unwrap().expose(), SECRET);
        let shown = format!("{endpoint:?}");
        assert!(!shown.contains("hush") && !shown.contains("whsec") && !shown.contains("blue"), "{shown}");
    }

    #[test]
    fn every_fault_is_named_at_once_and_none_repeats_a_value() {
        let text = r#"{"url":"ftp://u:canary@a.example","uid":"can ary","description":7,"event_types":["canary!",1,"a","a"],
            "headers":{"Host":"canary","x-a":{"sensitive":true},"x-b":{"value":"é","colour":1},"X-C":"1","x-c":"2","x-d":null},
            "secret":"canary","retry_schedule_s":[0,"canary",5],"metadata":{"":"x","a":1,"b":null},
            "filter":{"payload":{"a/b":["x",{"canary":1}]},"event_type":[]},"rate_per_s":"canary","state":"canary","catch_up":false,"canaryfield":1}"#;
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let faults = new_endpoint(raw, &Guard::default()).unwrap_err();
        let told: Vec<_> = faults.told().iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(
            told,
            [
                "/catch_up",
                "/canaryfield",
                "/state",
                "/url",
                "/uid",
                "/description",
                "/event_types/0",
                "/event_types/1",
                "/event_types/3",
                "/filter/payload/a~1b/1/canary",
                "/filter/event_type",
                "/headers/Host",
                "/headers/x-b/colour",
                "/headers/x-b",
                "/headers/x-c",
                "/headers/x-d",
                "/headers/x-a/value",
                "/retry_schedule_s/0",
                "/retry_schedule_s/1",
                "/rate_per_s",
                "/metadata/",
                "/metadata/a",
                "/metadata/b",
                "/secret",
            ]
        );
        assert!(faults.told().iter().all(|fault| !fault.message.contains("canary")), "{faults:?}");
        assert_eq!(made("[]").unwrap_err(), [""]);
        assert_eq!(made("{}").unwrap_err(), ["/url"]);
    }

    #[test]
    fn lists_are_bounded() {
        let with = |field: &str| made(&format!(r#"{{"url":"https://a.example/",{field}}}"#));
        let many = |n: usize, each: fn(usize) -> String| (0..n).map(each).collect::<Vec<_>>().join(",");
        let types = |n| format!(r#""event_types":[{}]"#, many(n, |i| format!("\"t{i}\"")));
        assert!(with(&types(100)).is_ok());
        assert_eq!(with(&types(101)).unwrap_err(), ["/event_types"]);
        let headers = |n| format!(r#""headers":{{{}}}"#, many(n, |i| format!(r#""x-{i}":"v""#)));
        assert!(with(&headers(20)).is_ok());
        assert_eq!(with(&headers(21)).unwrap_err(), ["/headers"]);
        let metadata = |n| format!(r#""metadata":{{{}}}"#, many(n, |i| format!(r#""k{i}":"v""#)));
        assert!(with(&metadata(20)).is_ok());
        assert_eq!(with(&metadata(21)).unwrap_err(), ["/metadata"]);
        let filter = |n| format!(r#""filter":{{"a":["{}"]}}"#, "x".repeat(n));
        assert!(with(&filter(4_086)).is_ok());
        assert_eq!(with(&filter(4_087)).unwrap_err(), ["/filter"]);
        let schedule = |n| format!(r#""retry_schedule_s":[{}]"#, many(n, |_| "60000".into()));
        assert!(with(&schedule(10)).is_ok());
        assert_eq!(with(&schedule(11)).unwrap_err(), ["/retry_schedule_s"], "more than a week");
        assert_eq!(with(&schedule(17)).unwrap_err(), ["/retry_schedule_s"]);
        for (rate, fits) in
            [("0.1", true), ("500", true), ("null", true), ("0", false), ("500.1", false), ("\"1\"", false)]
        {
            assert_eq!(with(&format!(r#""rate_per_s":{rate}"#)).is_ok(), fits, "{rate}");
        }
        assert_eq!(with(&format!(r#""description":"{}""#, "x".repeat(513))).unwrap_err(), ["/description"]);
        assert_eq!(with(&format!(r#""metadata":{{"k":"{}"}}"#, "x".repeat(257))).unwrap_err(), ["/metadata/k"]);
    }

    #[test]
    fn an_overlap_is_a_day_unless_it_is_given() {
        let read = |text: &str| rotation(serde_json::from_str(text).unwrap());
        assert_eq!(read("{}").unwrap(), Rotation { secret: None, overlap: Duration::from_secs(86_400) });
        for (seconds, fits) in [("1199", false), ("1200", true), ("604800", true), ("604801", false), ("1.5", false)] {
            assert_eq!(read(&format!(r#"{{"overlap_s":{seconds}}}"#)).is_ok(), fits, "{seconds}");
        }
        let faults = read(r#"{"overlap_s":"x","secret":"whsec_AAAA","x":1}"#).unwrap_err();
        assert_eq!(faults.count(), 3);
    }

    #[test]
    fn a_test_names_no_reserved_event_type_but_its_own() {
        let read = |text: &'static str| test(serde_json::from_str(text).unwrap());
        assert_eq!(read("{}").unwrap(), Test { event_type: "steadhook.test".into(), payload: None });
        let given = read(r#"{"event_type":"a.b","payload":{ "x":1.0 }}"#).unwrap();
        assert_eq!((given.event_type.as_str(), given.payload), ("a.b", Some(r#"{ "x":1.0 }"#)));
        assert!(read(r#"{"event_type":"steadhook.test","payload":null}"#).is_ok());
        assert!(read(r#"{"event_type":"steadhook.endpoint.disabled"}"#).is_err());
        assert!(read("{\"event_type\":\"a..b\",\"payload\":\"\u{ffff}\"}").is_err());
    }
}
