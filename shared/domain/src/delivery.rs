//! A delivery: what one webhook sends to its receiver. Every message of it carries
//! these fields, unchanged from acceptance to the last attempt.

use std::collections::BTreeMap;

use bytes::Bytes;
use url::Url;

use crate::destination::Destination;
use crate::time::Millis;

/// One webhook on its way to its receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The webhook id, the same on every attempt.
    pub id: String,
    /// The receiver's URL, as the client wrote it.
    pub url: String,
    /// The JSON text to send, byte for byte.
    pub payload: Bytes,
    /// The client's extra headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The kind of event.
    pub event_type: Option<String>,
    /// The id that its log lines share.
    pub correlation_id: String,
    /// Tells its body from another under the same id; empty if unknown.
    pub body_hash: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// When it is given up.
    pub deadline: Millis,
}

impl Delivery {
    /// The receiver's URL; `None` when it cannot be read, which the receiver client
    /// reports.
    pub fn parsed_url(&self) -> Option<Url> {
        Url::parse(&self.url).ok()
    }

    /// The receiver's origin; `None` when the URL cannot be read.
    pub fn destination(&self) -> Option<Destination> {
        self.parsed_url().map(|url| Destination::of(&url))
    }
}
