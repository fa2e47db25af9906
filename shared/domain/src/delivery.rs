//! A delivery: what one webhook sends to its receiver. Every message of it carries
//! these fields, unchanged from acceptance to the last attempt.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::destination::Destination;
use crate::identity::event_webhook_id;
use crate::time::Millis;
use crate::trace::Trace;

/// One webhook on its way to its receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, the same on every attempt.
    pub id: String,
    /// The endpoint that it is for. Then URL, headers and secrets are those of the
    /// endpoint's card at the time of an attempt, and `url` and `headers` are empty.
    pub endpoint: Option<EndpointTarget>,
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
    /// The client's trace, of a delivery to an endpoint.
    pub trace: Option<Trace>,
    /// Tells its body from another under the same id; empty if unknown.
    pub body_hash: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// When it is given up.
    pub deadline: Millis,
}

/// Which endpoint one event goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointTarget {
    /// The tenant.
    pub tenant: String,
    /// The endpoint's id, `ep_…`.
    pub endpoint: String,
    /// The event's id.
    pub event_id: String,
    /// Which life of the delivery it is, if it was sent again on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
    /// The endpoint's origin when the message was made: a hint.
    pub origin: String,
    /// Whether somebody tests the endpoint: one call, never retried, no breaker.
    #[serde(default, rename = "test")]
    pub is_test: bool,
}

impl Delivery {
    /// The `webhook-id` that its receiver sees.
    pub fn webhook_id(&self) -> Cow<'_, str> {
        match &self.endpoint {
            None => Cow::from(&self.id),
            Some(target) => Cow::from(event_webhook_id(&target.tenant, &target.event_id)),
        }
    }

    /// Whether somebody tests an endpoint with it.
    pub fn is_test(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|target| target.is_test)
    }

    /// The receiver's URL; `None` when it cannot be read, which the receiver client
    /// reports.
    pub fn parsed_url(&self) -> Option<Url> {
        Url::parse(&self.url).ok()
    }

    /// The receiver's origin; `None` when the URL cannot be read. Of an endpoint it is the
    /// hint.
    pub fn destination(&self) -> Option<Destination> {
        let url = match &self.endpoint {
            None => self.parsed_url(),
            Some(target) => Url::parse(&target.origin).ok(),
        };
        url.map(|url| Destination::of(&url))
    }
}
