//! What answers show of endpoints. A secret is shown by the three calls that are there for
//! it; the value of a sensitive header by none.

use domain::endpoint::{Card, CardHeader};
use domain::signature::SigningSecret;
use domain::time::Millis;
use lambda_http::http::Response;
use lambda_http::http::header::{ETAG, HeaderValue};
use serde_json::{Map, Value, json};

use crate::precondition::etag;

/// A card without its secrets.
pub(crate) fn card(card: &Card) -> Value {
    let headers = card.headers.iter().map(|(name, header)| {
        let header = match header {
            CardHeader::Plain(value) => json!(value),
            CardHeader::Sealed(_) => json!({ "sensitive": true }),
        };
        (name.clone(), header)
    });
    let mut view = json!({
        "id": card.id,
        "tenant": card.tenant,
        "url": card.url,
        "description": card.description,
        "event_types": card.event_types,
        "headers": headers.collect::<Map<_, _>>(),
        "retry_schedule_s": card.retry_schedule.waits_s(),
        "state": card.state,
        "state_since": card.state_since.to_string(),
        "metadata": card.metadata,
        "created_at": card.created_at.to_string(),
        "updated_at": card.updated_at.to_string(),
        "version": card.version,
    });
    if let Some(uid) = &card.uid {
        view["uid"] = json!(uid);
    }
    view
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
