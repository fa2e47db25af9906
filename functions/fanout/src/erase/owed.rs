//! Erases what endpoints are owed of one event. Nothing names those rows but the endpoints
//! themselves, so all that is owed by the tenant's endpoints is looked at.

use adapters::history::{Part, RowKey};
use domain::history::{Row, names};
use domain::time::Millis;
use futures_util::future::try_join_all;

use super::{EraseError, Until};
use crate::context::Context;

/// Endpoints that are looked at at a time.
const AT_ONCE: usize = 16;
/// Most rows of one read.
const ROWS: usize = 200;

/// Deletes what endpoints are owed of an event, from the endpoint on that follows `after`, or in
/// the middle of that one's rows. Gives where it goes on, if it does.
pub(super) async fn sweep(
    context: &Context,
    of: (&str, &str),
    before: Millis,
    after: Option<String>,
    until: Until<'_>,
) -> Result<Option<String>, EraseError> {
    let (tenant, _) = of;
    let (endpoint, place) = match &after {
        Some(after) => after.split_once('#').map_or((Some(after.as_str()), None), |(one, at)| (Some(one), Some(at))),
        None => (None, None),
    };
    if let (Some(endpoint), Some(place)) = (endpoint, place)
        && let Some(stopped) = rows(context, of, before, (endpoint, Some(place)), until).await?
    {
        return Ok(Some(stopped));
    }
    let page = context.registry.list(tenant, endpoint, AT_ONCE).await?;
    let mut endpoints: Vec<String> = page.cards.into_iter().map(|card| card.id).chain(page.unreadable).collect();
    endpoints.sort_unstable();
    let all = endpoints.iter().map(|endpoint| rows(context, of, before, (endpoint, None), until));
    // The first one that there was no time for is where it goes on.
    let stopped = try_join_all(all).await?.into_iter().flatten().next();
    Ok(stopped.or(page.next))
}

/// Deletes an event's rows of one endpoint. Gives where it stopped if there was no time for all of
/// them.
async fn rows(
    context: &Context,
    (tenant, event_id): (&str, &str),
    before: Millis,
    (endpoint, after): (&str, Option<&str>),
    until: Until<'_>,
) -> Result<Option<String>, EraseError> {
    let whole = Part { limit: ROWS, with_ended: true, ..Part::of(names::owed(tenant, endpoint)) };
    let mut part = Part { after: after.map(str::to_owned), ..whole };
    loop {
        let slice = context.history.part(&part, context.clock.now()).await?;
        let is_of_event = |row: &&Row| row.event() == Some((tenant, event_id)) && row.accepted_at() <= Some(before);
        let keys: Vec<RowKey> = slice.rows.iter().filter(is_of_event).map(RowKey::of).collect();
        if !keys.is_empty() {
            context.history.delete(&keys).await?;
        }
        match slice.next {
            None => return Ok(None),
            Some(next) if until.is_over() => return Ok(Some(format!("{endpoint}#{next}"))),
            next => part.after = next,
        }
    }
}
