//! What history learns of dead letters: where those of a tenant are, so that they can be
//! erased, and ends of deliveries that `deliver` did not live to tell.

use adapters::history::write_listed_first;
use adapters::metrics;
use adapters::redis::marks::{AskedErased, ask_erased};
use adapters::redis::query::Trip;
use adapters::telemetry::chain;
use domain::dead_letter::DeadLetter;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::history::{Row, names};
use domain::message::Message;
use domain::reason::Reason;
use domain::record::short_error;
use domain::time::Millis;

use crate::Archivist;

/// How much longer than a dead letter it is known where that is. DynamoDB deletes what has
/// ended within days.
const LONGER_S: u64 = 5 * 86_400;

/// The end of a delivery whose message came here.
pub(crate) fn ended(message: &Message, reason: Reason, error: &str, failed_at: Millis) -> Option<EndedDelivery> {
    let (attempts, history) = (u32::from(message.attempts), message.history.clone());
    EndedDelivery::of(message, attempts, history, DeliveryEnd::GivenUp(reason), Some(short_error(error)), failed_at)
}

/// Asks whether the event of a dead letter was erased, if it is of one.
pub(crate) fn ask_of(trip: &mut Trip, letter: &DeadLetter) -> Option<AskedErased> {
    let (tenant, event_id) = letter.of_tenant()?;
    Some(ask_erased(trip, tenant, event_id, letter.accepted_at))
}

impl Archivist {
    /// Writes where a dead letter of a tenant is. Says whether history has it.
    pub(crate) async fn point_to(&self, letter: &DeadLetter) -> bool {
        let Some((tenant, event_id)) = letter.of_tenant() else { return true };
        let row = Row {
            partition: names::dead_letters(tenant),
            place: names::dead_letter(event_id, &letter.webhook_id),
            body: "{}".to_owned(),
            kept_until: Millis((letter.failed_at.as_secs() + self.life_s + LONGER_S) * 1000),
            by_event: None,
        };
        let refused = self.history.write(vec![row]).await;
        if !refused.is_empty() {
            tracing::error!(webhook_id = %letter.webhook_id, "history is away; a dead letter stays in its queue");
            metrics::history_rows_refused(1);
        }
        refused.is_empty()
    }

    /// Writes rows that could not be written for long, unless they were erased since. Says
    /// whether that is done.
    pub(crate) async fn write_late(&self, rows: Vec<Row>) -> bool {
        if rows.is_empty() {
            return true;
        }
        let mut trip = Trip::default();
        let asked: Vec<_> = rows
            .iter()
            .map(|row| {
                let accepted_at = row.accepted_at().unwrap_or_default();
                row.event().map(|(tenant, event)| ask_erased(&mut trip, tenant, event, accepted_at))
            })
            .collect();
        let Ok(mut replies) = trip.run(self.redis.as_ref()).await else { return false };
        let mut kept = Vec::new();
        for (row, erased) in rows.into_iter().zip(asked) {
            match erased.map_or(Ok(false), |erased| erased.take(&mut replies)) {
                Ok(true) => {}
                Ok(false) => kept.push(row),
                Err(_) => return false,
            }
        }
        metrics::history_rows(kept.len() as u64);
        let refused = write_listed_first(self.history.as_ref(), kept).await;
        refused.is_empty()
    }

    /// Adds the end of a delivery if history missed it. Says whether history has it.
    pub(crate) async fn add_missing(&self, ended: &EndedDelivery) -> bool {
        let Some(kept_for) = self.history_life else { return true };
        let added = match ended.row(kept_for) {
            Ok(row) => self.history.add(&row).await,
            Err(error) => {
                tracing::error!(error = %chain(&error), "a row of history cannot be written");
                return true;
            }
        };
        match added {
            Ok(is_new) => {
                metrics::history_rows(u64::from(is_new));
                true
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "history is away; a dead letter stays in its queue");
                metrics::history_rows_refused(1);
                false
            }
        }
    }
}
