//! What a bus offers that is told of endpoints: of one that was disabled, or of a delivery that
//! was given up.

use async_trait::async_trait;
use domain::time::Millis;

use crate::BoxError;

/// What a bus is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The type of the event.
    pub event_type: String,
    /// What it says, as JSON.
    pub payload: String,
    /// When it happened.
    pub at: Millis,
}

/// The bus did not take an announcement. It may have it all the same.
#[derive(Debug, thiserror::Error)]
#[error("the event bus did not take an announcement")]
pub struct BusError(#[source] BoxError);

impl BusError {
    /// A failure, and why.
    pub fn because(why: impl Into<BoxError>) -> Self {
        Self(why.into())
    }

    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        "event_bus"
    }
}

/// The way to a bus.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Tells the bus. It may be told twice when an answer was lost.
    async fn announce(&self, announcement: &Announcement) -> Result<(), BusError>;
}
