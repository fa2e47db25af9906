//! Rows of deliveries that ended, as `deliver` writes them, for tests that need them at once.

use std::time::Duration;

use adapters::history::HistoryWriter as _;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::message::{History, Message};
use domain::time::Millis;

use crate::history_model::HistoryModel;

/// How long history keeps what it has: the template's `HistoryDays`.
pub const LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Writes that a delivery ended so.
///
/// # Panics
/// When history does not take it, or it was a test.
pub async fn ended(history: &HistoryModel, message: &Message, result: DeliveryEnd, at: Millis) {
    let ended = EndedDelivery::of(message, 1, History::default(), result, None, at).unwrap();
    let refused = history.write(vec![ended.row(LIFE).unwrap()]).await;
    assert!(refused.is_empty(), "history did not take a row");
}
