//! `PATCH` and `DELETE /tenants/{tenant}/endpoints/{endpoint}`.

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::registry::{EndpointKey, Written};
use domain::endpoint_request::patch::Patch;
use lambda_http::Body;
use lambda_http::http::{Response, StatusCode};

use crate::precondition::Precondition;
use crate::problems::{away, fits, overtaken, too_many, uid_taken, unsealed};
use crate::sealing::{self, drop_expired};
use crate::{Endpoints, TRIES, view};

impl Endpoints {
    /// Changes an endpoint. A change that another one overtakes begins again, unless its
    /// client named a version.
    pub(crate) async fn patch(
        &self,
        key: &EndpointKey,
        precondition: &Precondition,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let patch = Patch::read(body::json(body.as_ref())?, &self.rules.guard).map_err(Problem::invalid)?;
        self.keyring.refresh().await;
        for _ in 0..TRIES {
            let before = self.card(key).await?;
            precondition.check(before.version)?;
            let settings = patch.clone().apply(&before).map_err(Problem::invalid)?;
            let now = self.clock.now();
            let mut card = before.as_ref().clone();
            sealing::set(&mut card, settings, &self.keyring.keys()).map_err(unsealed)?;
            drop_expired(&mut card, now);
            let mut written = Written::Done;
            if card != *before {
                (card.version, card.updated_at) = (before.version + 1, now);
                fits(&card)?;
                written = self.registry.replace(&before, &card).await.map_err(away)?;
            }
            match written {
                Written::Done => {
                    tracing::info!(tenant = %key.tenant, endpoint = %key.endpoint, correlation_id, version = card.version, "endpoint changed");
                    let response = answer::json(StatusCode::OK, &view::card(&card), correlation_id);
                    return Ok(view::tagged(response, card.version));
                }
                Written::UidTaken(other) => return Err(uid_taken(&other)),
                Written::TooMany => return Err(too_many(self.max_endpoints)),
                Written::Changed => {}
            }
        }
        Err(overtaken())
    }

    /// Deletes an endpoint.
    pub(crate) async fn delete(
        &self,
        key: &EndpointKey,
        precondition: &Precondition,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        for _ in 0..TRIES {
            let card = self.card(key).await?;
            precondition.check(card.version)?;
            match self.registry.delete(&card, self.clock.now()).await.map_err(away)? {
                Written::Done => {
                    tracing::warn!(tenant = %key.tenant, endpoint = %key.endpoint, correlation_id, "endpoint deleted");
                    return Ok(answer::no_content(correlation_id));
                }
                Written::Changed | Written::UidTaken(_) | Written::TooMany => {}
            }
        }
        Err(overtaken())
    }
}
