//! `PATCH` and `DELETE /tenants/{tenant}/endpoints/{endpoint}`.

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::random;
use adapters::registry::{EndpointKey, Written};
use domain::endpoint::{Card, EndpointState};
use domain::endpoint_request::patch::Patch;
use lambda_http::Body;
use lambda_http::http::{Response, StatusCode};

use crate::precondition::Precondition;
use crate::problems::{away, fits, overtaken, too_many, uid_taken, unsealed};
use crate::sealing::{self, drop_expired};
use crate::{Endpoints, TRIES, view};

/// Letters and digits that tell two changes apart that are alike.
const CHANGE_ID: usize = 12;

impl Endpoints {
    /// Changes an endpoint. A change that another one overtakes begins again, unless its
    /// client named a version. The catch-up is queued before the card says that the endpoint
    /// is enabled: a crash in between leaves a wake-up that does nothing. The other order could
    /// leave an enabled endpoint that never gets what it is owed.
    pub(crate) async fn patch(
        &self,
        key: &EndpointKey,
        precondition: &Precondition,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let patch = Patch::read(body::json(body.as_ref())?, &self.rules.guard).map_err(Problem::invalid)?;
        self.keyring.refresh().await;
        let mut is_woken = false;
        for _ in 0..TRIES {
            let before = self.card(key).await?;
            precondition.check(before.version)?;
            let card = self.changed(&before, &patch)?;
            let mut written = Written::Done;
            if card != *before {
                fits(&card)?;
                if !is_woken && wakes_catch_up(&before, &card) {
                    self.wake_catch_up(key).await?;
                    is_woken = true;
                }
                written = self.registry.replace(&before, &card).await.map_err(away)?;
            }
            match written {
                Written::Done => {
                    tracing::info!(tenant = %key.tenant, endpoint_id = %key.endpoint, correlation_id, version = card.version, state = card.state.as_str(), "endpoint changed");
                    self.tell_change(&before, &card, patch.state().is_some()).await;
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

    /// The card after a change; the same card if that changes nothing.
    fn changed(&self, before: &Card, patch: &Patch) -> Result<Card, Problem> {
        let settings = patch.clone().apply(before).map_err(Problem::invalid)?;
        let now = self.clock.now();
        let mut card = before.clone();
        sealing::set(&mut card, settings, &self.keyring.keys()).map_err(unsealed)?;
        drop_expired(&mut card, now);
        if let Some(state) = patch.state() {
            state.apply(&mut card, now);
        }
        if card != *before {
            (card.version, card.updated_at) = (before.version + 1, now);
            card.change_id = random::alphanumeric(CHANGE_ID).map_err(|error| unsealed(error.into()))?;
        }
        Ok(card)
    }

    /// Deletes an endpoint. The catch-up is queued first: it finds the tombstone, and ends what
    /// is owed.
    pub(crate) async fn delete(
        &self,
        key: &EndpointKey,
        precondition: &Precondition,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let mut is_woken = false;
        for _ in 0..TRIES {
            let card = self.card(key).await?;
            precondition.check(card.version)?;
            if !is_woken {
                self.wake_catch_up(key).await?;
                is_woken = true;
            }
            match self.registry.delete(&card, self.clock.now()).await.map_err(away)? {
                Written::Done => {
                    tracing::warn!(tenant = %key.tenant, endpoint_id = %key.endpoint, correlation_id, "endpoint deleted");
                    return Ok(answer::no_content(correlation_id));
                }
                Written::Changed | Written::UidTaken(_) | Written::TooMany => {}
            }
        }
        Err(overtaken())
    }
}

/// Whether a change is one that the catch-up must see: the endpoint takes what it is owed, or
/// refuses it.
fn wakes_catch_up(before: &Card, card: &Card) -> bool {
    let is_enabled = card.state == EndpointState::Enabled && before.state != card.state;
    is_enabled || before.owed_dropped_before != card.owed_dropped_before
}
