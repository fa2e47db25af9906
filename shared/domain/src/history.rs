//! What history keeps: events, deliveries that ended, and replays. Rows are named by what
//! their messages say alone, so writing one twice changes nothing, and no row replaces
//! another.

pub mod candidate;
pub mod delivery;
pub mod event;
pub mod names;
pub mod owed;
pub mod page;
pub mod replay;

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// A row of the table of history, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The partition, attribute `pk`.
    pub partition: String,
    /// The place in it, attribute `sk`.
    pub place: String,
    /// What it says, as JSON.
    pub body: String,
    /// When it ends. From then on it counts as absent.
    pub kept_until: Millis,
    /// Where the index `by_event` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_event: Option<EventPlace>,
}

/// A place in the index `by_event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventPlace {
    /// The partition: the event.
    pub event: String,
    /// The place in it.
    pub place: String,
}

impl Row {
    /// The tenant and the event that it tells of, if it tells of one.
    pub fn event(&self) -> Option<(&str, &str)> {
        match &self.by_event {
            Some(index) => names::split_event(&index.event),
            None => names::split_event(&self.partition)
                .or_else(|| names::split_listed(&self.partition, &self.place))
                .or_else(|| names::split_owed(&self.partition, &self.place)),
        }
    }

    /// Whether it is an event's line in the list of a day.
    pub fn is_listed_event(&self) -> bool {
        names::split_listed(&self.partition, &self.place).is_some()
    }

    /// When what it tells of was accepted: its place begins with that.
    pub fn accepted_at(&self) -> Option<Millis> {
        self.place.split('#').next()?.parse().ok().map(Millis)
    }

    /// At least as many bytes as JSON needs for it.
    pub fn written_len(&self) -> usize {
        let index = self.by_event.as_ref().map_or(0, |index| index.event.len() + index.place.len());
        // What has to be escaped in JSON text takes two bytes.
        let escaped = self.body.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\r' | b'\t')).count();
        self.partition.len() + self.place.len() + index + self.body.len() + escaped + 200
    }

    /// Whether it still counts.
    pub fn is_kept(&self, now: Millis) -> bool {
        now < self.kept_until
    }
}
