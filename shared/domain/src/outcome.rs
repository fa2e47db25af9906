//! What a receiver's answer means. This is the only place where a status code
//! is looked at: retry, breaker, status and metrics all read the same outcome.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

use crate::reason::Reason;
use crate::time::Millis;

/// What came back from one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response head arrived with this status code.
    Status(u16),
    /// There was no connection: DNS, refused, TLS.
    Unconnected,
    /// There was no connection in time.
    ConnectTimeout,
    /// The connection stood, and then came a reset, or a response that is not HTTP.
    Network,
    /// The connection stood, and nothing complete came back in time.
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
    /// What that means.
    pub outcome: Outcome,
    /// When it began.
    pub at: Millis,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// What went wrong, for a person; `None` on success.
    pub error: Option<String>,
    /// The beginning of the answer's body, if it is to be kept.
    pub body: Option<String>,
}

impl Attempted {
    /// An attempt that began at `at` and took `ms` milliseconds.
    pub fn new(answer: Answer, at: Millis, ms: u64) -> Self {
        let outcome = classify(&answer);
        Self { answer, outcome, at, ms, retry_after: None, error: None, body: None }
    }

    /// The status code, if an answer came.
    pub fn code(&self) -> Option<u16> {
        match self.answer {
            Answer::Status(code) => Some(code),
            Answer::Unconnected
            | Answer::ConnectTimeout
            | Answer::Network
            | Answer::Timeout
            | Answer::Refused
            | Answer::Fault => None,
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
    /// The receiver was not reached.
    Unreachable,
    /// The receiver was not reached in time.
    ConnectTimedOut,
    /// The receiver was reached, and broke off or did not speak HTTP.
    Broken,
    /// The receiver was reached, and did not answer in time.
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
    /// Worth another attempt.
    Retry {
        /// On which schedule.
        pace: Pace,
        /// The class of the failure.
        class: ErrorClass,
    },
    /// Finished: it will not be delivered.
    GiveUp {
        /// Why.
        reason: Reason,
        /// The class of the failure.
        class: ErrorClass,
    },
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

/// What a circuit breaker watches over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// The origin of direct webhooks, or a part of it: connections and answers.
    Origin,
    /// An endpoint: its answers.
    Endpoint,
    /// The host of endpoints: connections to it.
    Host,
}

/// What the answer says about the receiver's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthSignal {
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
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
    /// The class's name.
    pub fn as_str(self) -> &'static str {
        self.into()
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
        Answer::Status(_) | Answer::Network => Outcome::Broken,
        Answer::Unconnected => Outcome::Unreachable,
        Answer::ConnectTimeout => Outcome::ConnectTimedOut,
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
            Self::Throttled => Disposition::Retry { pace: Pace::Slow, class: ErrorClass::Throttled },
            Self::Deferred => Disposition::Retry { pace: Pace::Slow, class: ErrorClass::ClientError },
            Self::Failed => Disposition::Retry { pace: Pace::Normal, class: ErrorClass::ServerError },
            Self::Unreachable | Self::Broken => Disposition::Retry { pace: Pace::Normal, class: ErrorClass::Network },
            Self::ConnectTimedOut | Self::TimedOut => {
                Disposition::Retry { pace: Pace::Normal, class: ErrorClass::Timeout }
            }
            Self::Gone => Disposition::GiveUp { reason: Reason::Gone, class: ErrorClass::ClientError },
            Self::Rejected => Disposition::GiveUp { reason: Reason::ClientError, class: ErrorClass::ClientError },
            Self::Refused => Disposition::GiveUp { reason: Reason::Validation, class: ErrorClass::Validation },
            Self::Faulted => Disposition::Keep,
        }
    }

    /// What it says to a breaker that watches over `watched`.
    pub fn health_signal(self, watched: Watched) -> HealthSignal {
        match watched {
            Watched::Origin => self.signal_of_origin(),
            Watched::Endpoint => self.signal_of_endpoint(),
            Watched::Host => self.signal_of_host(),
        }
    }

    fn signal_of_origin(self) -> HealthSignal {
        match self {
            // A receiver that refuses one request is alive and well.
            Self::Delivered | Self::Gone | Self::Rejected => HealthSignal::Healthy,
            Self::Throttled => HealthSignal::Throttled,
            Self::Failed | Self::Unreachable | Self::ConnectTimedOut | Self::Broken | Self::TimedOut => {
                HealthSignal::Unhealthy
            }
            Self::Deferred | Self::Refused | Self::Faulted => HealthSignal::Neutral,
        }
    }

    /// Whether there is a connection is no word on one of the host's endpoints.
    fn signal_of_endpoint(self) -> HealthSignal {
        match self {
            Self::Delivered | Self::Gone | Self::Rejected => HealthSignal::Healthy,
            Self::Throttled | Self::Failed | Self::Broken | Self::TimedOut => HealthSignal::Unhealthy,
            Self::Unreachable | Self::ConnectTimedOut | Self::Deferred | Self::Refused | Self::Faulted => {
                HealthSignal::Neutral
            }
        }
    }

    /// Whoever takes a connection is there, whatever is answered.
    fn signal_of_host(self) -> HealthSignal {
        match self {
            Self::Unreachable | Self::ConnectTimedOut => HealthSignal::Unhealthy,
            Self::Delivered
            | Self::Throttled
            | Self::Deferred
            | Self::Gone
            | Self::Rejected
            | Self::Failed
            | Self::Broken
            | Self::TimedOut => HealthSignal::Healthy,
            Self::Refused | Self::Faulted => HealthSignal::Neutral,
        }
    }

    /// The class of the failure; `None` for success.
    pub fn error_class(self) -> Option<ErrorClass> {
        match self.disposition() {
            Disposition::Delivered => None,
            Disposition::Retry { class, .. } | Disposition::GiveUp { class, .. } => Some(class),
            Disposition::Keep => Some(ErrorClass::Unexpected),
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
            | Self::ConnectTimedOut
            | Self::Broken
            | Self::TimedOut
            | Self::Refused
            | Self::Faulted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (Disposition, HealthSignal, Option<ErrorClass>);

    fn row(answer: Answer) -> Row {
        let outcome = classify(&answer);
        (outcome.disposition(), outcome.health_signal(Watched::Origin), outcome.error_class())
    }

    fn signals(answer: Answer) -> (HealthSignal, HealthSignal) {
        let outcome = classify(&answer);
        (outcome.health_signal(Watched::Endpoint), outcome.health_signal(Watched::Host))
    }

    fn retry(pace: Pace, class: ErrorClass, signal: HealthSignal) -> Row {
        (Disposition::Retry { pace, class }, signal, Some(class))
    }

    fn give_up(reason: Reason, class: ErrorClass, signal: HealthSignal) -> Row {
        (Disposition::GiveUp { reason, class }, signal, Some(class))
    }

    /// The table, written a second time and by code, not by outcome.
    fn expected(code: u16) -> Row {
        use {ErrorClass as E, HealthSignal as S};
        match code {
            200..=299 => (Disposition::Delivered, S::Healthy, None),
            429 => retry(Pace::Slow, E::Throttled, S::Throttled),
            408 | 425 => retry(Pace::Slow, E::ClientError, S::Neutral),
            410 => give_up(Reason::Gone, E::ClientError, S::Healthy),
            300..=499 => give_up(Reason::ClientError, E::ClientError, S::Healthy),
            500..=599 => retry(Pace::Normal, E::ServerError, S::Unhealthy),
            _ => retry(Pace::Normal, E::Network, S::Unhealthy),
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
        use {ErrorClass as E, HealthSignal as S};
        for answer in [Answer::Unconnected, Answer::Network] {
            assert_eq!(row(answer), retry(Pace::Normal, E::Network, S::Unhealthy));
        }
        for answer in [Answer::ConnectTimeout, Answer::Timeout] {
            assert_eq!(row(answer), retry(Pace::Normal, E::Timeout, S::Unhealthy));
        }
        assert_eq!(row(Answer::Refused), give_up(Reason::Validation, E::Validation, S::Neutral));
        assert_eq!(row(Answer::Fault), (Disposition::Keep, S::Neutral, Some(E::Unexpected)));
    }

    #[test]
    fn answers_count_at_the_endpoint_and_connections_at_the_host() {
        use HealthSignal as S;
        for code in 0..=1000 {
            let of_endpoint = match code {
                200..=299 => S::Healthy,
                408 | 425 => S::Neutral,
                429 => S::Unhealthy,
                300..=499 => S::Healthy,
                _ => S::Unhealthy,
            };
            assert_eq!(signals(Answer::Status(code)), (of_endpoint, S::Healthy), "{code}");
        }
        for answer in [Answer::Network, Answer::Timeout] {
            assert_eq!(signals(answer), (S::Unhealthy, S::Healthy));
        }
        for answer in [Answer::Unconnected, Answer::ConnectTimeout] {
            assert_eq!(signals(answer), (S::Neutral, S::Unhealthy));
        }
        for answer in [Answer::Refused, Answer::Fault] {
            assert_eq!(signals(answer), (S::Neutral, S::Neutral));
        }
    }

    #[test]
    fn retry_after_is_heard_on_408_425_429_and_503_only() {
        let heard: Vec<u16> =
            (0..=1000).filter(|&code| classify(&Answer::Status(code)).hears_retry_after(code)).collect();
        assert_eq!(heard, [408, 425, 429, 503]);
    }
}
