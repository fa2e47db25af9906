//! What history learns: every delivery that ended, with its attempts. Nothing of a test is kept.

use std::time::Duration;

use adapters::history::write_within;
use adapters::metrics;
use adapters::telemetry::chain;
use domain::history::Row;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::message::{Attempt, History, Message};
use domain::next_step::GivenUp;
use domain::record::Record;
use domain::status::Status;
use domain::time::Millis;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::context::Context;
use crate::decision::{Decided, Decision};

/// How long a batch waits for history at a time. What is not written by then is written later.
const PATIENCE: Duration = Duration::from_millis(500);

/// The end of a delivery that its receiver has, after this attempt.
pub(crate) fn delivered(context: &Context, message: &Message, last: Attempt) -> Option<Box<EndedDelivery>> {
    context.history_life?;
    let mut history = message.history.clone();
    history.push(last);
    let attempts = u32::from(message.attempts) + 1;
    EndedDelivery::of(message, attempts, history, DeliveryEnd::Delivered, None, context.clock.now()).map(Box::new)
}

/// The rows of what ended.
pub(crate) fn rows(context: &Context, decided: &[Decided]) -> Vec<Row> {
    if context.history_life.is_none() {
        return Vec::new();
    }
    let now = context.clock.now();
    let row = |next: &Decided| match &next.decision {
        Decision::Delivered { ended, .. } => row(context, ended.as_deref()?),
        Decision::GiveUp { given_up, .. } => row(context, &ended(given_up, now)?),
        Decision::Superseded
        | Decision::Finished(_)
        | Decision::Erased { .. }
        | Decision::Keep
        | Decision::Release(_)
        | Decision::Wait(_)
        | Decision::Retry { .. }
        | Decision::Park { .. }
        | Decision::Owe { .. }
        | Decision::TestFailed { .. }
        | Decision::ReusedId(_)
        | Decision::Malformed { .. }
        | Decision::Late { .. } => None,
    };
    let rows: Vec<Row> = decided.iter().filter_map(row).collect();
    // They are counted before the round trip that takes the metrics along.
    if !rows.is_empty() {
        metrics::history_rows(rows.len() as u64);
    }
    rows
}

/// The end of a delivery that is given up.
fn ended(given_up: &GivenUp, now: Millis) -> Option<EndedDelivery> {
    let GivenUp { reason, message, error, .. } = given_up;
    let (attempts, history) = (u32::from(message.attempts), message.history.clone());
    EndedDelivery::of(message, attempts, history, DeliveryEnd::GivenUp(*reason), Some(error.clone()), now)
}

/// The row of a delivery that had ended when its message came back: the process that made the
/// call may have died before history had it. Only Redis knows of that call now. Of what was
/// given up, the dead letter tells history.
pub(crate) fn missed(context: &Context, message: &Message, record: &Record) -> Option<Row> {
    let is_this_end = record.status == Status::Delivered && record.hop == message.hop;
    let log = record.log.as_deref().and_then(|log| serde_json::from_str::<History>(log).ok());
    let history = log.unwrap_or_else(|| {
        let ms = record.duration_ms.unwrap_or_default();
        let at = Millis(record.updated_at.0.saturating_sub(ms));
        let mut history = message.history.clone();
        history.push(Attempt { at, code: record.last_status_code, class: None, ms, error: None, answer: None });
        history
    });
    let attempts = record.details.attempts;
    let ended = EndedDelivery::of(message, attempts, history, DeliveryEnd::Delivered, None, record.updated_at)?;
    is_this_end.then(|| row(context, &ended)).flatten()
}

fn row(context: &Context, ended: &EndedDelivery) -> Option<Row> {
    let row = ended.row(context.history_life?);
    row.inspect_err(|error| tracing::error!(error = %chain(error), "a row of history cannot be written")).ok()
}

/// Writes rows, and gives back those that history did not take in time.
pub(crate) async fn write(context: &Context, rows: Vec<Row>) -> Vec<Row> {
    if rows.is_empty() {
        return rows;
    }
    let refused = write_within(context.history.as_ref(), rows, PATIENCE).await;
    if !refused.is_empty() {
        metrics::history_rows_refused(refused.len() as u64);
    }
    refused
}

/// Adds rows that are missing, and gives back those of which nobody knows whether they are.
pub(crate) async fn add(context: &Context, rows: Vec<Row>) -> Vec<Row> {
    let adding = rows.into_iter().map(|row| async move {
        match timeout(PATIENCE, context.history.add(&row)).await {
            Ok(Ok(true)) => {
                tracing::warn!(partition = %row.partition, "a delivery that had ended was missing from history");
                metrics::history_rows(1);
                return None;
            }
            Ok(Ok(false)) => return None,
            Ok(Err(error)) => {
                tracing::error!(code = error.code(), error = %chain(&error), "history did not take a row");
            }
            Err(_) => tracing::error!("history did not answer in time"),
        }
        metrics::history_rows_refused(1);
        Some(row)
    });
    join_all(adding).await.into_iter().flatten().collect()
}

/// Writes the rows of late outcomes. What history does not take is left in their messages.
pub(crate) async fn write_late(context: &Context, decided: &mut [Decided]) {
    let mut late = Vec::new();
    for (place, next) in decided.iter_mut().enumerate() {
        if let Decision::Late { rows, .. } = &mut next.decision {
            late.extend(std::mem::take(rows).into_iter().map(|row| (place, row)));
        }
    }
    if late.is_empty() {
        return;
    }
    metrics::history_rows(late.len() as u64);
    let refused = write(context, late.iter().map(|(_, row)| row.clone()).collect()).await;
    let now = context.clock.now();
    for (place, row) in late.into_iter().filter(|(_, row)| refused.contains(row)) {
        if let Decision::Late { recorded, left, .. } = &mut decided[place].decision {
            if now >= recorded.deadline {
                tracing::error!(partition = %row.partition, outcome = "unrecorded", "a row of history was never written");
                continue;
            }
            let emptied = recorded.emptied();
            left.get_or_insert_with(|| Box::new(emptied.delayed(now))).rows.push(row);
        }
    }
}
