//! What is read of endpoints: alone, in lists, and their secrets.

use std::sync::Arc;

use adapters::http::answer::{self, Problem};
use adapters::http::query::QueryString;
use adapters::registry::{CardFound, EndpointKey};
use domain::cursor;
use domain::endpoint::{Card, CardSecret};
use domain::names::{is_endpoint_id, is_uid};
use domain::seal::OpenError;
use futures_util::future::join;
use lambda_http::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::health::Health;
use crate::owed::{CatchUp, Owed};
use crate::problems::{away, closed, unknown};
use crate::view::{CardView, Shown};
use crate::{Endpoints, view};

/// Entries in a page, unless the request says otherwise.
pub(crate) const PAGE: usize = 50;
/// Most entries in a page.
pub(crate) const MAX_PAGE: usize = 200;
/// What a cursor is, for a person.
pub(crate) const CURSOR: &str = "must be a `next_cursor` from an earlier response to the same query";

/// A page of a tenant's endpoints.
#[derive(Serialize)]
struct Page<'a> {
    endpoints: Vec<CardView<'a>>,
    next_cursor: Option<String>,
}

/// An endpoint as its operator sees it. What cannot be read now is `null`.
#[derive(Serialize)]
struct Seen<'a> {
    #[serde(flatten)]
    card: CardView<'a>,
    health: Option<Health>,
    owed: Option<Owed>,
    catch_up: CatchUp,
}

impl Endpoints {
    /// The endpoint's card as it is now.
    pub(crate) async fn card(&self, key: &EndpointKey) -> Result<Arc<Card>, Problem> {
        match self.registry.card(key).await.map_err(away)? {
            CardFound::Card(card) => Ok(card),
            CardFound::Unreadable => Err(Problem::unavailable("The card of this endpoint cannot be read.")),
            CardFound::Gone | CardFound::Erased | CardFound::Missing => Err(unknown()),
        }
    }

    /// A secret of a card in clear text. A master key that is not known is looked for once.
    pub(crate) async fn opened(&self, card: &Card, secret: &CardSecret) -> Result<String, OpenError> {
        let open = || self.keyring.keys().open(card.secret_place(&secret.id, secret.expires_at), &secret.sealed);
        match open() {
            Err(OpenError::UnknownKey) if self.keyring.refresh().await => open(),
            opened => opened,
        }
    }

    /// One endpoint, how its deliveries go and what it is owed.
    pub(crate) async fn endpoint(&self, key: &EndpointKey, correlation_id: &str) -> Result<Response<String>, Problem> {
        let card = self.card(key).await?;
        let (health, owed) = join(self.health(&card), self.owed(&card)).await;
        let catch_up = CatchUp::of(&card, owed.as_ref());
        let seen = Seen { card: view::card(&card), health, owed, catch_up };
        Ok(view::tagged(answer::json(StatusCode::OK, &seen, correlation_id), card.version))
    }

    /// Every secret that signs now, newest first.
    pub(crate) async fn secrets(&self, key: &EndpointKey, correlation_id: &str) -> Result<Response<String>, Problem> {
        let card = self.card(key).await?;
        let mut shown = Vec::new();
        for secret in card.active_secrets(self.clock.now()) {
            let text = self.opened(&card, secret).await.map_err(|error| closed(&card, error))?;
            let CardSecret { id, created_at, expires_at, .. } = secret.clone();
            shown.push(Shown { id, text, created_at, expires_at });
        }
        tracing::info!(tenant = %key.tenant, endpoint_id = %key.endpoint, correlation_id, "secrets shown");
        let secrets: Vec<Value> = shown.iter().map(Shown::to_json).collect();
        let body = json!({ "secrets": secrets });
        Ok(view::tagged(answer::json(StatusCode::OK, &body, correlation_id), card.version))
    }

    /// A page of a tenant's endpoints, or the one of a uid.
    pub(crate) async fn list(
        &self,
        tenant: &str,
        query: &str,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let mut query = QueryString::of(query);
        let uid = query.optional(
            "uid",
            |text| is_uid(text).then(|| text.to_owned()),
            "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen",
        );
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let scope = ["endpoints", tenant];
        // A uid has no second page, and so there is no cursor of it.
        let read = |text: &str| cursor::read(&scope, text).filter(|after| is_endpoint_id(after) && uid.is_none());
        let after = query.optional("cursor", read, CURSOR);
        query.finish()?;
        let (cards, next) = match &uid {
            Some(uid) => (self.registry.by_uid(tenant, uid).await.map_err(away)?.into_iter().collect(), None),
            None => {
                let page = self.registry.list(tenant, after.as_deref(), limit).await.map_err(away)?;
                (page.cards, page.next)
            }
        };
        let page = Page {
            endpoints: cards.iter().map(view::card).collect(),
            next_cursor: next.map(|after| cursor::after(&scope, &after)),
        };
        Ok(answer::json(StatusCode::OK, &page, correlation_id))
    }
}
