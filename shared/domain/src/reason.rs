//! Why a delivery was given up.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

/// Why a delivery ended in the dead-letter queue.
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
    /// Its endpoint was deleted.
    EndpointGone,
    /// It was owed while its endpoint was paused or disabled, and is not wanted any more.
    CatchUpRefused,
}

impl Reason {
    /// The reason's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Which limit ended the delivery, in EventBridge's words where it has one.
    pub fn exhausted_condition(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "MaximumRetryAttempts",
            Self::Expired => "MaximumEventAgeInSeconds",
            Self::Crashed => "MaximumReceiveCount",
            Self::ClientError
            | Self::Gone
            | Self::Validation
            | Self::Malformed
            | Self::EndpointGone
            | Self::CatchUpRefused => "NotRetryable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    #[test]
    fn a_reason_has_one_name_everywhere() {
        for reason in Reason::iter() {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert!("other".parse::<Reason>().is_err());
    }
}
