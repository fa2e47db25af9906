//! From checked requests to receipts: webhooks and events become work that is accepted, and
//! every item of a request gets its answer in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::acceptance::{Accepted, Acceptor, Incoming};
use adapters::http::answer::Problem;
use bytes::Bytes;
use domain::delivery::Delivery;
use domain::event::{Event, EventPage, EventStatus};
use domain::event_request::EventRequest;
use domain::fault::{Fault, Faults};
use domain::identity::body_hash;
use domain::message::Message;
use domain::schedule::LONGEST_LIFE;
use domain::status::Status;
use domain::time::Millis;
use domain::trace::Trace;
use domain::webhook::Webhook;
use domain::work::Work;
use serde_json::{Value, json};
use uuid::Uuid;

/// What the items of a request share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) correlation_id: &'a str,
    /// The client's trace.
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) now: Millis,
}

/// What a client holds for an accepted item.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    names: Names,
    status: Status,
    duplicate: bool,
    correlation_id: String,
}

/// What an item is found by.
#[derive(Clone, Debug)]
enum Names {
    Webhook { id: String },
    Event { tenant: String, id: String, webhook_id: String },
}

impl Receipt {
    /// The answer to a single request.
    pub(crate) fn to_json(&self) -> Value {
        let mut answer = self.view();
        answer["correlation_id"] = json!(self.correlation_id);
        answer["status_url"] = json!(match &self.names {
            Names::Webhook { id } => format!("/webhook-statuses/{id}"),
            Names::Event { tenant, id, .. } => format!("/tenants/{tenant}/events/{id}"),
        });
        answer
    }

    /// The answer to one item of a batch.
    pub(crate) fn to_item(&self, index: usize) -> Value {
        let mut answer = self.view();
        answer["index"] = json!(index);
        answer
    }

    fn view(&self) -> Value {
        match &self.names {
            Names::Webhook { id } => json!({ "webhook_id": id, "status": self.status, "duplicate": self.duplicate }),
            Names::Event { id, webhook_id, .. } => json!({
                "event_id": id,
                "webhook_id": webhook_id,
                "status": EventStatus::from(self.status),
                "duplicate": self.duplicate,
            }),
        }
    }
}

impl Names {
    fn of(work: &Work) -> Self {
        match work {
            Work::Delivery(message) => Self::Webhook { id: message.delivery.id.clone() },
            Work::Event(page) => {
                let event = &page.event;
                Self::Event { tenant: event.tenant.clone(), id: event.id.clone(), webhook_id: event.webhook_id() }
            }
            // Clients send none.
            Work::Job(page) => Self::Webhook { id: page.record_id() },
        }
    }

    /// The field by which the client chooses an id.
    fn field(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "reference_id",
            Self::Event { .. } => "event_id",
        }
    }
}

/// Accepts what passed the checks and answers every item in order.
pub(crate) async fn accept(
    acceptor: &Acceptor,
    items: Vec<Result<Incoming, Problem>>,
    origin: Origin<'_>,
) -> Vec<Result<Receipt, Problem>> {
    let (mut names, mut incoming) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for item in items {
        names.push(item.map(|item| {
            let name = Names::of(&item.work);
            incoming.push(item);
            name
        }));
    }
    let mut accepted = acceptor.accept(incoming, origin.now).await.into_iter();
    let mut next = || accepted.next().unwrap_or(Accepted::Unavailable);
    let answer = |name: Result<Names, Problem>| receipt(name?, next(), origin.correlation_id);
    names.into_iter().map(answer).collect()
}

/// A webhook as work. It has this long unless it says otherwise.
pub(crate) fn webhook(webhook: Webhook<'_>, life: Duration, origin: Origin<'_>) -> Incoming {
    let Webhook { reference_id, url, payload, event_type, headers, expires_at, expired } = webhook;
    let generated = reference_id.is_none();
    let delivery = Delivery {
        id: reference_id.unwrap_or_else(new_id),
        body_hash: body_hash(&url, payload, &headers, event_type.as_deref(), expires_at),
        url,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers,
        event_type,
        correlation_id: origin.correlation_id.to_owned(),
        accepted_at: origin.now,
        deadline: expires_at.unwrap_or_else(|| origin.now.after(life)),
        ..Delivery::default()
    };
    let message = Message { delivery, ..Message::default() };
    Incoming { work: Work::Delivery(Box::new(message)), generated, refusal: expired.map(Faults::from) }
}

/// An event of a tenant as work, whose payload has these faults.
pub(crate) fn event(tenant: &str, event: EventRequest<'_>, faults: Faults, origin: Origin<'_>) -> Incoming {
    let EventRequest { event_id, event_type, payload, expires_at, expired } = event;
    let refusal = if faults.is_empty() { expired.map(Faults::from) } else { Some(faults) };
    let generated = event_id.is_none();
    let event = Event {
        tenant: tenant.to_owned(),
        id: event_id.unwrap_or_else(new_id),
        body_hash: body_hash("", payload, &BTreeMap::new(), Some(&event_type), expires_at),
        event_type,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        correlation_id: origin.correlation_id.to_owned(),
        trace: origin.trace.cloned(),
        foreign: None,
        accepted_at: origin.now,
        expires_at,
    };
    // What cannot be fanned out by then could not be delivered either.
    let deadline = expires_at.unwrap_or_else(|| origin.now.after(LONGEST_LIFE));
    let page = EventPage { event, deadline, ..EventPage::default() };
    Incoming { work: Work::Event(Box::new(page)), generated, refusal }
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

fn receipt(names: Names, accepted: Accepted, correlation_id: &str) -> Result<Receipt, Problem> {
    let field = names.field();
    match accepted {
        Accepted::Queued => {
            let correlation_id = correlation_id.to_owned();
            Ok(Receipt { names, status: Status::Pending, duplicate: false, correlation_id })
        }
        Accepted::Known { status, correlation_id } => Ok(Receipt { names, status, duplicate: true, correlation_id }),
        Accepted::Conflict => {
            Err(Problem::conflict(format!("This {field} was used with another body, or its event was erased.")))
        }
        Accepted::Erasing => Err(Problem::conflict("The tenant is being erased. Try again when that is done.")),
        Accepted::Invalid(faults) => Err(Problem::invalid(faults)),
        Accepted::Refused => Err(Problem::invalid(Fault::at("", "the queue does not take this"))),
        Accepted::Unavailable => Err(Problem::unavailable(format!(
            "The queue did not confirm it. Send it again, best with the same {field}."
        ))),
    }
}
