//! Rows of what an endpoint is owed: how they are read, and how they end without being sent.

use adapters::history::{HistoryError, Part, RowKey};
use adapters::metrics;
use adapters::redis::marks::ask_erased;
use adapters::redis::query::{ReplyError, Trip};
use adapters::redis::transport::Unavailable;
use adapters::redis::{records, token};
use adapters::telemetry::chain;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::history::owed::{self, Owed};
use domain::history::{Row, names};
use domain::message::Message;
use domain::reason::Reason;
use domain::record::{Ending, Settlement};
use domain::status::Status;
use domain::time::{Millis, whole_ms};

use crate::context::Context;

/// Most rows that are read at a time.
pub(crate) const PART: usize = 100;

/// A row that can be read.
#[derive(Debug)]
pub(crate) struct OwedRow {
    row: Row,
    pub(crate) owed: Owed,
}

/// What was read of a part of an endpoint's rows.
#[derive(Debug, Default)]
pub(crate) struct OwedPart {
    /// Deliveries that are owed, each once.
    pub(crate) rows: Vec<OwedRow>,
    /// Rows that are not wanted: of erased events, and those that a later hop of their delivery
    /// follows.
    pub(crate) unwanted: Vec<RowKey>,
    /// How many rows it had, and their bytes.
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    /// The place after which the rows go on, if they do.
    pub(crate) next: Option<String>,
}

