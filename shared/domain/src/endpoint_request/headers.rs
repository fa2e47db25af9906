//! The headers of an endpoint, as a request gives them: a text, or an object with `value`
//! and `sensitive`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::fields::is_null;
use super::settings::Confidential;
use crate::fault::{Fault, pointer_token};
use crate::headers::{MAX_HEADERS, MAX_TOTAL, vet};
use crate::json::each_field;
use crate::object::{ObjectReader, parsed};

/// Headers that are looked at one by one. More are too many in any case.
const MAX_VETTED: usize = 100;

/// What a request says of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderChange {
    /// It is taken away.
    Remove,
    /// It is set, as far as it is said.
    Set {
        /// Its value.
        value: Option<Confidential>,
        /// Whether its value is only shown to the receiver.
        sensitive: Option<bool>,
    },
}

/// The field `headers`, names in lower case. `null` takes a header away, where `nulls` are
/// allowed.
pub(super) fn read(reader: &mut ObjectReader<'_>, nulls: bool) -> Option<BTreeMap<String, HeaderChange>> {
    let (mut fields, mut count, mut total) = (Vec::new(), 0, 0);
    let read = each_field(reader.raw("headers")?, |name, raw| {
        count += 1;
        total += name.len() + raw.get().len();
        if count <= MAX_VETTED {
            fields.push((name.to_owned(), raw));
        }
    });
    if read.is_err() {
        reader.fault("headers", "must be an object of headers");
        return None;
    }
    if count > if nulls { MAX_VETTED } else { MAX_HEADERS } {
        reader.fault("headers", "at most 20 headers");
    }
    if total > MAX_TOTAL {
        reader.fault("headers", "at most 16384 bytes in all");
    }
    let mut headers = BTreeMap::new();
    for (name, raw) in fields {
        let pointer = format!("/headers/{}", pointer_token(&name));
        let Some(change) = one(reader, &pointer, raw, nulls) else { continue };
        let value = match &change {
            HeaderChange::Set { value: Some(value), .. } => value.expose(),
            HeaderChange::Set { value: None, .. } | HeaderChange::Remove => "",
        };
        match vet("", &name, value) {
            Err(fault) => reader.faults(fault),
            Ok(lower) => {
                if headers.insert(lower, change).is_some() {
                    reader.faults(Fault::at(pointer, "duplicate header"));
                }
            }
        }
    }
    Some(headers)
}

fn one(reader: &mut ObjectReader<'_>, pointer: &str, raw: &RawValue, nulls: bool) -> Option<HeaderChange> {
    if nulls && is_null(raw) {
        return Some(HeaderChange::Remove);
    }
    if let Some(text) = parsed::<String>(raw) {
        return Some(HeaderChange::Set { value: Some(Confidential::new(text)), sensitive: Some(false) });
    }
    match ObjectReader::open(pointer, raw, &["value", "sensitive"], "a header that is no string") {
        Err(fault) => {
            reader.faults(fault);
            None
        }
        Ok(mut header) => {
            let value = header.text("value").map(Confidential::new);
            let sensitive = match header.raw("sensitive") {
                None => None,
                Some(raw) if nulls && is_null(raw) => Some(false),
                Some(_) => Some(header.flag("sensitive")),
            };
            reader.faults(header.finish());
            Some(HeaderChange::Set { value, sensitive })
        }
    }
}
