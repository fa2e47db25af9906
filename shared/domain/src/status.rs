//! Where a delivery stands, as its clients see it.

use serde::{Deserialize, Serialize};

/// A delivery's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Retrying, Self::Delivered, Self::Failed];

    /// The status's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
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

    #[test]
    fn a_status_has_one_name_everywhere() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(Status::named(status.as_str()), Some(status));
        }
    }
}
