//! What a receiver's answer means. This is the only place where a status code
//! is looked at: retry, breaker, status and metrics all read the same verdict.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dead_letter::Reason;
use crate::time::Millis;

/// What came back from one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response head arrived with this status code.
    Status(u16),
    /// DNS, connect, TLS, a reset, or a response that is not HTTP.
    Network,
    /// Nothing complete came back in time.
    Timeout,
    /// We refuse to send this: forbidden address, unusable URL, too large.
    Refused,
    /// Our own fault, before or during the attempt.
    Fault,
}

/// One attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// What came back.
    pub answer: Answer,
    /// When it began.
    pub at: Millis,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// What went wrong, for a person; `None` on success.
    pub error: Option<String>,
}

impl Attempted {
    /// The status code, if an answer came.
    pub fn code(&self) -> Option<u16> {
        match self.answer {
            Answer::Status(code) => Some(code),
            Answer::Network | Answer::Timeout | Answer::Refused | Answer::Fault => None,
        }
    }

    /// What went wrong, in some words.
    pub fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }
}

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx: the receiver has it.
    Delivered,
    /// 429: the receiver asks us to slow down.
    Throttled,
    /// 408 or 425: try again later, the receiver is alive.
    Deferred,
    /// 410: the receiver is gone for good.
    Gone,
    /// Another 4xx, or a 3xx: it will not become better by itself.
    Rejected,
    /// 5xx: the receiver failed.
    Failed,
    /// The receiver was not reached, or did not speak HTTP.
    Unreachable,
    /// The receiver did not answer in time.
    TimedOut,
    /// We refused to send.
    Refused,
    /// Our own fault.
    Faulted,
}

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Finished: the receiver has it.
    Delivered,
    /// Worth another attempt, on this schedule.
    Retry(Pace),
    /// Finished: it will not be delivered.
    GiveUp(Reason),
    /// Not the delivery's fault; the message stays where it is.
    Keep,
}

/// How eagerly to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After server errors and network trouble.
    Normal,
    /// After the receiver asked for patience.
    Slow,
}

/// What the answer says about the receiver's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is alive.
    Healthy,
    /// It is in trouble.
    Unhealthy,
    /// It asks for less: says nothing while it is trusted, but fails a probe.
    Throttled,
    /// Says nothing about the receiver.
    Neutral,
}

/// The class of a failed attempt, as statuses, dead letters and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// 429.
    Throttled,
    /// 3xx and 4xx.
    ClientError,
    /// 5xx.
    ServerError,
    /// DNS, connect, TLS, reset, broken response.
    Network,
    /// No answer in time.
    Timeout,
    /// Refused by us: the request itself is at fault.
    Validation,
    /// Our own fault.
    Unexpected,
}

impl ErrorClass {
    /// Every class, for metrics that show all of them.
    pub const ALL: [Self; 7] = [
        Self::Throttled,
        Self::ClientError,
        Self::ServerError,
        Self::Network,
        Self::Timeout,
        Self::Validation,
        Self::Unexpected,
    ];

