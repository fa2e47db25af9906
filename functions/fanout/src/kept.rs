//! What history keeps of events: their rows are written before the first delivery is queued.
//! Deliveries never wait for history: what it does not take is written later.

use std::time::Duration;

use adapters::history::write_within;
use adapters::metrics;
use adapters::telemetry::chain;
use domain::event::Event;
use domain::history::Row;
use domain::history::event::KeptEvent;
use domain::message::LateOutcomes;
use domain::time::Millis;
use domain::work::Work;
use futures_util::future::{join, join_all};
use tokio::time::timeout;

use crate::claim::Claimed;
use crate::context::Context;

/// How long a batch waits for history. What is not written by then is written later.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes the rows of all events of a batch whose fan-out begins.
pub(crate) async fn keep(context: &Context, claimed: &[Claimed]) {
    let Some(kept_for) = context.history_life else { return };
    let begins = |next: &Claimed| match &next.work {
        // Without a revision it waits, and comes again.
        Work::Event(page) if page.after.is_none() && next.revision.is_some() => Some(rows(&page.event, kept_for)),
        Work::Event(_) | Work::Job(_) | Work::Delivery(_) => None,
    };
    let (known, unknown): (Vec<&Claimed>, Vec<&Claimed>) = claimed.iter().partition(|next| next.claim.is_known);
    let rows: Vec<Row> = known.into_iter().filter_map(begins).flatten().collect();
    // Without Redis nobody knows whether the event was erased. Its row says so.
    let unsure: Vec<Row> = unknown.into_iter().filter_map(begins).flatten().collect();
    if rows.is_empty() && unsure.is_empty() {
        return;
    }
    let count = rows.len() + unsure.len();
    let (mut refused, added) = join(
        write_within(context.history.as_ref(), rows, PATIENCE),
        join_all(unsure.iter().map(|row| timeout(PATIENCE, context.history.add(row)))),
    )
    .await;
    refused
        .extend(unsure.iter().zip(added).filter(|(_, added)| !matches!(added, Ok(Ok(_)))).map(|(row, _)| row.clone()));
    metrics::history_rows(count as u64);
    if refused.is_empty() {
        return;
    }
    metrics::history_rows_refused(refused.len() as u64);
    let now = context.clock.now();
    join_all(LateOutcomes::of_rows(refused, now).into_iter().map(|late| write_later(context, late, now))).await;
}

fn rows(event: &Event, kept_for: Duration) -> Vec<Row> {
    let rows = KeptEvent::of(event).and_then(|kept| Ok(vec![kept.listed_row(kept_for)?, kept.row(kept_for)?]));
    rows.unwrap_or_else(|error| {
        tracing::error!(tenant = %event.tenant, event_id = %event.id, error = %chain(&error), "an event cannot be written as a row of history");
        Vec::new()
    })
}

/// Queues rows for `deliver`, which writes them. What cannot be queued either is logged and let
/// go.
async fn write_later(context: &Context, late: LateOutcomes, now: Millis) {
    let late = late.delayed(now);
    if !context.queue_late(&late, now).await {
        for row in &late.rows {
            let (tenant, event_id) = row.event().unwrap_or_default();
            tracing::error!(
                tenant,
                event_id,
                place = %row.place,
                outcome = "unrecorded",
                "neither history nor the queue took a row of an event"
            );
        }
    }
}
