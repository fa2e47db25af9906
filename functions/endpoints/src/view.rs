//! What answers show of endpoints. A secret is shown by the three calls that are there for
//! it; the value of a sensitive header by none.

use std::collections::BTreeMap;

use domain::endpoint::{Card, CardHeader, EndpointState, StateReason};
use domain::rate::Rate;
use domain::signature::SigningSecret;
use domain::time::Millis;
use lambda_http::http::Response;
use lambda_http::http::header::{ETAG, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::precondition::etag;

/// A card as answers show it, without its secrets.
#[derive(Serialize)]
pub(crate) struct CardView<'a> {
    id: &'a str,
    tenant: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    url: &'a str,
    description: &'a str,
    event_types: &'a [String],
    /// As it was given: the order of its fields matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a RawValue>,
    headers: BTreeMap<&'a str, Value>,
    retry_schedule_s: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<Rate>,
    state: EndpointState,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason: Option<StateReason>,
    state_since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owed_dropped_before: Option<String>,
    metadata: &'a BTreeMap<String, String>,
    created_at: String,
    updated_at: String,
    version: u64,
    /// The secret, in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    /// What its signatures are checked with, if the secret is private.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

/// A card without its secrets.
pub(crate) fn card(card: &Card) -> CardView<'_> {
    let headers = card.headers.iter().map(|(name, header)| {
        let header = match header {
            CardHeader::Plain(value) => json!(value),
            CardHeader::Sealed(_) => json!({ "sensitive": true }),
        };
        (name.as_str(), header)
    });
    CardView {
        id: &card.id,
        tenant: &card.tenant,
        uid: card.uid.as_deref(),
        url: &card.url,
        description: &card.description,
        event_types: &card.event_types,
        filter: card.filter.as_ref().and_then(|filter| serde_json::from_str(filter.as_str()).ok()),
        headers: headers.collect(),
        retry_schedule_s: card.retry_schedule.waits_s(),
        rate_per_s: card.rate,
        state: card.state,
        state_reason: card.state_reason,
        state_since: card.state_since.to_string(),
        owed_dropped_before: card.owed_dropped_before.map(|at| at.to_string()),
        metadata: &card.metadata,
        created_at: card.created_at.to_string(),
        updated_at: card.updated_at.to_string(),
        version: card.version,
        secret: None,
        public_key: None,
    }
}

impl<'a> CardView<'a> {
    /// The same with the secret, for whoever made the endpoint.
    pub(crate) fn with_secret(self, secret: &'a str) -> Self {
        Self { secret: Some(secret), public_key: public_key(secret), ..self }
    }
}

/// A secret in clear text.
pub(crate) struct Shown {
    /// Its id.
    pub(crate) id: String,
    /// The secret.
    pub(crate) text: String,
    /// When it was made or given.
    pub(crate) created_at: Millis,
    /// When it ends, if it was replaced.
    pub(crate) expires_at: Option<Millis>,
}

impl Shown {
    /// The secret as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let mut view = json!({ "id": self.id, "secret": self.text, "created_at": self.created_at.to_string() });
        if let Some(at) = self.expires_at {
            view["expires_at"] = json!(at.to_string());
        }
        if let Some(key) = public_key(&self.text) {
            view["public_key"] = json!(key);
        }
        view
    }
}

/// What receivers check the signatures of a private secret with.
pub(crate) fn public_key(secret: &str) -> Option<String> {
    SigningSecret::parse(secret).ok()?.public_key()
}

/// Says which version an answer is about.
pub(crate) fn tagged(mut response: Response<String>, version: u64) -> Response<String> {
    if let Ok(tag) = HeaderValue::try_from(etag(version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
