//! A notice: what is told of an endpoint. One that must be disabled is disabled first, on the
//! condition of the version that its deliveries went by, so that one of many reporters wins. A
//! notice that comes again after a crash finds its own id in the card, and tells once more what
//! nobody may have told.

use adapters::metrics;
use adapters::notify_bus::Announcement;
use adapters::redis::live_states;
use adapters::registry::{CardFound, EndpointKey, RegistryError, Tenant, Written};
use adapters::telemetry::chain;
use domain::endpoint::{Card, EndpointState, StateReason};
use domain::job::{JobPage, Notice, Noticed};
use domain::names::{DELIVERY_FAILED, ENDPOINT_DISABLED, is_reserved_event_type};
use domain::time::Millis;
use serde_json::json;

use crate::announce::announce;
use crate::context::Context;
use crate::job_progress::JobProgress;

/// How often a change is tried that others come before.
const TRIES: u32 = 5;

const REGISTRY_AWAY: &str = "the registry of endpoints cannot be read or changed";
const NO_CARD: &str = "the endpoint has no card that can be read";
/// How often the notice of a delivery that was given up waits.
const MOST_WAITS: u32 = 5;
const OVERTAKEN: &str = "others changed the endpoint again and again";

/// Works on a notice.
pub(crate) async fn work_on(context: &Context, page: &JobPage, notice: &Notice) -> JobProgress {
    let announcement = match &notice.what {
        Noticed::MustDisable { reason, version, failing_since, failures } => {
            let since = (*failing_since, *failures);
            disabled(context, page, &notice.endpoint, (*reason, *version), since).await
        }
        Noticed::DeliveryFailed { .. } => failed(context, page, notice).await,
    };
    let told = match announcement {
        Ok(Some(announcement)) => announce(context, page, &announcement).await,
        Ok(None) => Ok(()),
        Err(why) => Err(why),
    };
    match told {
        Ok(()) => JobProgress::Done,
        Err(why) if is_late(page, notice) => {
            tracing::error!(job_id = %page.id, why, outcome = "untold", "nobody is told of a delivery that was given up; its dead letter tells of it");
            JobProgress::Done
        }
        Err(why) => JobProgress::Waits(why),
    }
}

/// Whether a notice has waited too often. There is one for each minute and endpoint that fails, so
/// a bus that is gone would fill the queue of events with them.
fn is_late(page: &JobPage, notice: &Notice) -> bool {
    match notice.what {
        Noticed::MustDisable { .. } => false,
        Noticed::DeliveryFailed { .. } => page.waited >= MOST_WAITS,
    }
}

/// Disables an endpoint, and says what is to be told of that; `None` if there is nothing to tell.
async fn disabled(
    context: &Context,
    page: &JobPage,
    endpoint: &str,
    (reason, version): (StateReason, u64),
    (failing_since, failures): (Millis, u64),
) -> Result<Option<Announcement>, &'static str> {
    if tenant(context, page).await?.is_erasing {
        return Ok(None);
    }
    let Some(card) = disable(context, page, endpoint, (reason, version), failing_since).await? else { return Ok(None) };
    // Cards that others know are 30 s old at most, so nothing waits for Redis.
    let state = live_states::set_state(endpoint, card.version, card.state, false, context.state_life);
    if let Err(error) = state.run(context.redis.as_ref()).await {
        tracing::error!(endpoint_id = endpoint, code = error.code(), error = %chain(&error), "Redis does not know that an endpoint is disabled");
    }
    let payload = json!({
        "tenant": page.tenant,
        "endpoint_id": endpoint,
        "reason": reason.as_str(),
        "version": version,
        "failing_since": failing_since.to_string(),
        "failures": failures,
        "time": card.state_since.to_string(),
    });
    let event_type = ENDPOINT_DISABLED.to_owned();
    Ok(Some(Announcement { event_type, payload: payload.to_string(), at: card.state_since }))
}

