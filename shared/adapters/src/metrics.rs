//! Metrics: their names, how they are recorded, and how they leave the process.

pub mod emf;
pub mod exposition;
pub mod meter;
pub mod names;
mod recorder;
pub mod sums;

pub use names::{
    DeliveryKind, DeliveryResult, attempt, breaker_changed, card_unusable, dead_letter, deliveries_owed, delivery,
    dropped_erased, end_to_end, endpoint_disabled, enqueued, event_accepted, event_deliveries, event_fanned_out,
    event_waits, events_erased, filter_too_costly, history_rows, history_rows_refused, owed_caught_up, owed_expired,
    rate_not_held, redis_failed, replay_deliveries, schemas_unusable,
};
