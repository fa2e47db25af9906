//! The fields that a new endpoint and a change of one have in common.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::address::Guard;
use crate::endpoint::{MAX_DESCRIPTION, MAX_EVENT_TYPES, MAX_METADATA, MAX_METADATA_TEXT};
use crate::fault::{Fault, pointer_token};
use crate::filter::{Filter, Pattern};
use crate::json::{each_field, elements};
use crate::names::{is_event_type_pattern, is_uid};
use crate::object::{ObjectReader, parsed};
use crate::rate::{NoRate, Rate};
use crate::schedule::{MAX_WAIT_S, MAX_WAITS, RetrySchedule};
use crate::webhook::read_url;

/// What a client can set.
pub(super) const SETTINGS: &[&str] =
    &["url", "uid", "description", "event_types", "filter", "headers", "retry_schedule_s", "rate_per_s", "metadata"];
/// Entries of an object that are looked at one by one. More are too many in any case.
const MAX_VETTED: usize = 100;

pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

pub(super) fn url(reader: &mut ObjectReader<'_>, guard: &Guard) -> Option<String> {
    let text = reader.text("url")?;
    match read_url(&text, guard) {
        Ok(_) => Some(text),
        Err(why) => {
            reader.fault("url", why);
            None
        }
    }
}

pub(super) fn uid(reader: &mut ObjectReader<'_>) -> Option<String> {
    reader.text_if("uid", is_uid, "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen")
}

pub(super) fn description(reader: &mut ObjectReader<'_>) -> Option<String> {
    let fits = |text: &str| text.chars().count() <= MAX_DESCRIPTION;
    reader.text_if("description", fits, "has at most 512 characters")
}

pub(super) fn event_types(reader: &mut ObjectReader<'_>) -> Option<Vec<String>> {
    let Ok((items, count)) = elements(reader.raw("event_types")?, MAX_EVENT_TYPES) else {
        reader.fault("event_types", "must be an array of event types");
        return None;
    };
    if count > MAX_EVENT_TYPES {
        reader.fault("event_types", "at most 100 event types");
    }
    let mut types: Vec<String> = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        let message = match parsed::<String>(item).filter(|text| is_event_type_pattern(text)) {
            None => "must be an event type such as `invoice.paid`, or all below a name, as `invoice.*`",
            Some(text) if types.contains(&text) => "stands twice",
            Some(text) => {
                types.push(text);
                continue;
            }
        };
        reader.faults(Fault::at(format!("/event_types/{i}"), message));
    }
    Some(types)
}

pub(super) fn filter(reader: &mut ObjectReader<'_>) -> Option<Pattern> {
    match Filter::read("/filter", reader.raw("filter")?) {
        Ok(filter) => Some(filter.pattern().clone()),
        Err(faults) => {
            reader.faults(faults);
            None
        }
    }
}

pub(super) fn retry_schedule(reader: &mut ObjectReader<'_>) -> Option<RetrySchedule> {
    let Ok((items, count)) = elements(reader.raw("retry_schedule_s")?, MAX_WAITS) else {
        reader.fault("retry_schedule_s", "must be an array of seconds");
        return None;
    };
    if count > MAX_WAITS {
        reader.fault("retry_schedule_s", "has at most 16 waits");
        return None;
    }
    let mut waits = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        match parsed::<u32>(item).filter(|wait| (1..=MAX_WAIT_S).contains(wait)) {
            Some(wait) => waits.push(wait),
            None => {
                let message = "must be a whole number of seconds from 1 to 86400";
                reader.faults(Fault::at(format!("/retry_schedule_s/{i}"), message));
            }
        }
    }
    match RetrySchedule::new(waits) {
        Ok(schedule) => Some(schedule),
        Err(why) => {
            reader.fault("retry_schedule_s", why);
            None
        }
    }
}

pub(super) fn rate(reader: &mut ObjectReader<'_>) -> Option<Rate> {
    // `null` is no rate, also where nothing is changed.
    reader.optional("rate_per_s", parsed::<Option<Rate>>, &NoRate.to_string()).flatten()
}

/// The entries of `metadata`; `None` for one that is `null`, where `nulls` are allowed.
pub(super) fn metadata(reader: &mut ObjectReader<'_>, nulls: bool) -> Option<BTreeMap<String, Option<String>>> {
    let (mut fields, mut count) = (Vec::new(), 0);
    let read = each_field(reader.raw("metadata")?, |name, raw| {
        count += 1;
        if count <= MAX_VETTED {
            fields.push((name.to_owned(), raw));
        }
    });
    if read.is_err() {
        reader.fault("metadata", "must be an object of strings");
        return None;
    }
    if count > if nulls { MAX_VETTED } else { MAX_METADATA } {
        reader.fault("metadata", "at most 20 entries");
    }
    let is_short = |text: &str| text.chars().count() <= MAX_METADATA_TEXT;
    let mut metadata = BTreeMap::new();
    for (name, raw) in fields {
        let value = parsed::<String>(raw).filter(|text| is_short(text));
        let message = if name.is_empty() || !is_short(&name) {
            "a name has 1 to 256 characters"
        } else if value.is_none() && !(nulls && is_null(raw)) {
            "must be a string of at most 256 characters"
        } else if metadata.insert(name.clone(), value).is_some() {
            "stands twice"
        } else {
            continue;
        };
        reader.faults(Fault::at(format!("/metadata/{}", pointer_token(&name)), message));
    }
    Some(metadata)
}
