//! Whose a message, a call or a dead letter is. The observer tells it by the payload: no other
//! webhook or event has it.

use std::collections::BTreeMap;

use adapters::receiver_client::ReceiverCall;
use domain::dead_letter::DeadLetter;
use domain::time::Millis;

use crate::store_model::StoreModel;

/// A delivery of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DeliveryName {
    /// A direct webhook, by number.
    Webhook(usize),
    /// An event's delivery to an endpoint, by their numbers.
    OfEvent { event: usize, endpoint: usize },
}

/// What a message or a dead letter carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Carried {
    /// A delivery.
    Delivery(DeliveryName),
    /// A page of an event, by the event's number.
    Page(usize),
}

/// The payload of a webhook.
pub(crate) fn webhook_payload(n: usize) -> String {
    format!("{{\"n\":{n}}}")
}

/// The payload of an event and of its deliveries.
pub(crate) fn event_payload(event: usize) -> String {
    format!("{{\"e\":{event}}}")
}

/// What a message carries; nothing in one of late outcomes.
pub(crate) fn carried(body: &str) -> Option<Carried> {
    if let Some(n) = number(body, "{\"n\":") {
        return Some(Carried::Delivery(DeliveryName::Webhook(n)));
    }
    let event = number(body, "{\"e\":")?;
    if body.contains("\"kind\":\"event\"") {
        return Some(Carried::Page(event));
    }
    let endpoint = number(body, "\"endpoint\":\"ep_")?;
    Some(Carried::Delivery(DeliveryName::OfEvent { event, endpoint }))
}

/// Whose call it is.
pub(crate) fn called(call: &ReceiverCall<'_>) -> Option<DeliveryName> {
    let payload = std::str::from_utf8(call.payload).ok()?;
    if let Some(n) = number(payload, "{\"n\":") {
        return Some(DeliveryName::Webhook(n));
    }
    let endpoint = number(call.url, "/endpoint-")?;
    Some(DeliveryName::OfEvent { event: number(payload, "{\"e\":")?, endpoint })
}

/// What was given up.
pub(crate) fn given_up(letter: &DeadLetter) -> Option<Carried> {
    let payload = letter.payload.as_ref()?.get();
    if let Some(n) = number(payload, "{\"n\":") {
        return Some(Carried::Delivery(DeliveryName::Webhook(n)));
    }
    let event = number(payload, "{\"e\":")?;
    let Some(target) = &letter.endpoint else { return Some(Carried::Page(event)) };
    Some(Carried::Delivery(DeliveryName::OfEvent { event, endpoint: number(&target.endpoint, "ep_")? }))
}

/// The number that follows `before`.
fn number(text: &str, before: &str) -> Option<usize> {
    let (_, rest) = text.split_once(before)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// What the archive has.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// When what it has of each was accepted, at the latest.
    filed: BTreeMap<Carried, Millis>,
    /// The same, of events that nobody sent again.
    open: BTreeMap<usize, Millis>,
}

impl Archive {
    /// What it has now.
    pub(crate) fn of(store: &StoreModel) -> Self {
        let mut archive = Self::default();
        store.each(|letter, redriven_at| {
            let Some(carried) = given_up(letter) else { return };
            let latest = archive.filed.entry(carried).or_default();
            *latest = letter.accepted_at.max(*latest);
            if let (Carried::Page(event), None) = (carried, redriven_at) {
                let latest = archive.open.entry(event).or_default();
                *latest = letter.accepted_at.max(*latest);
            }
        });
        archive
    }

    /// Whether it has one that was accepted since.
    pub(crate) fn has(&self, carried: Carried, since: Millis) -> bool {
        self.filed.get(&carried).is_some_and(|latest| *latest >= since)
    }

    /// Whether it has an event that was accepted since, and that nobody sent again.
    pub(crate) fn keeps(&self, event: usize, since: Millis) -> bool {
        self.open.get(&event).is_some_and(|latest| *latest >= since)
    }
}
