//! Metrics: their names, how they are recorded, and how they leave the process.

pub mod emf;
pub mod exposition;
pub mod meter;
pub mod names;
mod recorder;
pub mod sums;

pub use names::{
    DeliveryResult, attempt, breaker_changed, card_unusable, dead_letter, delivery, end_to_end, enqueued,
    event_accepted, event_deliveries, event_fanned_out, event_waits, filter_too_costly, redis_failed, schemas_unusable,
};
