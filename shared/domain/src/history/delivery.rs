//! A delivery that ended, as history keeps it: with every attempt that its message had, in
//! four kilobytes at most.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EventPlace, Row, names};
use crate::delivery::EndpointTarget;
use crate::identity::delivery_id;
use crate::message::{Attempt, History, Message};
use crate::reason::Reason;
use crate::time::Millis;

/// The longest body of a row, in bytes.
pub const MAX_BODY: usize = 4096;
/// How many attempts keep their texts longest: the first ones, and the last ones.
const FIRST: usize = 2;
const LAST: usize = 3;

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum DeliveryEnd {
    /// Its receiver has it.
    Delivered,
    /// It was given up.
    GivenUp(Reason),
}

impl DeliveryEnd {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::GivenUp(reason) => reason.as_str(),
        }
    }
}

impl From<DeliveryEnd> for &'static str {
    fn from(end: DeliveryEnd) -> Self {
        end.as_str()
    }
}

impl TryFrom<String> for DeliveryEnd {
    type Error = strum::ParseError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name == Self::Delivered.as_str() { Ok(Self::Delivered) } else { name.parse().map(Self::GivenUp) }
    }
}

/// Which endpoint a delivery was for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedTarget {
    /// The tenant.
    pub tenant: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// The event's id.
    pub event_id: String,
    /// Which life of the delivery it was, if it was sent again on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
}

/// A delivery that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedDelivery {
    /// The endpoint that it was for; `None` for a direct webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<EndedTarget>,
    /// The id of a direct webhook; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub webhook_id: String,
    /// The URL of a direct webhook; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The kind of event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// What its log lines are found by.
    pub correlation_id: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// The hop of its last message.
    pub hop: u32,
    /// How it ended.
    pub result: DeliveryEnd,
    /// Why it was given up, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Calls that count.
    pub attempts: u32,
    /// When it ended.
    pub ended_at: Millis,
    /// Its attempts.
    pub history: History,
}

impl EndedDelivery {
    /// The end of a delivery, whose message and history have its last attempt. `None` for the
    /// test of an endpoint, of which nothing is kept.
    pub fn of(
        message: &Message,
        attempts: u32,
        history: History,
        result: DeliveryEnd,
        error: Option<String>,
        ended_at: Millis,
    ) -> Option<Self> {
        let delivery = &message.delivery;
        if delivery.is_test() {
            return None;
        }
        let target = delivery.endpoint.as_ref().map(EndedTarget::of);
        let webhook_id = if target.is_none() { delivery.id.clone() } else { String::new() };
        Some(Self {
            target,
            webhook_id,
            url: delivery.url.clone(),
            event_type: delivery.event_type.clone(),
            correlation_id: delivery.correlation_id.clone(),
            accepted_at: delivery.accepted_at,
            hop: message.hop,
            result,
            error,
            attempts,
            ended_at,
            history,
        })
    }

    /// The delivery's id.
    pub fn delivery_id(&self) -> String {
        match &self.target {
            Some(target) => delivery_id(&target.event_id, &target.endpoint, target.life.as_deref()),
            None => self.webhook_id.clone(),
        }
    }

    /// Whether its receiver has it.
    pub fn is_delivered(&self) -> bool {
        self.result == DeliveryEnd::Delivered
    }

    /// The same without what receivers said.
    #[must_use]
    pub fn erased(mut self) -> Self {
        let mute = |attempt: &mut Attempt| (attempt.answer, attempt.error) = (None, None);
        self.history.attempts.iter_mut().for_each(mute);
        self.error = None;
        self
    }

    /// Its row, kept from its end on.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn row(&self, kept_for: Duration) -> Result<Row, serde_json::Error> {
        let Self { accepted_at, hop, .. } = *self;
        let result = self.result.as_str();
        let (partition, place, by_event) = match &self.target {
            None => (names::webhook(&self.webhook_id), names::webhook_end(accepted_at, hop, result), None),
            Some(EndedTarget { tenant, endpoint, event_id, life }) => {
                let life = life.as_deref();
                let by_event = EventPlace {
                    event: names::event(tenant, event_id),
                    place: names::delivery_of_event(endpoint, accepted_at, life, hop, result),
                };
                let (day, shard) = (names::day(accepted_at), names::shard(event_id));
                let place = names::delivery(accepted_at, event_id, life, hop, result);
                (names::deliveries(tenant, endpoint, &day, shard), place, Some(by_event))
            }
        };
        Ok(Row { partition, place, body: self.fitting()?, kept_until: self.ended_at.after(kept_for), by_event })
    }

    /// What its row says: all of it, or less of what receivers said until it fits.
    fn fitting(&self) -> Result<String, serde_json::Error> {
        let mut body = serde_json::to_string(self)?;
        let mut smaller = self.clone();
        for cut in [Cut::InnerAnswers, Cut::Answers, Cut::InnerErrors, Cut::Errors] {
            if body.len() <= MAX_BODY {
                break;
            }
            cut.apply(&mut smaller.history.attempts);
            body = serde_json::to_string(&smaller)?;
        }
        Ok(body)
    }
}

