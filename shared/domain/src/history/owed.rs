//! A delivery that an endpoint is owed: it is paused or disabled, and the row has the whole
//! message. Until the endpoint takes it, this row is the only copy.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Row, names};
use crate::message::json::{Malformed, shape};
use crate::message::{Envelope, Message};
use crate::time::Millis;

/// How long the table keeps a row after it has expired, in case nobody ended it in time.
pub const GRACE: Duration = Duration::from_secs(7 * 86_400);
/// The shortest life of such a row: a day.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(86_400);

/// What such a row says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    owed_since: Millis,
    message: Box<RawValue>,
}

/// A delivery that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Since when.
    pub since: Millis,
    /// Its message, as it would have been queued.
    pub message: Message,
}

/// The row of a delivery to an endpoint, which is owed from `now` on; `None` for a direct webhook,
/// which nobody is owed.
///
/// # Errors
/// Only when its payload is not JSON text.
pub fn row(message: &Message, now: Millis, owed_for: Duration) -> Result<Option<Row>, serde_json::Error> {
    let Some(target) = &message.delivery.endpoint else { return Ok(None) };
    let delivery = &message.delivery;
    let place = names::owed_place(
        delivery.accepted_at,
        &target.event_id,
        target.life.as_deref(),
        message.hop,
        &delivery.body_hash,
    );
    let body = Body { owed_since: now, message: RawValue::from_string(message.encode()?)? };
    Ok(Some(Row {
        partition: names::owed(&target.tenant, &target.endpoint),
        place,
        body: serde_json::to_string(&body)?,
        kept_until: now.after(owed_for).after(GRACE),
        by_event: None,
    }))
}

/// What such a row says.
///
/// # Errors
/// When it is none, or is not where its delivery belongs.
pub fn read(row: &Row) -> Result<Owed, Malformed> {
    let body: Body = serde_json::from_str(&row.body).map_err(|error| shape(&error))?;
    let message = match Envelope::decode(&Bytes::copy_from_slice(body.message.get().as_bytes()))? {
        Envelope::Deliver(message) => *message,
        Envelope::Event(_) | Envelope::Job(_) | Envelope::LateOutcomes(_) => return Err(Malformed::Field("kind")),
    };
    let is_at_home = message.delivery.endpoint.as_ref().is_some_and(|target| {
        row.partition == names::owed(&target.tenant, &target.endpoint)
            && row.event() == Some((&target.tenant, &target.event_id))
    });
    if is_at_home { Ok(Owed { since: body.owed_since, message }) } else { Err(Malformed::Field("endpoint")) }
}

/// The message of such a row.
///
/// # Errors
/// When it is none.
pub fn message(row: &Row) -> Result<Message, Malformed> {
    read(row).map(|owed| owed.message)
}

/// Whether a row has been owed for too long: since `before`, or for longer than it was written
/// for.
pub fn has_expired(row: &Row, since: Millis, before: Millis, now: Millis) -> bool {
    since <= before || row.kept_until <= now.after(GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, EndpointTarget};

    const DAY: Duration = Duration::from_secs(86_400);

    fn owed() -> Message {
        let target = EndpointTarget {
            tenant: "acme".into(),
            endpoint: format!("ep_{}", "a".repeat(22)),
            event_id: "order-1".into(),
            life: Some("rp_1".into()),
            ..EndpointTarget::default()
        };
        let delivery = Delivery {
            id: format!("order-1.{}.rp_1", target.endpoint),
            endpoint: Some(target),
            payload: Bytes::from_static(b"{ \"a\": 1.0 }"),
            accepted_at: Millis(7),
            ..Delivery::default()
        };
        Message { delivery, hop: 3, ..Message::default() }
    }

    #[test]
    fn a_row_has_the_whole_message() {
        let row = row(&owed(), Millis(50), DAY).unwrap().unwrap();
        assert_eq!(read(&row), Ok(Owed { since: Millis(50), message: owed() }));
        assert_eq!(message(&row), Ok(owed()));
        assert_eq!((row.event(), row.accepted_at()), (Some(("acme", "order-1")), Some(Millis(7))));
    }

    #[test]
    fn a_row_that_is_elsewhere_is_none() {
        let row = row(&owed(), Millis(50), DAY).unwrap().unwrap();
        for partition in [row.partition.replace("acme", "other"), row.partition.replace("aaaa", "aaab")] {
            assert_eq!(read(&Row { partition, ..row.clone() }), Err(Malformed::Field("endpoint")));
        }
        assert!(read(&Row { body: "{}".into(), ..row.clone() }).is_err());
        let bare = Row { body: owed().encode().unwrap(), ..row };
        assert!(read(&bare).is_err());
    }

    #[test]
    fn a_direct_webhook_is_not_owed() {
        let direct = Message { delivery: Delivery { endpoint: None, ..owed().delivery }, ..owed() };
        assert_eq!(row(&direct, Millis(0), DAY).unwrap(), None);
    }

    #[test]
    fn the_shorter_of_two_lives_counts() {
        let row = row(&owed(), Millis(50), 3 * DAY).unwrap().unwrap();
        let expired = |before: u64, now: Millis| has_expired(&row, Millis(50), Millis(before), now);
        assert!(!expired(49, Millis(49).after(3 * DAY)) && expired(50, Millis(60)));
        assert!(expired(0, Millis(50).after(3 * DAY)), "its own, whatever is set now");
    }
}
