//! Erases the payload of one event, and what receivers answered to its deliveries.

use adapters::history::{Part, RowKey};
use adapters::redis::query::Trip;
use adapters::redis::{dead_letters, marks};
use domain::history::delivery::EndedDelivery;
use domain::history::event::KeptEvent;
use domain::history::{Row, names};
use domain::identity::delivery_id;
use domain::time::Millis;
use futures_util::future::try_join_all;
use strum::{EnumString, IntoStaticStr};

use super::{EraseError, Sweep, Until};
use crate::context::Context;

/// Most rows and cards that are looked at at a time.
const PART: usize = 100;
/// Most dead letters at a time: each takes some calls.
const LETTERS: usize = 20;

/// The stages, in order.
#[derive(Clone, Copy, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
enum Stage {
    /// The event's own rows.
    Payloads,
    /// What endpoints are owed of it.
    Owed,
    /// The dead letters of the event and of its deliveries.
    DeadLetters,
    /// The rows of its deliveries, and their records.
    Deliveries,
    /// The records of deliveries that have not ended.
    Records,
}

impl Stage {
    fn next(self) -> Option<Self> {
        match self {
            Self::Payloads => Some(Self::Owed),
            Self::Owed => Some(Self::DeadLetters),
            Self::DeadLetters => Some(Self::Deliveries),
            Self::Deliveries => Some(Self::Records),
            Self::Records => None,
        }
    }
}

/// Which event, and until when.
#[derive(Clone, Copy)]
struct Of<'a> {
    tenant: &'a str,
    event_id: &'a str,
    before: Millis,
}

/// Goes through everything that is kept of an event.
pub(super) async fn sweep(
    context: &Context,
    (tenant, event_id): (&str, &str),
    before: Millis,
    position: Option<&str>,
    until: Until<'_>,
) -> Result<Sweep, EraseError> {
    let of = Of { tenant, event_id, before };
    let begun = position.and_then(|text| text.split_once(':'));
    let mut stage = begun.and_then(|(name, _)| name.parse().ok()).unwrap_or(Stage::Payloads);
    let mut after = begun.map(|(_, after)| after.to_owned()).filter(|after| !after.is_empty());
    loop {
        let from = after.take();
        after = match stage {
            Stage::Payloads => payloads(context, of, from).await?,
            Stage::Owed => super::owed::sweep(context, (of.tenant, of.event_id), of.before, from, until).await?,
            Stage::DeadLetters => dead_letters_of(context, of, from).await?,
            Stage::Deliveries => deliveries(context, of, from).await?,
            Stage::Records => records_of(context, of, from).await?,
        };
        if after.is_none() {
            match stage.next() {
                Some(next) => stage = next,
                None => return Ok(Sweep::Complete),
            }
        }
        if until.is_over() {
            let name: &str = stage.into();
            return Ok(Sweep::Until(format!("{name}:{}", after.unwrap_or_default())));
        }
    }
}

/// Takes the payload from a part of the event's rows.
async fn payloads(context: &Context, of: Of<'_>, after: Option<String>) -> Result<Option<String>, EraseError> {
    let now = context.clock.now();
    let whole = Part::of(names::event(of.tenant, of.event_id));
    let slice = context.history.part(&Part { after, limit: LETTERS, with_ended: true, ..whole }, now).await?;
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for row in slice.rows.into_iter().filter(|row| row.accepted_at() <= Some(of.before)) {
        match serde_json::from_str::<KeptEvent>(&row.body) {
            Ok(kept) if kept.payload.is_some() => {
                let body = serde_json::to_string(&kept.erased(now))?;
                rows.push(Row { body, ..row });
            }
            Ok(_) => {}
            Err(_) => unreadable.push(row),
        }
    }
    replace(context, rows, &unreadable).await?;
    Ok(slice.next)
}

