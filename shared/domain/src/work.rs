//! Work: what a queue must have until it is finished. It is a delivery, an event or a job, and
//! each has a record, a hop and a deadline.

use crate::event::EventPage;
use crate::job::JobPage;
use crate::message::Message;
use crate::record::NewRecord;
use crate::time::Millis;

/// Work under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A delivery.
    Delivery(Box<Message>),
    /// An event.
    Event(Box<EventPage>),
    /// A job that somebody asked for.
    Job(Box<JobPage>),
}

impl Work {
    /// What its record is named by.
    pub fn record_id(&self) -> String {
        match self {
            Self::Delivery(message) => message.delivery.id.clone(),
            Self::Event(page) => page.event.record_id(),
            Self::Job(page) => page.record_id(),
        }
    }

    /// What its record begins with.
    pub fn new_record(&self) -> NewRecord {
        match self {
            Self::Delivery(message) => message.new_record(),
            Self::Event(page) => page.new_record(),
            Self::Job(page) => page.new_record(),
        }
    }

    /// The hop of its message.
    pub fn hop(&self) -> u32 {
        match self {
            Self::Delivery(message) => message.hop,
            Self::Event(page) => page.hop,
            Self::Job(page) => page.hop,
        }
    }

    /// What its log lines are found by.
    pub fn correlation_id(&self) -> &str {
        match self {
            Self::Delivery(message) => &message.delivery.correlation_id,
            Self::Event(page) => &page.event.correlation_id,
            Self::Job(page) => &page.correlation_id,
        }
    }

    /// The tenant that it is for; `None` for a direct webhook.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Delivery(message) => message.tenant(),
            Self::Event(page) => Some(&page.event.tenant),
            Self::Job(page) => Some(&page.tenant),
        }
    }

    /// When it is given up.
    pub fn deadline(&self) -> Millis {
        match self {
            Self::Delivery(message) => message.delivery.deadline,
            Self::Event(page) => page.deadline,
            Self::Job(page) => page.deadline,
        }
    }

    /// When it is to be worked on: an instant beyond the deadline is the deadline, where it is
    /// given up.
    pub fn due(&self) -> Millis {
        self.not_before().min(self.deadline())
    }

    /// Not to be worked on earlier.
    pub fn not_before(&self) -> Millis {
        match self {
            Self::Delivery(message) => message.not_before,
            Self::Event(page) => page.not_before,
            Self::Job(page) => page.not_before,
        }
    }

    /// Notes when it was accepted.
    pub fn set_accepted_at(&mut self, accepted_at: Millis) {
        match self {
            Self::Delivery(message) => message.delivery.accepted_at = accepted_at,
            Self::Event(page) => page.event.accepted_at = accepted_at,
            Self::Job(page) => page.accepted_at = accepted_at,
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
            Self::Job(page) => page.encode(),
        }
    }
}
