//! `POST /reseal` and `GET /reseal`: after a change of the master key, every value that is
//! sealed with an older one is sealed again. The place is kept in the registry, so that a
//! walk through many cards goes on from call to call.

use std::time::Duration;

use adapters::http::answer::{self, Problem};
use adapters::registry::{CardFound, EndpointKey, Resealing, Written};
use domain::endpoint::{Card, CardHeader};
use domain::seal::{MasterKeys, OpenError, Sealed, SealedPlace};
use futures_util::future::join_all;
use lambda_http::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::problems::{away, overtaken, unsealed};
use crate::sealing::{SealError, drop_expired, seal};
use crate::{Endpoints, TRIES};

/// How long one call works.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most cards that one call seals again.
const MAX_RESEALED: u64 = 500;
/// Cards of one page.
const PAGE: usize = 50;
/// Cards that are written at a time.
const AT_ONCE: usize = 10;

/// What became of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its values are sealed with the newest key.
    Resealed,
    /// They were already, or it is gone.
    Fine,
    /// A value of it does not open.
    Refused,
}

impl Endpoints {
    /// Goes on with the resealing, or begins one.
    pub(crate) async fn reseal(&self, correlation_id: &str) -> Result<Response<String>, Problem> {
        self.keyring.refresh().await;
        let began = self.clock.now();
        let newest = self.keyring.keys().newest().to_owned();
        let known = self.registry.resealing().await.map_err(away)?;
        let mut at = known.filter(|at| at.key_id == newest && !at.complete).unwrap_or_else(|| Resealing {
            key_id: newest,
            started_at: began,
            ..Resealing::default()
        });
        let enough = at.resealed + MAX_RESEALED;
        while !at.complete && at.resealed < enough && began.until(self.clock.now()) < PATIENCE {
            self.reseal_page(&mut at).await?;
            at.updated_at = self.clock.now();
            self.registry.note_resealing(&at).await.map_err(away)?;
        }
        tracing::warn!(
            correlation_id,
            resealed = at.resealed,
            refused = at.refused,
            complete = at.complete,
            "resealed"
        );
        Ok(answer::json(StatusCode::ACCEPTED, &view(&at), correlation_id))
    }

    /// How far the resealing with the newest key is.
    pub(crate) async fn resealing(&self, correlation_id: &str) -> Result<Response<String>, Problem> {
        self.keyring.refresh().await;
        let known = self.registry.resealing().await.map_err(away)?;
        let at = known.filter(|at| at.key_id == self.keyring.keys().newest()).unwrap_or_default();
        Ok(answer::json(StatusCode::OK, &view(&at), correlation_id))
    }

    /// One page of the tenant that the walk has come to, or the step to the next tenant.
    async fn reseal_page(&self, at: &mut Resealing) -> Result<(), Problem> {
        let Some(tenant) = at.tenant.clone() else { return self.next_tenant(at).await };
        let page = self.registry.list(&tenant, at.endpoint.as_deref(), PAGE).await.map_err(away)?;
        at.refused += page.unreadable.len() as u64;
        for cards in page.cards.chunks(AT_ONCE) {
            for ended in join_all(cards.iter().map(|card| self.reseal_card(card))).await {
                match ended? {
                    Ended::Resealed => at.resealed += 1,
                    Ended::Refused => at.refused += 1,
                    Ended::Fine => {}
                }
            }
        }
        if page.next.is_none() {
            return self.next_tenant(at).await;
        }
        at.endpoint = page.next;
        Ok(())
    }

    async fn next_tenant(&self, at: &mut Resealing) -> Result<(), Problem> {
        let next = self.registry.tenants(at.tenant.as_deref(), 1).await.map_err(away)?;
        at.endpoint = None;
        match next.tenants.into_iter().next() {
            Some(tenant) => at.tenant = Some(tenant),
            None => at.complete = true,
        }
        Ok(())
    }

    /// Seals a card's values with the newest key, whatever changes it meanwhile.
    async fn reseal_card(&self, card: &Card) -> Result<Ended, Problem> {
        let key = EndpointKey { tenant: card.tenant.clone(), endpoint: card.id.clone() };
        let mut before = card.clone();
        for _ in 0..TRIES {
            let keys = self.keyring.keys();
            if before.key_ids().all(|id| id == keys.newest()) {
                return Ok(Ended::Fine);
            }
            let mut after = before.clone();
            drop_expired(&mut after, self.clock.now());
            let refused = resealed(&mut after, &keys).map_err(unsealed)?;
            if let Some(error) = refused {
                tracing::error!(tenant = %card.tenant, endpoint_id = %card.id, error = %error, "a sealed value does not open");
            }
            let ended = if refused.is_some() { Ended::Refused } else { Ended::Resealed };
            if after == before {
                return Ok(ended);
            }
            after.version += 1;
            match self.registry.replace(&before, &after).await.map_err(away)? {
                Written::Done => return Ok(ended),
                Written::Changed | Written::UidTaken(_) | Written::TooMany => {}
            }
            match self.registry.card(&key).await.map_err(away)? {
                CardFound::Card(card) => before = card.as_ref().clone(),
                CardFound::Unreadable => return Ok(Ended::Refused),
                CardFound::Gone | CardFound::Erased | CardFound::Missing => return Ok(Ended::Fine),
            }
        }
        Err(overtaken())
    }
}

/// Seals the values of a card with the newest key. One that does not open stays as it is;
/// says why.
fn resealed(card: &mut Card, keys: &MasterKeys) -> Result<Option<OpenError>, SealError> {
    let mut refused = None;
    let mut again = |place: SealedPlace<'_>, sealed: &Sealed| {
        if sealed.key_id() == keys.newest() {
            return Ok(sealed.clone());
        }
        match keys.open(place, sealed) {
            Ok(text) => seal(keys, place, &text),
            Err(error) => {
                refused = Some(error);
                Ok(sealed.clone())
            }
        }
    };
    let before = card.clone();
    for (secret, was) in card.secrets.iter_mut().zip(&before.secrets) {
        secret.sealed = again(before.secret_place(&was.id, was.expires_at), &was.sealed)?;
    }
    for (name, header) in &mut card.headers {
        if let CardHeader::Sealed(sealed) = header {
            *sealed = again(before.header_place(name), sealed)?;
        }
    }
    Ok(refused)
}

fn view(at: &Resealing) -> Value {
    let mut view = json!({ "resealed": at.resealed, "refused": at.refused, "complete": at.complete });
    if at.started_at.0 > 0 {
        view["started_at"] = json!(at.started_at.to_string());
        view["updated_at"] = json!(at.updated_at.to_string());
    }
    view
}