/// Takes from a part of the deliveries what receivers answered, here and in their records.
async fn deliveries(context: &Context, of: Of<'_>, after: Option<String>) -> Result<Option<String>, EraseError> {
    let whole = Part { by_event: true, with_ended: true, ..Part::of(names::event(of.tenant, of.event_id)) };
    let slice = context.history.part(&Part { after, limit: PART, ..whole }, context.clock.now()).await?;
    let mut ids = Vec::new();
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for row in slice.rows.into_iter().filter(|row| row.accepted_at() <= Some(of.before)) {
        match serde_json::from_str::<EndedDelivery>(&row.body) {
            Ok(ended) => {
                ids.push(ended.delivery_id());
                let body = serde_json::to_string(&ended.erased())?;
                rows.extend((body != row.body).then_some(Row { body, ..row }));
            }
            Err(_) => unreadable.push(row),
        }
    }
    replace(context, rows, &unreadable).await?;
    erase_logs(context, ids).await?;
    Ok(slice.next)
}

/// Takes from the records of deliveries that have not ended what receivers answered.
async fn records_of(context: &Context, of: Of<'_>, after: Option<String>) -> Result<Option<String>, EraseError> {
    let page = context.registry.list(of.tenant, after.as_deref(), PART).await?;
    let endpoints = page.cards.iter().map(|card| &card.id).chain(&page.unreadable);
    erase_logs(context, endpoints.map(|endpoint| delivery_id(of.event_id, endpoint, None)).collect()).await?;
    Ok(page.next)
}

async fn erase_logs(context: &Context, ids: Vec<String>) -> Result<(), EraseError> {
    let mut trip = Trip::default();
    let logs = trip.add_all(ids.iter().map(|id| marks::erase_log(id)));
    let mut replies = trip.run(context.redis.as_ref()).await?;
    for log in logs {
        log.take(&mut replies)?;
    }
    Ok(())
}

/// Deletes a part of the dead letters of an event and of its deliveries.
async fn dead_letters_of(context: &Context, of: Of<'_>, after: Option<String>) -> Result<Option<String>, EraseError> {
    let prefix = names::dead_letter(of.event_id, "");
    let part = Part {
        after: Some(after.unwrap_or_else(|| prefix.clone())),
        before: Some(names::end_of(&prefix)),
        limit: LETTERS,
        with_ended: true,
        ..Part::of(names::dead_letters(of.tenant))
    };
    let slice = context.history.part(&part, context.clock.now()).await?;
    delete_dead_letters(context, of.tenant, &slice.rows, of.before).await?;
    Ok(slice.next)
}

/// Deletes dead letters of a tenant, and the rows that say where they are.
pub(super) async fn delete_dead_letters(
    context: &Context,
    tenant: &str,
    pointers: &[Row],
    before: Millis,
) -> Result<(), EraseError> {
    let deleting = pointers.iter().map(|pointer| async move {
        let Some(id) = names::dead_letter_at(&pointer.place) else { return Ok(None) };
        if let Some(kept) = context.store.get(id).await? {
            let is_of_tenant = kept.letter.of_tenant().is_some_and(|(of, _)| of == tenant);
            if !is_of_tenant || kept.letter.accepted_at > before {
                return Ok(None);
            }
            context.store.delete(id).await?;
        }
        dead_letters::remove(id).run(context.redis.as_ref()).await?;
        Ok(Some(RowKey::of(pointer)))
    });
    let deleted: Vec<Option<RowKey>> = try_join_all(deleting).await.map_err(|error: EraseError| error)?;
    let keys: Vec<RowKey> = deleted.into_iter().flatten().collect();
    if !keys.is_empty() {
        context.history.delete(&keys).await?;
    }
    Ok(())
}

/// Writes rows in the place of what was there, and deletes those that cannot be read.
async fn replace(context: &Context, rows: Vec<Row>, unreadable: &[Row]) -> Result<(), EraseError> {
    if !unreadable.is_empty() {
        tracing::error!(
            rows = unreadable.len(),
            "rows of history that cannot be read are deleted: they are to be erased"
        );
        context.history.delete(&unreadable.iter().map(RowKey::of).collect::<Vec<_>>()).await?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let refused = context.history.write(rows).await;
    if refused.is_empty() { Ok(()) } else { Err(EraseError::Refused) }
}
