//! What every receiver protocol offers: one attempt at one delivery.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use domain::delivery::Delivery;
use domain::outcome::Attempted;
use domain::redaction::Redactor;
use domain::signature::Signer;
use domain::trace::{self, Trace};
use http::Uri;
use url::Url;

/// What one attempt sends, and where.
#[derive(Clone)]
pub struct ReceiverCall<'a> {
    /// The `webhook-id`.
    pub webhook_id: Cow<'a, str>,
    /// What the attempt's log lines are found by.
    pub correlation_id: &'a str,
    /// The client's trace.
    pub trace: Option<&'a Trace>,
    /// The receiver's URL.
    pub url: &'a str,
    /// The same, if it was read already.
    pub read_url: Option<&'a ReadUrl>,
    /// Headers beside ours, names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// The JSON text to send, byte for byte.
    pub payload: &'a Bytes,
    /// What its endpoint adds; `None` for a direct webhook.
    pub endpoint: Option<EndpointCall<'a>>,
}

/// A URL that was read.
#[derive(Clone, Debug)]
pub struct ReadUrl {
    /// As the standard for URLs has it.
    pub url: Url,
    /// The same as an HTTP client takes it; `None` if it cannot.
    pub uri: Option<Uri>,
}

impl ReadUrl {
    /// Reads a URL; `None` when it cannot be read.
    pub fn of(text: &str) -> Option<Self> {
        Url::parse(text).ok().map(Self::from)
    }
}

impl From<Url> for ReadUrl {
    fn from(url: Url) -> Self {
        Self { uri: Uri::try_from(url.as_str()).ok(), url }
    }
}

/// How a call to an endpoint differs from one of a direct webhook.
#[derive(Clone, Copy)]
pub struct EndpointCall<'a> {
    /// Signs instead of the stack's secrets.
    pub signer: &'a Signer,
    /// Cuts confidential texts out of what is kept of an answer.
    pub confidential: &'a Redactor,
}

/// Neither the headers nor the payload: both may hold secrets.
impl fmt::Debug for ReceiverCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverCall").field("webhook_id", &self.webhook_id).finish_non_exhaustive()
    }
}

impl<'a> ReceiverCall<'a> {
    /// The call of a direct webhook.
    pub fn direct(delivery: &'a Delivery) -> Self {
        Self {
            webhook_id: delivery.webhook_id(),
            correlation_id: &delivery.correlation_id,
            trace: delivery.trace.as_ref(),
            url: &delivery.url,
            read_url: None,
            headers: &delivery.headers,
            payload: &delivery.payload,
            endpoint: None,
        }
    }

    /// The `traceparent` of one attempt. `span` is any random number.
    pub fn traceparent(&self, span: u64) -> String {
        match self.trace {
            Some(trace) => trace.traceparent(span),
            None => trace::traceparent(self.correlation_id, span),
        }
    }
}

/// Makes attempts. A trait because the simulation scripts its receivers in
/// virtual time; everything else runs the real one.
#[async_trait]
pub trait ReceiverClient: Send + Sync {
    /// Posts one webhook and waits for its answer. Failure is a value.
    async fn post(&self, call: &ReceiverCall<'_>) -> Attempted;
}
