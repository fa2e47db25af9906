//! `POST /tenants/{tenant}/endpoints/{endpoint}/rotate-secret`: a new secret signs first,
//! and the older ones sign beside it until their overlap ends.

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::registry::{EndpointKey, Written};
use domain::endpoint::{Card, CardSecret};
use domain::endpoint_request::{self, Rotation};
use domain::fault::Fault;
use domain::seal::OpenError;
use domain::time::Millis;
use lambda_http::Body;
use lambda_http::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::precondition::Precondition;
use crate::problems::{away, closed, fits, overtaken, unsealed};
use crate::sealing::{card_secret, drop_expired, made_secret, seal};
use crate::view::Shown;
use crate::{Endpoints, TRIES, view};

/// Most secrets that sign at a time: each one makes `webhook-signature` longer.
const MAX_ACTIVE: usize = 5;

impl Endpoints {
    /// Gives an endpoint another secret. The answer shows it, and all that sign.
    pub(crate) async fn rotate(
        &self,
        key: &EndpointKey,
        precondition: &Precondition,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let raw = body::json(if body.is_empty() { b"{}" } else { body.as_ref() })?;
        let rotation = endpoint_request::rotation(raw).map_err(Problem::invalid)?;
        self.keyring.refresh().await;
        for _ in 0..TRIES {
            let before = self.card(key).await?;
            precondition.check(before.version)?;
            let (card, shown) = self.with_new_secret(&before, &rotation).await?;
            fits(&card)?;
            match self.registry.replace(&before, &card).await.map_err(away)? {
                Written::Done => {
                    tracing::warn!(tenant = %key.tenant, endpoint_id = %key.endpoint, correlation_id, "secret rotated");
                    let response = answer::json(StatusCode::OK, &rotated(&shown), correlation_id);
                    return Ok(view::tagged(response, card.version));
                }
                Written::Changed | Written::UidTaken(_) | Written::TooMany => {}
            }
        }
        Err(overtaken())
    }

    /// The card with a new secret, and all that sign then, newest first.
    async fn with_new_secret(&self, before: &Card, rotation: &Rotation) -> Result<(Card, Vec<Shown>), Problem> {
        let now = self.clock.now();
        let mut card = before.clone();
        (card.version, card.updated_at) = (before.version + 1, now);
        drop_expired(&mut card, now);
        if card.secrets.len() >= MAX_ACTIVE {
            return Err(too_many_secrets(&card));
        }
        let ends = now.after(rotation.overlap);
        let (mut secrets, mut shown) = (Vec::new(), Vec::new());
        for secret in &card.secrets {
            let text = match self.opened(&card, secret).await {
                Ok(text) => text,
                Err(OpenError::Refused) => {
                    // It signs nothing, and as long as it is there nothing is sent.
                    tracing::error!(tenant = %card.tenant, endpoint_id = %card.id, secret = %secret.id, "a secret that does not open is dropped");
                    continue;
                }
                Err(error) => return Err(closed(&card, error)),
            };
            if rotation.secret.as_ref().is_some_and(|given| given.expose() == text) {
                return Err(Problem::invalid(Fault::at("/secret", "is a secret of this endpoint already")));
            }
            // It never lives longer than it would have.
            let expires_at = secret.expires_at.map_or(ends, |at| at.min(ends));
            let ending = self.ending(&card, secret, &text, expires_at)?;
            let CardSecret { id, created_at, .. } = ending.clone();
            shown.push(Shown { id, text, created_at, expires_at: Some(expires_at) });
            secrets.push(ending);
        }
        let text = match &rotation.secret {
            Some(given) => given.expose().to_owned(),
            None => made_secret().map_err(unsealed)?,
        };
        let new = card_secret(&self.keyring.keys(), &card, &text, now).map_err(unsealed)?;
        shown.insert(0, Shown { id: new.id.clone(), text, created_at: now, expires_at: None });
        secrets.insert(0, new);
        card.secrets = secrets;
        Ok((card, shown))
    }

    /// An older secret with its end. The end is authenticated, so it is sealed again.
    fn ending(&self, card: &Card, secret: &CardSecret, text: &str, at: Millis) -> Result<CardSecret, Problem> {
        if secret.expires_at == Some(at) {
            return Ok(secret.clone());
        }
        let sealed = seal(&self.keyring.keys(), card.secret_place(&secret.id, Some(at)), text).map_err(unsealed)?;
        Ok(CardSecret { expires_at: Some(at), sealed, ..secret.clone() })
    }
}

/// The new secret as the answer to a creation shows it, and all that sign, newest first.
fn rotated(shown: &[Shown]) -> Value {
    let secrets: Vec<Value> = shown.iter().map(Shown::to_json).collect();
    let mut body = json!({ "secrets": secrets });
    if let Some(new) = shown.first() {
        body["secret"] = json!(new.text);
        if let Some(key) = view::public_key(&new.text) {
            body["public_key"] = json!(key);
        }
    }
    body
}

fn too_many_secrets(card: &Card) -> Problem {
    let first = card.secrets.iter().filter_map(|secret| secret.expires_at).min();
    let when = first.map(|at| format!(" The first one ends at {at}.")).unwrap_or_default();
    Problem::conflict(format!("{MAX_ACTIVE} secrets of the endpoint sign, which is the most that may.{when}"))
}
