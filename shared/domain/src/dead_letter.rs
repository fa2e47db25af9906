//! Why a delivery was given up, and what a dead letter carries beside its
//! message. The names of the attributes are those that Amazon EventBridge uses.

use serde::{Deserialize, Serialize};

/// Message attribute: the [`Reason`].
pub const ERROR_CODE: &str = "ERROR_CODE";
/// Message attribute: the last error, for a person.
pub const ERROR_MESSAGE: &str = "ERROR_MESSAGE";
/// Message attribute: how many calls were made after the first one.
pub const RETRY_ATTEMPTS: &str = "RETRY_ATTEMPTS";
/// Message attribute: which limit ended it.
pub const EXHAUSTED_RETRY_CONDITION: &str = "EXHAUSTED_RETRY_CONDITION";

/// Why a delivery ended in the dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The retry budget is spent.
    RetriesExhausted,
    /// The receiver refused it with a 3xx or 4xx.
    ClientError,
    /// The receiver answered 410 Gone.
    Gone,
    /// Its deadline passed.
    Expired,
    /// It must not or cannot be sent.
    Validation,
    /// The message could not be read.
    Malformed,
    /// Its consumer died again and again: outcome unknown, the receiver may have it.
    Crashed,
}

impl Reason {
    /// Every reason, for metrics that show all of them.
    pub const ALL: [Self; 7] = [
        Self::RetriesExhausted,
        Self::ClientError,
        Self::Gone,
        Self::Expired,
        Self::Validation,
        Self::Malformed,
        Self::Crashed,
    ];

    /// The reason's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "retries_exhausted",
            Self::ClientError => "client_error",
            Self::Gone => "gone",
            Self::Expired => "expired",
            Self::Validation => "validation",
            Self::Malformed => "malformed",
            Self::Crashed => "crashed",
        }
    }

    /// The reason of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Which limit ended the delivery, in EventBridge's words where it has one.
    pub fn exhausted_condition(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "MaximumRetryAttempts",
            Self::Expired => "MaximumEventAgeInSeconds",
            Self::Crashed => "MaximumReceiveCount",
            Self::ClientError | Self::Gone | Self::Validation | Self::Malformed => "NotRetryable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_name_everywhere() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(Reason::named(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::named("other"), None);
    }
}
