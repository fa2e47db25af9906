//! Work: what a queue must have until it is finished. It is a delivery or an event, and both
//! have a record, a hop and a deadline.

use crate::event::EventPage;
use crate::message::Message;
use crate::record::NewRecord;
use crate::time::Millis;

/// A delivery or an event under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A delivery.
    Delivery(Box<Message>),
    /// An event.
    Event(Box<EventPage>),
}

impl Work {
    /// What its record is named by.
    pub fn record_id(&self) -> String {
        match self {
            Self::Delivery(message) => message.delivery.id.clone(),
            Self::Event(page) => page.event.record_id(),
        }
    }

    /// What its record begins with.
    pub fn new_record(&self) -> NewRecord {
        match self {
            Self::Delivery(message) => message.new_record(),
            Self::Event(page) => page.new_record(),
        }
    }

    /// The hop of its message.
    pub fn hop(&self) -> u32 {
        match self {
            Self::Delivery(message) => message.hop,
            Self::Event(page) => page.hop,
        }
    }

    /// What its log lines are found by.
    pub fn correlation_id(&self) -> &str {
        match self {
            Self::Delivery(message) => &message.delivery.correlation_id,
            Self::Event(page) => &page.event.correlation_id,
        }
    }

    /// Not to be worked on earlier.
    pub fn not_before(&self) -> Millis {
        match self {
            Self::Delivery(message) => message.not_before,
            Self::Event(page) => page.not_before,
        }
    }

    /// Notes when it was accepted.
    pub fn set_accepted_at(&mut self, accepted_at: Millis) {
        match self {
            Self::Delivery(message) => message.delivery.accepted_at = accepted_at,
            Self::Event(page) => page.event.accepted_at = accepted_at,
        }
    }

    /// Its message as a queue carries it.
    ///
    /// # Errors
    /// Only when its payload is not JSON text.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Delivery(message) => message.encode(),
            Self::Event(page) => page.encode(),
        }
    }
}