impl EndedTarget {
    fn of(target: &EndpointTarget) -> Self {
        Self {
            tenant: target.tenant.clone(),
            endpoint: target.endpoint.clone(),
            event_id: target.event_id.clone(),
            life: target.life.clone(),
        }
    }
}

/// What is left out of the attempts, one after the other.
#[derive(Clone, Copy)]
enum Cut {
    InnerAnswers,
    Answers,
    InnerErrors,
    Errors,
}

impl Cut {
    fn apply(self, attempts: &mut [Attempt]) {
        let last = attempts.len().saturating_sub(LAST);
        for (at, attempt) in attempts.iter_mut().enumerate() {
            let is_inner = (FIRST..last).contains(&at);
            match self {
                Self::InnerAnswers if is_inner => attempt.answer = None,
                Self::Answers => attempt.answer = None,
                Self::InnerErrors if is_inner => attempt.error = None,
                Self::Errors => attempt.error = None,
                Self::InnerAnswers | Self::InnerErrors => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;
    use crate::outcome::ErrorClass;
    use strum::IntoEnumIterator as _;

    fn attempt(text: &str) -> Attempt {
        Attempt {
            at: Millis(1_700_000_000_000),
            code: Some(500),
            class: Some(ErrorClass::ServerError),
            ms: 15_000,
            error: Some(text.into()),
            answer: Some(text.into()),
        }
    }

    fn message(life: Option<&str>) -> Message {
        let target = EndpointTarget {
            tenant: "t".repeat(64),
            endpoint: format!("ep_{}", "a".repeat(22)),
            event_id: "e".repeat(64),
            life: life.map(str::to_owned),
            ..EndpointTarget::default()
        };
        let delivery = Delivery {
            endpoint: Some(target),
            event_type: Some("x".repeat(128)),
            correlation_id: "c".repeat(128),
            accepted_at: Millis(1_700_000_000_000),
            ..Delivery::default()
        };
        Message { delivery, hop: 12, ..Message::default() }
    }

    fn ended(attempts: usize, text: &str, result: DeliveryEnd) -> EndedDelivery {
        let mut history = History::default();
        (0..attempts).for_each(|_| history.push(attempt(text)));
        let error = Some("e".repeat(256));
        EndedDelivery::of(&message(Some(&"l".repeat(64))), 4, history, result, error, Millis(9)).unwrap()
    }

    #[test]
    fn ends_have_one_name_everywhere() {
        for end in Reason::iter().map(DeliveryEnd::GivenUp).chain([DeliveryEnd::Delivered]) {
            assert_eq!(serde_json::to_value(end).unwrap(), end.as_str());
            assert_eq!(DeliveryEnd::try_from(end.as_str().to_owned()), Ok(end));
        }
        assert!(DeliveryEnd::try_from("other".to_owned()).is_err());
    }

    #[test]
    fn a_row_says_everything_that_fits() {
        let short = ended(4, "no", DeliveryEnd::Delivered);
        let row = short.row(Duration::from_secs(1)).unwrap();
        assert_eq!(serde_json::from_str::<EndedDelivery>(&row.body).unwrap(), short);
        assert_eq!(row.kept_until, Millis(1009));
        let (tenant, event) = row.event().unwrap();
        assert_eq!((tenant.len(), event.len()), (64, 64));
    }

    #[test]
    fn no_row_is_larger_than_four_kilobytes_and_every_attempt_is_in_it() {
        for text in ["x", "é", "\u{1F600}", "\"", "\u{1}"] {
            for count in [1, 5, 20, 50] {
                let long = ended(count, &text.repeat(300), DeliveryEnd::GivenUp(Reason::RetriesExhausted));
                let body = long.row(Duration::ZERO).unwrap().body;
                assert!(body.len() <= MAX_BODY, "{text} {count}: {}", body.len());
                let kept: EndedDelivery = serde_json::from_str(&body).unwrap();
                assert_eq!(kept.history.attempts.len(), count.min(20));
                assert_eq!(kept.history.count as usize, count);
            }
        }
    }

    #[test]
    fn two_ends_of_one_delivery_are_two_rows_and_one_twice_is_one() {
        let row = |result| ended(1, "x", result).row(Duration::ZERO).unwrap();
        let (delivered, failed) = (row(DeliveryEnd::Delivered), row(DeliveryEnd::GivenUp(Reason::Expired)));
        assert_eq!(delivered.partition, failed.partition);
        assert_ne!(delivered.place, failed.place);
        assert_eq!(delivered, row(DeliveryEnd::Delivered));
        assert_eq!(names::listed_of(&delivered.place), names::listed_of(&failed.place));
    }

    #[test]
    fn nothing_is_kept_of_a_test() {
        let mut message = message(None);
        if let Some(target) = &mut message.delivery.endpoint {
            target.is_test = true;
        }
        let ended = EndedDelivery::of(&message, 1, History::default(), DeliveryEnd::Delivered, None, Millis(0));
        assert_eq!(ended, None);
    }

    #[test]
    fn what_receivers_said_can_be_erased() {
        let erased = ended(3, "canary", DeliveryEnd::GivenUp(Reason::Gone)).erased();
        let body = erased.row(Duration::ZERO).unwrap().body;
        assert!(!body.contains("canary") && body.contains("500"), "{body}");
    }
}
