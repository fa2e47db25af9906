//! What endpoints are owed: deliveries that are kept in the table of history while an endpoint
//! takes none.

use adapters::history::{Count, HistoryError, Part};
use adapters::registry::{RegistryError, Tenant};
use adapters::telemetry::chain;
use domain::endpoint::{Card, EndpointState};
use domain::history::names;
use futures_util::future::{join, try_join_all};
use serde::Serialize;

use crate::Endpoints;

/// Most deliveries that are counted.
const MAX_DELIVERIES: usize = 1000;
/// Most endpoints of a tenant whose deliveries are counted.
const MAX_HELD: usize = 20;
/// Endpoints that are counted at a time.
const AT_ONCE: usize = 4;
/// Most pages of a tenant's endpoints that are looked through.
const MAX_PAGES: usize = 5;
/// Endpoints of such a page.
const PAGE: usize = 200;

/// What an endpoint is owed.
#[derive(Serialize)]
pub(crate) struct Owed {
    deliveries: usize,
    /// Whether there may be more than were counted.
    is_more: bool,
    /// When the oldest of them was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_accepted_at: Option<String>,
}

/// Whether what is owed is on its way.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum CatchUpState {
    /// Nothing is owed, or the endpoint takes nothing.
    None,
    /// The endpoint takes what it is owed.
    Pending,
}

/// What becomes of what an endpoint is owed.
#[derive(Serialize)]
pub(crate) struct CatchUp {
    /// Not known while history cannot be read.
    state: Option<CatchUpState>,
    /// What was owed until then is not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_before: Option<String>,
}

impl CatchUp {
    /// The catch-up of an endpoint that is owed so much.
    pub(crate) fn of(card: &Card, owed: Option<&Owed>) -> Self {
        let state = owed.map(|owed| match card.state {
            EndpointState::Enabled if owed.deliveries > 0 || owed.is_more => CatchUpState::Pending,
            EndpointState::Enabled | EndpointState::Paused | EndpointState::Disabled => CatchUpState::None,
        });
        Self { state, refused_before: card.owed_dropped_before.map(|at| at.to_string()) }
    }
}

/// What the endpoints of a tenant are owed that take nothing.
#[derive(Default, Serialize)]
pub(crate) struct OwedByHeld {
    deliveries: usize,
    /// Whether there may be more than were counted.
    is_more: bool,
}

/// Why what is owed is not known.
#[derive(Debug, thiserror::Error)]
enum OwedError {
    #[error("the owed deliveries cannot be counted")]
    History(#[from] HistoryError),
    #[error("the endpoints of the tenant cannot be listed")]
    Registry(#[from] RegistryError),
}

impl OwedError {
    fn code(&self) -> &'static str {
        match self {
            Self::History(error) => error.code(),
            Self::Registry(error) => error.code(),
        }
    }
}

impl Endpoints {
    /// What an endpoint is owed; `None` while history cannot be read.
    pub(crate) async fn owed(&self, card: &Card) -> Option<Owed> {
        let partition = names::owed(&card.tenant, &card.id);
        let first = Part { limit: 1, ..Part::of(partition.clone()) };
        let now = self.clock.now();
        let (count, first) =
            join(self.history.count(&partition, MAX_DELIVERIES, now), self.history.part(&first, now)).await;
        match count.and_then(|count| Ok((count, first?))) {
            Ok((count, first)) => {
                let oldest = first.rows.first().and_then(|row| row.accepted_at());
                let oldest_accepted_at = oldest.map(|at| at.to_string());
                Some(Owed { deliveries: count.rows, is_more: count.is_more, oldest_accepted_at })
            }
            Err(error) => {
                unknown(&card.tenant, &error.into());
                None
            }
        }
    }

    /// What the endpoints of a tenant are owed that are paused or disabled, as far as a few reads
    /// tell; `None` while that cannot be read.
    pub(crate) async fn owed_by_held(&self, tenant: &str, known: &Tenant) -> Option<OwedByHeld> {
        self.sum_owed(tenant, known).await.inspect_err(|error| unknown(tenant, error)).ok()
    }

    async fn sum_owed(&self, tenant: &str, known: &Tenant) -> Result<OwedByHeld, OwedError> {
        let (held, is_more) = self.held(tenant, known).await?;
        let mut sum = OwedByHeld { deliveries: 0, is_more };
        let now = self.clock.now();
        for endpoints in held.chunks(AT_ONCE) {
            let left = MAX_DELIVERIES.saturating_sub(sum.deliveries);
            if left == 0 {
                sum.is_more = true;
                break;
            }
            let counts = endpoints
                .iter()
                .map(async |endpoint| self.history.count(&names::owed(tenant, endpoint), left, now).await);
            for Count { rows, is_more } in try_join_all(counts).await? {
                sum.deliveries += rows;
                sum.is_more |= is_more;
            }
        }
        Ok(sum)
    }

    /// The endpoints of a tenant that take nothing, and whether there may be more of them.
    async fn held(&self, tenant: &str, known: &Tenant) -> Result<(Vec<String>, bool), RegistryError> {
        let there_are = known.paused + known.disabled;
        let (mut held, mut after, mut is_more) = (Vec::new(), None::<String>, false);
        for _ in 0..MAX_PAGES {
            if held.len() as u64 >= there_are {
                return Ok((held, is_more));
            }
            let page = self.registry.list(tenant, after.as_deref(), PAGE).await?;
            is_more |= !page.unreadable.is_empty();
            held.extend(page.cards.into_iter().filter(|card| card.state != EndpointState::Enabled).map(|card| card.id));
            if held.len() > MAX_HELD {
                held.truncate(MAX_HELD);
                return Ok((held, true));
            }
            after = page.next;
            if after.is_none() {
                return Ok((held, is_more));
            }
        }
        Ok((held, true))
    }
}

fn unknown(tenant: &str, error: &OwedError) {
    tracing::error!(%tenant, code = error.code(), error = %chain(error), "what endpoints are owed cannot be read");
}
