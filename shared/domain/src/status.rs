//! Where a delivery stands, as its clients see it.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

/// A delivery's status.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// Accepted, no attempt has ended yet.
    Pending,
    /// At least one attempt failed, another will follow.
    Retrying,
    /// The receiver has it.
    Delivered,
    /// Given up; there is a dead letter.
    Failed,
}

impl Status {
    /// The status's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What a delivery is while it waits for its next attempt, after `attempts` calls.
    pub fn waiting(attempts: u32) -> Self {
        if attempts == 0 { Self::Pending } else { Self::Retrying }
    }
}

/// How long records live in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Delivered records, in milliseconds.
    pub delivered_ms: u64,
    /// Pending, retrying and failed records, in milliseconds.
    pub unfinished_ms: u64,
    /// Records of events, in milliseconds.
    pub event_ms: u64,
}

impl Lifetimes {
    /// The life of a record with this status, in milliseconds.
    pub fn of(self, status: Status) -> u64 {
        match status {
            Status::Delivered => self.delivered_ms,
            Status::Pending | Status::Retrying | Status::Failed => self.unfinished_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    #[test]
    fn a_status_has_one_name_everywhere() {
        for status in Status::iter() {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }
}