    /// The class's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Validation => "validation",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Decides what an answer means. The response head decides: a 2xx is delivered
/// whatever its body then does. A final 1xx and codes beyond 599 are not HTTP.
pub fn classify(answer: &Answer) -> Outcome {
    match answer {
        Answer::Status(200..=299) => Outcome::Delivered,
        Answer::Status(429) => Outcome::Throttled,
        Answer::Status(408 | 425) => Outcome::Deferred,
        Answer::Status(410) => Outcome::Gone,
        Answer::Status(300..=499) => Outcome::Rejected,
        Answer::Status(500..=599) => Outcome::Failed,
        Answer::Status(_) | Answer::Network => Outcome::Unreachable,
        Answer::Timeout => Outcome::TimedOut,
        Answer::Refused => Outcome::Refused,
        Answer::Fault => Outcome::Faulted,
    }
}

impl Outcome {
    /// What becomes of the delivery.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Delivered => Disposition::Delivered,
            Self::Throttled | Self::Deferred => Disposition::Retry(Pace::Slow),
            Self::Failed | Self::Unreachable | Self::TimedOut => Disposition::Retry(Pace::Normal),
            Self::Gone => Disposition::GiveUp(Reason::Gone),
            Self::Rejected => Disposition::GiveUp(Reason::ClientError),
            Self::Refused => Disposition::GiveUp(Reason::Validation),
            Self::Faulted => Disposition::Keep,
        }
    }

    /// What it says about the receiver.
    pub fn verdict(self) -> Verdict {
        match self {
            // A receiver that refuses one request is alive and well.
            Self::Delivered | Self::Gone | Self::Rejected => Verdict::Healthy,
            Self::Throttled => Verdict::Throttled,
            Self::Failed | Self::Unreachable | Self::TimedOut => Verdict::Unhealthy,
            Self::Deferred | Self::Refused | Self::Faulted => Verdict::Neutral,
        }
    }

    /// The class of the failure; `None` for success.
    pub fn error_class(self) -> Option<ErrorClass> {
        match self {
            Self::Delivered => None,
            Self::Throttled => Some(ErrorClass::Throttled),
            Self::Deferred | Self::Gone | Self::Rejected => Some(ErrorClass::ClientError),
            Self::Failed => Some(ErrorClass::ServerError),
            Self::Unreachable => Some(ErrorClass::Network),
            Self::TimedOut => Some(ErrorClass::Timeout),
            Self::Refused => Some(ErrorClass::Validation),
            Self::Faulted => Some(ErrorClass::Unexpected),
        }
    }

    /// Whether a `Retry-After` that came with status `code` is heard.
    pub fn hears_retry_after(self, code: u16) -> bool {
        match self {
            Self::Throttled | Self::Deferred => true,
            Self::Failed => code == 503,
            Self::Delivered
            | Self::Gone
            | Self::Rejected
            | Self::Unreachable
            | Self::TimedOut
            | Self::Refused
            | Self::Faulted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (Disposition, Verdict, Option<ErrorClass>);

    fn row(answer: Answer) -> Row {
        let outcome = classify(&answer);
        (outcome.disposition(), outcome.verdict(), outcome.error_class())
    }

    /// The table, written a second time and by code, not by outcome.
    fn expected(code: u16) -> Row {
        use {Disposition as D, ErrorClass as E, Verdict as V};
        match code {
            200..=299 => (D::Delivered, V::Healthy, None),
            429 => (D::Retry(Pace::Slow), V::Throttled, Some(E::Throttled)),
            408 | 425 => (D::Retry(Pace::Slow), V::Neutral, Some(E::ClientError)),
            410 => (D::GiveUp(Reason::Gone), V::Healthy, Some(E::ClientError)),
            300..=499 => (D::GiveUp(Reason::ClientError), V::Healthy, Some(E::ClientError)),
            500..=599 => (D::Retry(Pace::Normal), V::Unhealthy, Some(E::ServerError)),
            _ => (D::Retry(Pace::Normal), V::Unhealthy, Some(E::Network)),
        }
    }

    #[test]
    fn every_status_code_means_what_the_table_says() {
        for code in 0..=1000 {
            assert_eq!(row(Answer::Status(code)), expected(code), "{code}");
        }
        assert_eq!(row(Answer::Status(u16::MAX)), expected(u16::MAX));
    }

    #[test]
    fn what_is_not_an_answer_means_what_the_table_says() {
        use {Disposition as D, ErrorClass as E, Verdict as V};
        assert_eq!(row(Answer::Network), (D::Retry(Pace::Normal), V::Unhealthy, Some(E::Network)));
        assert_eq!(row(Answer::Timeout), (D::Retry(Pace::Normal), V::Unhealthy, Some(E::Timeout)));
        assert_eq!(row(Answer::Refused), (D::GiveUp(Reason::Validation), V::Neutral, Some(E::Validation)));
        assert_eq!(row(Answer::Fault), (D::Keep, V::Neutral, Some(E::Unexpected)));
    }

    #[test]
    fn retry_after_is_heard_on_408_425_429_and_503_only() {
        let heard: Vec<u16> =
            (0..=1000).filter(|&code| classify(&Answer::Status(code)).hears_retry_after(code)).collect();
        assert_eq!(heard, [408, 425, 429, 503]);
    }
}