/// The card of the endpoint after this notice has disabled it, now or before; `None` if it did
/// not.
async fn disable(
    context: &Context,
    page: &JobPage,
    endpoint: &str,
    (reason, version): (StateReason, u64),
    failing_since: Millis,
) -> Result<Option<Card>, &'static str> {
    for _ in 0..TRIES {
        let Some(card) = card(context, page, endpoint).await? else { return Ok(None) };
        if card.disabled_by.as_ref() == Some(&page.id) {
            return Ok(Some(card));
        }
        // Since it was enabled, it has not failed for so long: Redis may not have heard of that.
        let is_older = reason == StateReason::Failing && failing_since < card.state_since;
        if card.state != EndpointState::Enabled || card.version != version || is_older {
            tracing::info!(endpoint_id = endpoint, version, is = card.version, "a notice is outdated");
            return Ok(None);
        }
        let now = context.clock.now();
        let disabled = Card {
            state: EndpointState::Disabled,
            state_reason: Some(reason),
            state_since: now,
            disabled_by: Some(page.id.clone()),
            updated_at: now,
            version: version + 1,
            ..card.clone()
        };
        match context.registry.replace(&card, &disabled).await.map_err(|error| away(page, &error))? {
            Written::Done => {
                metrics::endpoint_disabled(reason);
                tracing::warn!(tenant = %page.tenant, endpoint_id = endpoint, reason = reason.as_str(), version, "an endpoint is disabled");
                return Ok(Some(disabled));
            }
            Written::Changed | Written::UidTaken(_) | Written::TooMany => {}
        }
    }
    Err(OVERTAKEN)
}

/// What is to be told of a delivery that was given up; `None` if nothing is. An event of our own
/// is never told of: it would tell of itself for ever.
async fn failed(context: &Context, page: &JobPage, notice: &Notice) -> Result<Option<Announcement>, &'static str> {
    let Noticed::DeliveryFailed { delivery_id, event_id, event_type, reason, error } = &notice.what else {
        return Ok(None);
    };
    if event_type.as_deref().is_some_and(is_reserved_event_type) {
        return Ok(None);
    }
    let Tenant { is_erasing, erased_before, .. } = tenant(context, page).await?;
    if is_erasing || erased_before.is_some_and(|before| page.accepted_at <= before) {
        return Ok(None);
    }
    let payload = json!({
        "tenant": page.tenant,
        "endpoint_id": notice.endpoint,
        "delivery_id": delivery_id,
        "event_id": event_id,
        "event_type": event_type,
        "reason": reason.as_str(),
        "error": error,
        "time": page.accepted_at.to_string(),
    });
    let event_type = DELIVERY_FAILED.to_owned();
    Ok(Some(Announcement { event_type, payload: payload.to_string(), at: page.accepted_at }))
}

/// The card of an endpoint as it is now; `None` if it was deleted.
async fn card(context: &Context, page: &JobPage, endpoint: &str) -> Result<Option<Card>, &'static str> {
    let key = EndpointKey { tenant: page.tenant.clone(), endpoint: endpoint.to_owned() };
    match context.registry.card(&key).await.map_err(|error| away(page, &error))? {
        CardFound::Card(card) => Ok(Some(Card::clone(&card))),
        CardFound::Gone | CardFound::Erased => Ok(None),
        CardFound::Missing | CardFound::Unreadable => Err(NO_CARD),
    }
}

/// What is known of the notice's tenant.
async fn tenant(context: &Context, page: &JobPage) -> Result<Tenant, &'static str> {
    let tenant = context.registry.tenant(&page.tenant).await.map_err(|error| away(page, &error))?;
    Ok(tenant.unwrap_or_default())
}

fn away(page: &JobPage, error: &RegistryError) -> &'static str {
    tracing::error!(job_id = %page.id, code = error.code(), error = %chain(error), "a notice waits");
    REGISTRY_AWAY
}
