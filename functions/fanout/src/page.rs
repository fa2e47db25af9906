//! One page of an event: its endpoints are matched, and deliveries queued for those that want
//! it. A page is bounded by cards, bytes and time.

use std::sync::LazyLock;

use adapters::aws::sqs::{MAX_BATCH_BYTES, MAX_ENTRIES, Outgoing, QueueName};
use adapters::metrics;
use adapters::telemetry::chain;
use domain::event::EventPage;
use domain::filter::event::Event as FilterEvent;
use domain::subscription::{Subscription, Wanted};
use domain::time::Millis;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use serde_json::value::RawValue;

use crate::context::{Context, share};

/// Calls of SQS that a page has under way, at most.
const MOST_AHEAD: usize = 4;
/// Bytes that a page has under way before it waits for the first call.
const BYTES_AHEAD: usize = 1_000_000;

/// Cards that are looked at before others have their turn.
const CARDS_AT_ONCE: usize = 8;

/// How far a page came.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last endpoint that is done with; every one before it is, too.
    pub(crate) after: Option<String>,
    /// How many endpoints have their deliveries.
    pub(crate) matched: u32,
    /// Whether all endpoints of the tenant are done with.
    pub(crate) is_complete: bool,
    /// Why it stopped before its end, if something failed.
    pub(crate) failure: Option<&'static str>,
    /// Whether a group was not queued.
    is_refused: bool,
}

/// Deliveries that go in one call, and the endpoint that is done with when the queue has
/// them.
#[derive(Default)]
struct Group {
    messages: Vec<Outgoing>,
    bytes: usize,
    last: Option<String>,
}

/// What limits a page.
struct Budget {
    cards: usize,
    bytes: usize,
    stop_at: Millis,
}

impl Budget {
    fn is_spent(&self, now: Millis) -> bool {
        self.cards == 0 || self.bytes == 0 || now >= self.stop_at
    }
}

/// Works on a page until `stop_at` at the latest. What it has done is done in the order of
/// the endpoints, so that its continuation can go on.
pub(crate) async fn fan_out(context: &Context, page: &EventPage, revision: u64, stop_at: Millis) -> Progress {
    let event = &page.event;
    let mut progress = Progress { after: page.after.clone(), ..Progress::default() };
    let Ok(payload) = serde_json::from_slice::<&RawValue>(&event.payload) else {
        // It was decoded from JSON.
        progress.failure = Some("the payload is not JSON");
        return progress;
    };
    // It takes memory, and most subscriptions have no filter.
    let asked = LazyLock::new(|| FilterEvent::new(&event.event_type, payload));
    let now = context.clock.now();
    // Nothing closes it.
    let _permit = context.payloads.acquire_many(share(event.payload.len())).await.ok();
    let mut budget = Budget { cards: context.pages.cards, bytes: context.pages.bytes, stop_at };
    let mut position = page.after.clone();
    let mut sending = FuturesOrdered::new();
    let mut bytes_ahead = 0;
    let mut group = Group::default();
    'parts: loop {
        let part = match context.subscriptions.part(&event.tenant, revision, position.as_deref(), now).await {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(tenant = %event.tenant, event_id = %event.id, error = %chain(&error), "the registry of endpoints is away; the event waits");
                progress.failure = Some("the registry of endpoints cannot be read");
                break;
            }
        };
        for subscription in part.after(position.as_deref()) {
            if budget.is_spent(context.clock.now()) {
                break 'parts;
            }
            budget.cards -= 1;
            // Others have work under way that must not wait for costly filters.
            if budget.cards.is_multiple_of(CARDS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            if wants(subscription, page, || &asked)
                && let Some(message) = delivery(subscription, page, now)
            {
                let bytes = message.bytes();
                if group.messages.len() == MAX_ENTRIES || group.bytes + bytes > MAX_BATCH_BYTES {
                    bytes_ahead += group.bytes;
                    sending.push_back(send(context, std::mem::take(&mut group)));
                }
                budget.bytes = budget.bytes.saturating_sub(bytes);
                group.bytes += bytes;
                group.messages.push(message);
            }
            group.last = Some(subscription.endpoint.clone());
            while sending.len() >= MOST_AHEAD || bytes_ahead > BYTES_AHEAD {
                let sent = sending.next().await;
                bytes_ahead -= sent.as_ref().map_or(bytes_ahead, |sent| sent.bytes);
                progress.note(sent);
            }
            if progress.failure.is_some() {
                break 'parts;
            }
        }
        let Some(end) = part.end() else {
            progress.is_complete = true;
            break;
        };
        position = Some(end.to_owned());
        if budget.is_spent(context.clock.now()) {
            break;
        }
    }
    if !progress.is_refused {
        sending.push_back(send(context, group));
    }
    while let Some(sent) = sending.next().await {
        progress.note(Some(sent));
    }
    progress.is_complete &= progress.failure.is_none();
    metrics::event_deliveries(u64::from(progress.matched));
    progress
}

fn wants<'e, 'p: 'e>(
    subscription: &Subscription,
    page: &EventPage,
    asked: impl FnOnce() -> &'e FilterEvent<'p>,
) -> bool {
    match subscription.wants(&page.event.event_type, asked) {
        Wanted::Yes => true,
        Wanted::No => false,
        Wanted::TooCostly => {
            metrics::filter_too_costly();
            tracing::warn!(
                tenant = %page.event.tenant,
                event_id = %page.event.id,
                endpoint_id = %subscription.endpoint,
                outcome = "not_matched",
                "a filter needs too many steps for an event"
            );
            false
        }
    }
}

/// The message of an event's delivery, for a queue in which tenants are equals.
fn delivery(subscription: &Subscription, page: &EventPage, now: Millis) -> Option<Outgoing> {
    let message = subscription.delivery(&page.event, now);
    match message.encode() {
        Ok(body) => Some(Outgoing::new(body, page.event.tenant.clone(), 0)),
        Err(error) => {
            tracing::error!(delivery_id = %message.delivery.id, error = %chain(&error), "a delivery cannot be written");
            None
        }
    }
}

/// What became of a group.
struct Sent {
    is_queued: bool,
    /// How many got their delivery, if it is queued.
    count: u32,
    bytes: usize,
    last: Option<String>,
}

/// Sends a group.
async fn send(context: &Context, group: Group) -> Sent {
    let Group { messages, bytes, last } = group;
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let mut is_queued = true;
    for error in context.send(QueueName::Delivery, messages).await.into_iter().filter_map(Result::err) {
        tracing::error!(code = error.code(), error = %chain(&error), "a delivery of an event is not queued");
        is_queued = false;
    }
    Sent { is_queued, count, bytes, last }
}

impl Progress {
    /// A page that could not even begin.
    pub(crate) fn failed(page: &EventPage, why: &'static str) -> Self {
        Self { after: page.after.clone(), failure: Some(why), ..Self::default() }
    }

    /// Notes what became of the next group. After the first that is not queued, none counts: a
    /// continuation goes on where that one began.
    fn note(&mut self, sent: Option<Sent>) {
        let Some(Sent { is_queued, count, last, .. }) = sent else { return };
        if !is_queued {
            self.failure = Some("the queue did not take its deliveries");
            self.is_refused = true;
        }
        if !self.is_refused {
            self.after = last.or_else(|| self.after.take());
            self.matched += count;
        }
    }
}
