//! What a client asks for: a replay, read from JSON with every fault named at once.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::fault::{Fault, Faults};
use crate::history::replay::{ReplayKind, ReplayRequest};
use crate::names::is_event_type_pattern;
use crate::object::{ObjectReader, parsed};
use crate::time::Millis;

/// Most event types of a replay.
pub const MAX_EVENT_TYPES: usize = 100;
/// Most deliveries that are queued in a second.
const MAX_PER_SECOND: u64 = 500;
/// So many are, unless the request says otherwise.
const PER_SECOND: u32 = 10;
/// The fields of a replay.
const FIELDS: &[&str] = &["what", "since", "until", "event_types", "per_second", "dry_run"];

/// Reads the replay of an endpoint. History keeps events for `kept_for`.
///
/// # Errors
/// Every fault.
pub fn read(raw: &RawValue, endpoint: &str, kept_for: Duration, now: Millis) -> Result<ReplayRequest, Faults> {
    const TIME: &str = "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)";
    let mut reader = ObjectReader::open("", raw, FIELDS, "a replay")?;
    reader.required("what");
    let what: Option<ReplayKind> =
        reader.optional("what", |raw| parsed::<String>(raw)?.parse().ok(), "must be failed or missing");
    let time = |raw: &RawValue| parsed::<String>(raw).and_then(|text| Millis::parse_rfc3339(&text));
    reader.required("since");
    let since = reader.optional("since", time, TIME);
    let until = reader.optional("until", time, TIME).unwrap_or(now);
    if until > now {
        reader.fault("until", "must not lie in the future");
    }
    if since.is_some_and(|since| since >= until) {
        reader.fault("since", "must lie before `until`");
    }
    if what == Some(ReplayKind::Missing) && since.is_some_and(|since| since.until(now) > kept_for) {
        let days = kept_for.as_secs() / 86_400;
        reader.fault(
            "since",
            format!("events are kept for {days} days: what is missing of earlier ones cannot be told (HistoryDays)"),
        );
    }
    let event_types = event_types(&mut reader);
    let per_second = reader.number("per_second", MAX_PER_SECOND).and_then(|rate| u32::try_from(rate).ok());
    let dry_run = reader.flag("dry_run");
    match (what, since) {
        (Some(what), Some(since)) if reader.is_sound() => Ok(ReplayRequest {
            endpoint: endpoint.to_owned(),
            what,
            since,
            until,
            event_types,
            per_second: per_second.unwrap_or(PER_SECOND),
            dry_run,
        }),
        _ => Err(reader.finish()),
    }
}

fn event_types(reader: &mut ObjectReader<'_>) -> Vec<String> {
    let read = |raw| parsed::<Vec<String>>(raw).filter(|types| (1..=MAX_EVENT_TYPES).contains(&types.len()));
    let event_types =
        reader.optional("event_types", read, "must be a list of 1 to 100 event types").unwrap_or_default();
    for (place, event_type) in event_types.iter().enumerate() {
        if !is_event_type_pattern(event_type) {
            reader.faults(Fault::at(format!("/event_types/{place}"), "must be an event type, or one followed by `.*`"));
        }
    }
    event_types
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);
    const LIFE: Duration = Duration::from_secs(7 * 86_400);

    fn read_text(text: &str) -> Result<ReplayRequest, Vec<String>> {
        let faults = |faults: Faults| faults.told().iter().map(|fault| fault.pointer.clone()).collect();
        read(serde_json::from_str(text).unwrap(), "ep_1", LIFE, NOW).map_err(faults)
    }

    fn ago(days: u64) -> String {
        Millis(NOW.0 - days * 86_400_000).to_string()
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let read = read_text(&format!(r#"{{"what":"failed","since":"{}"}}"#, ago(1))).unwrap();
        let wanted = ReplayRequest {
            endpoint: "ep_1".into(),
            what: ReplayKind::Failed,
            since: Millis(NOW.0 - 86_400_000),
            until: NOW,
            event_types: Vec::new(),
            per_second: 10,
            dry_run: false,
        };
        assert_eq!(read, wanted);
        let (since, until) = (ago(2), ago(1));
        let text = format!(
            r#"{{"what":"missing","since":"{since}","until":"{until}","event_types":["a.*","b"],"per_second":500,"dry_run":true}}"#
        );
        let read = read_text(&text).unwrap();
        assert_eq!((read.what, read.per_second, read.dry_run), (ReplayKind::Missing, 500, true));
        assert_eq!((read.event_types, read.until), (vec!["a.*".into(), "b".into()], Millis(NOW.0 - 86_400_000)));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(read_text("{}"), Err(vec!["/what".into(), "/since".into()]));
        assert_eq!(read_text("[]"), Err(vec![String::new()]));
        let text = r#"{"what":"all","since":"yesterday","until":"2100-01-01T00:00:00Z","event_types":["a","*"],
            "per_second":501,"dry_run":1,"x":1}"#;
        let wanted = ["/x", "/what", "/since", "/until", "/event_types/1", "/per_second", "/dry_run"];
        assert_eq!(read_text(text), Err(wanted.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_replay_has_a_beginning_before_its_end() {
        let (since, until) = (ago(1), ago(2));
        let text = format!(r#"{{"what":"failed","since":"{since}","until":"{until}"}}"#);
        assert_eq!(read_text(&text), Err(vec!["/since".into()]));
        assert_eq!(read_text(&format!(r#"{{"what":"failed","since":"{NOW}"}}"#)), Err(vec!["/since".into()]));
    }

    #[test]
    fn what_is_missing_of_events_that_are_gone_cannot_be_told() {
        let of = |what: &str, days| read_text(&format!(r#"{{"what":"{what}","since":"{}"}}"#, ago(days)));
        assert!(of("missing", 7).is_ok() && of("failed", 8).is_ok());
        assert_eq!(of("missing", 8), Err(vec!["/since".into()]));
    }
}