/// Why rows were not read or ended. They stay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwedError {
    /// History failed.
    #[error("history does not do its part")]
    History(#[from] HistoryError),
    /// History did not take the end of a delivery.
    #[error("history did not take the end of a delivery")]
    Refused,
    /// Redis did not answer.
    #[error("Redis does not answer")]
    Away(#[from] Unavailable),
    /// Redis refused a command.
    #[error("Redis refused a command")]
    Reply(#[from] ReplyError),
}

impl OwedRow {
    /// Its key.
    pub(crate) fn key(&self) -> RowKey {
        RowKey::of(&self.row)
    }

    /// The delivery.
    pub(crate) fn message(&self) -> &Message {
        &self.owed.message
    }

    /// Whether it has been owed for too long.
    pub(crate) fn has_expired(&self, context: &Context) -> bool {
        let now = context.clock.now();
        let before = Millis(now.0.saturating_sub(whole_ms(context.owed_life)));
        owed::has_expired(&self.row, self.owed.since, before, now)
    }
}

/// Reads a part of an endpoint's rows. A row that cannot be read is told in the log, and stays.
/// While Redis is away nothing is read: it would not be known what was erased.
pub(crate) async fn read(context: &Context, part: &Part) -> Result<OwedPart, OwedError> {
    let slice = context.history.part(part, context.clock.now()).await?;
    let bytes = slice.rows.iter().map(|row| row.body.len()).sum();
    let mut read = OwedPart { count: slice.rows.len(), bytes, next: slice.next, ..OwedPart::default() };
    let mut rows: Vec<OwedRow> = Vec::with_capacity(read.count);
    for row in slice.rows {
        match owed::read(&row) {
            // The hops of a delivery follow one another, and the last one carries it.
            Ok(owed) => {
                let is_later = |last: &mut OwedRow| {
                    let (last, delivery) = (&last.owed.message.delivery, &owed.message.delivery);
                    (&last.id, last.accepted_at, &last.body_hash)
                        == (&delivery.id, delivery.accepted_at, &delivery.body_hash)
                };
                read.unwanted.extend(rows.pop_if(is_later).map(|earlier| earlier.key()));
                rows.push(OwedRow { row, owed });
            }
            Err(error) => {
                tracing::error!(partition = %row.partition, place = %row.place, error = %chain(&error), "an owed row cannot be read; it stays");
            }
        }
    }
    let mut trip = Trip::default();
    let asked: Vec<_> = rows
        .iter()
        .map(|row| {
            let (tenant, event_id) = row.row.event().unwrap_or_default();
            ask_erased(&mut trip, tenant, event_id, row.owed.message.delivery.accepted_at)
        })
        .collect();
    let mut replies = trip.run(context.redis.as_ref()).await?;
    for (row, asked) in rows.into_iter().zip(asked) {
        if asked.take(&mut replies)? {
            read.unwanted.push(row.key());
        } else {
            read.rows.push(row);
        }
    }
    Ok(read)
}

/// Deletes rows.
pub(crate) async fn delete(context: &Context, keys: &[RowKey]) -> Result<(), OwedError> {
    if keys.is_empty() { Ok(()) } else { Ok(context.history.delete(keys).await?) }
}

/// Ends deliveries that are not sent any more: history has their ends, their records say so, and
/// only then their rows are deleted.
pub(crate) async fn end(context: &Context, ended: &[(&OwedRow, Reason)]) -> Result<(), OwedError> {
    if ended.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row> = ended.iter().filter_map(|(row, reason)| end_of(context, row, *reason)).collect();
    if !rows.is_empty() {
        metrics::history_rows(rows.len() as u64);
        let refused = context.history.write(rows).await;
        if !refused.is_empty() {
            metrics::history_rows_refused(refused.len() as u64);
            return Err(OwedError::Refused);
        }
    }
    settle(context, ended).await?;
    delete(context, &ended.iter().map(|(row, _)| row.key()).collect::<Vec<_>>()).await?;
    let expired = ended.iter().filter(|(_, reason)| *reason == Reason::Expired).count();
    metrics::owed_expired(expired as u64);
    for (row, reason) in ended {
        let delivery = &row.message().delivery;
        tracing::warn!(
            webhook_id = %delivery.id,
            correlation_id = %delivery.correlation_id,
            reason = reason.as_str(),
            owed_since = %row.owed.since,
            outcome = "given_up",
            "an owed delivery is given up"
        );
    }
    Ok(())
}

/// The end of a delivery, as history keeps it.
fn end_of(context: &Context, row: &OwedRow, reason: Reason) -> Option<Row> {
    let message = row.message();
    let (attempts, history) = (u32::from(message.attempts), message.history.clone());
    let (result, now) = (DeliveryEnd::GivenUp(reason), context.clock.now());
    let ended = EndedDelivery::of(message, attempts, history, result, Some(why(reason).to_owned()), now)?;
    let row = ended.row(context.history_life?);
    row.inspect_err(|error| tracing::error!(error = %chain(error), "a row of history cannot be written")).ok()
}

/// Lets the records of deliveries say how they ended. One that is gone stays gone: its delivery
/// may have arrived by another message, long ago.
async fn settle(context: &Context, ended: &[(&OwedRow, Reason)]) -> Result<(), OwedError> {
    let mut trip = Trip::default();
    let known = trip.add_all(ended.iter().map(|(row, _)| records::read(&row.message().delivery.id)));
    let mut replies = trip.run(context.redis.as_ref()).await?;
    let mut trip = Trip::default();
    let mut settled = Vec::new();
    let mut failed = Vec::new();
    for ((row, reason), known) in ended.iter().zip(known) {
        let message = row.message();
        if known.take(&mut replies)?.is_none() {
            continue;
        }
        let last = message.history.attempts.last();
        let ending = Ending::Failed {
            attempts: u32::from(message.attempts),
            code: last.and_then(|attempt| attempt.code),
            class: last.and_then(|attempt| attempt.class),
            error: why(*reason).to_owned(),
            duration_ms: None,
        };
        // To its record, the row is the message that follows the one which was kept as owed.
        let settlement = Settlement { token: token(), hop: message.hop + 1, ending, log: None };
        let id = &message.delivery.id;
        settled.push(trip.add(records::settle(id, &message.new_record(), &settlement, context.lifetimes)));
        failed.push((id.clone(), Status::Failed));
    }
    if failed.is_empty() {
        return Ok(());
    }
    let index = trip.add(context.indexes.move_to(&failed, context.clock.now()));
    let mut replies = trip.run(context.redis.as_ref()).await?;
    for ticket in settled {
        // A record that is newer is true already.
        ticket.take(&mut replies)?;
    }
    Ok(index.take(&mut replies)?)
}

/// Why an owed delivery is given up, for a person.
fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Expired => "the endpoint was paused or disabled for too long",
        Reason::EndpointGone => "the endpoint was deleted",
        Reason::CatchUpRefused => "the endpoint was enabled without what it was owed",
        Reason::RetriesExhausted
        | Reason::ClientError
        | Reason::Gone
        | Reason::Validation
        | Reason::Malformed
        | Reason::Crashed => reason.as_str(),
    }
}

/// A part of all rows of an endpoint. Those whose time is over are wanted, too: they must end.
pub(crate) fn part_of(tenant: &str, endpoint: &str, after: Option<String>) -> Part {
    Part { after, limit: PART, with_ended: true, ..Part::of(names::owed(tenant, endpoint)) }
}
