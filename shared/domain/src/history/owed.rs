//! A delivery that an endpoint is owed: it is paused or disabled, and the row has the whole
//! message. Until the endpoint takes it, this row is the only copy.

use std::time::Duration;

use bytes::Bytes;

use super::{Row, names};
use crate::message::json::Malformed;
use crate::message::{Envelope, Message};
use crate::time::Millis;

/// How long the table keeps a row after it has expired, in case nobody ended it in time.
pub const GRACE: Duration = Duration::from_secs(7 * 86_400);

/// The row of a delivery to an endpoint, which is owed for `life` from `now` on; `None` for a
/// direct webhook, which nobody is owed.
///
/// # Errors
/// Only when its payload is not JSON text.
pub fn row(message: &Message, now: Millis, life: Duration) -> Result<Option<Row>, serde_json::Error> {
    let Some(target) = &message.delivery.endpoint else { return Ok(None) };
    let place = names::owed_place(message.delivery.accepted_at, &target.event_id, target.life.as_deref(), message.hop);
    Ok(Some(Row {
        partition: names::owed(&target.tenant, &target.endpoint),
        place,
        body: message.encode()?,
        kept_until: now.after(life).after(GRACE),
        by_event: None,
    }))
}

/// The message of such a row.
///
/// # Errors
/// When it is none.
pub fn message(row: &Row) -> Result<Message, Malformed> {
    match Envelope::decode(&Bytes::copy_from_slice(row.body.as_bytes()))? {
        Envelope::Deliver(message) if message.delivery.endpoint.is_some() => Ok(*message),
        Envelope::Deliver(_) | Envelope::Event(_) | Envelope::Job(_) | Envelope::LateOutcomes(_) => {
            Err(Malformed::Field("kind"))
        }
    }
}

/// Since when it has been owed, of a row that was written for `life`.
pub fn owed_since(row: &Row, life: Duration) -> Millis {
    Millis(row.kept_until.0.saturating_sub(crate::time::whole_ms(life + GRACE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, EndpointTarget};

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
        let row = row(&owed(), Millis(50), Duration::from_secs(1)).unwrap().unwrap();
        assert_eq!(message(&row), Ok(owed()));
        assert_eq!(row.event(), Some(("acme", "order-1")));
        assert_eq!((row.accepted_at(), owed_since(&row, Duration::from_secs(1))), (Some(Millis(7)), Millis(50)));
    }

    #[test]
    fn a_direct_webhook_is_not_owed() {
        let direct = Message { delivery: Delivery { endpoint: None, ..owed().delivery }, ..owed() };
        assert_eq!(row(&direct, Millis(0), Duration::ZERO).unwrap(), None);
    }
}
