//! `POST /tenants/{tenant}/endpoints`.

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::random;
use adapters::registry::Written;
use domain::endpoint::{Card, EndpointState};
use domain::endpoint_request::{self, NewEndpoint};
use domain::names::ENDPOINT_ID_RANDOM;
use domain::time::Millis;
use lambda_http::Body;
use lambda_http::http::header::{HeaderValue, LOCATION};
use lambda_http::http::{Response, StatusCode};

use crate::problems::{away, fits, overtaken, too_many, uid_taken, unsealed};
use crate::sealing::{self, SealError, card_secret, made_secret};
use crate::{Endpoints, TRIES, view};

impl Endpoints {
    /// Makes an endpoint. The answer shows its secret.
    pub(crate) async fn create(
        &self,
        tenant: &str,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let raw = body::json(body.as_ref())?;
        let wanted = endpoint_request::new_endpoint(raw, &self.rules.guard).map_err(Problem::invalid)?;
        // What is sealed with an older key would have to be sealed again.
        self.keyring.refresh().await;
        for _ in 0..TRIES {
            let (card, secret) = self.made(tenant, &wanted, self.clock.now()).map_err(unsealed)?;
            fits(&card)?;
            match self.registry.create(&card, self.max_endpoints).await.map_err(away)? {
                Written::Done => {
                    tracing::info!(tenant, endpoint_id = %card.id, correlation_id, "endpoint created");
                    return Ok(created(&card, &secret, correlation_id));
                }
                Written::UidTaken(other) => return Err(uid_taken(&other)),
                Written::TooMany => {
                    self.refuse_erasing(&card.tenant).await?;
                    return Err(too_many(self.max_endpoints));
                }
                // The id is taken, or whoever had the uid gave it back just now.
                Written::Changed => {}
            }
        }
        Err(overtaken())
    }

    fn made(&self, tenant: &str, wanted: &NewEndpoint, now: Millis) -> Result<(Card, String), SealError> {
        let keys = self.keyring.keys();
        let settings = wanted.settings.clone();
        let mut card = Card {
            tenant: tenant.to_owned(),
            id: format!("ep_{}", random::alphanumeric(ENDPOINT_ID_RANDOM)?),
            uid: None,
            url: String::new(),
            description: String::new(),
            event_types: Vec::new(),
            filter: None,
            headers: Default::default(),
            secrets: Vec::new(),
            retry_schedule: Default::default(),
            rate: None,
            state: EndpointState::Enabled,
            state_reason: None,
            state_since: now,
            disabled_by: None,
            owed_dropped_before: None,
            metadata: Default::default(),
            created_at: now,
            updated_at: now,
            version: 1,
            change_id: String::new(),
        };
        sealing::set(&mut card, settings, &keys)?;
        let secret = match &wanted.secret {
            Some(given) => given.expose().to_owned(),
            None => made_secret()?,
        };
        card.secrets.push(card_secret(&keys, &card, &secret, now)?);
        Ok((card, secret))
    }
}

fn created(card: &Card, secret: &str, correlation_id: &str) -> Response<String> {
    let body = view::card(card).with_secret(secret);
    let mut response = view::tagged(answer::json(StatusCode::CREATED, &body, correlation_id), card.version);
    let location = format!("/tenants/{}/endpoints/{}", card.tenant, card.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
