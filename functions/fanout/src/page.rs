//! One page of an event: its endpoints are matched, and those that want it have their deliveries
//! queued, or kept as owed. A page is bounded by cards, bytes and time.

use std::sync::LazyLock;

use adapters::aws::sqs::Outgoing;
use adapters::metrics;
use adapters::telemetry::chain;
use domain::event::EventPage;
use domain::filter::event::Event as FilterEvent;
use domain::subscription::{Subscription, Wanted};
use domain::time::Millis;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use serde_json::value::RawValue;

use crate::context::{Context, share};
use crate::group::{Group, Next, Sent};

/// Groups of deliveries that a page has under way, at most.
const MOST_AHEAD: usize = 4;
/// Bytes that a page has under way before it waits for the first group.
const BYTES_AHEAD: usize = 1_000_000;

/// Cards that are looked at before others have their turn.
const CARDS_AT_ONCE: usize = 8;

/// Why an event waits while the registry is away.
pub(crate) const REGISTRY_AWAY: &str = "the registry of endpoints cannot be read";

/// How far a page came.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The last endpoint that is done with; every one before it is, too.
    pub(crate) after: Option<String>,
    /// How many endpoints have their deliveries, or are owed them.
    pub(crate) matched: u32,
    /// How many of them are owed theirs.
    pub(crate) owed: u32,
    pub(crate) end: PageEnd,
}

/// Why a page ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageEnd {
    /// All endpoints of the tenant are done with.
    Complete,
    /// Its budget is spent.
    Spent,
    /// Something failed.
    Failed(&'static str),
}

/// What became of a page's groups so far.
struct Done {
    /// The last endpoint that is done with; every one before it is, too.
    after: Option<String>,
    matched: u32,
    owed: u32,
    /// Why a group was not done, if one was not.
    refusal: Option<&'static str>,
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
/// the endpoints, so that its continuation can go on. `is_known` says whether Redis has the claim
/// on it.
pub(crate) async fn fan_out(
    context: &Context,
    page: &EventPage,
    revision: u64,
    is_known: bool,
    stop_at: Millis,
) -> Progress {
    let event = &page.event;
    let Ok(payload) = serde_json::from_slice::<&RawValue>(&event.payload) else {
        // It was decoded from JSON.
        return Progress::failed(page, "the payload is not JSON");
    };
    // It takes memory, and most subscriptions have no filter.
    let asked = LazyLock::new(|| FilterEvent::new(&event.event_type, payload));
    let now = context.clock.now();
    // Nothing closes it.
    let _permit = context.payloads.acquire_many(share(event.payload.len())).await.ok();
    let mut budget = Budget { cards: context.pages.cards, bytes: context.pages.bytes, stop_at };
    let mut position = page.after.clone();
    let mut done = Done { after: page.after.clone(), matched: 0, owed: 0, refusal: None };
    let mut sending = FuturesOrdered::new();
    let mut bytes_ahead = 0;
    let mut group = Group::default();
    let end = 'parts: loop {
        let part = match context.subscriptions.part(&event.tenant, revision, position.as_deref(), now).await {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(tenant = %event.tenant, event_id = %event.id, error = %chain(&error), "the registry of endpoints is away; the event waits");
                break PageEnd::Failed(REGISTRY_AWAY);
            }
        };
        for subscription in part.after(position.as_deref()) {
            if budget.is_spent(context.clock.now()) {
                break 'parts PageEnd::Spent;
            }
            budget.cards -= 1;
            // Others have work under way that must not wait for costly filters.
            if budget.cards.is_multiple_of(CARDS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            if wants(subscription, page, || &asked)
                && let Some(next) = delivery(subscription, page, now)
            {
                if !group.has_room(&next) {
                    bytes_ahead += group.bytes;
                    sending.push_back(std::mem::take(&mut group).send(context, event, is_known));
                }
                budget.bytes = budget.bytes.saturating_sub(next.bytes());
                group.push(next);
            }
            group.last = Some(subscription.endpoint.clone());
            while sending.len() >= MOST_AHEAD || bytes_ahead > BYTES_AHEAD {
                let sent = sending.next().await;
                bytes_ahead -= sent.as_ref().map_or(bytes_ahead, |sent| sent.bytes);
                done.note(sent);
            }
            if let Some(why) = done.refusal {
                break 'parts PageEnd::Failed(why);
            }
        }
        let Some(end) = part.end() else { break PageEnd::Complete };
        position = Some(end.to_owned());
        if budget.is_spent(context.clock.now()) {
            break PageEnd::Spent;
        }
    };
    if done.refusal.is_none() {
        sending.push_back(group.send(context, event, is_known));
    }
    while let Some(sent) = sending.next().await {
        done.note(Some(sent));
    }
    let Done { after, matched, owed, refusal } = done;
    metrics::event_deliveries(u64::from(matched - owed));
    Progress { after, matched, owed, end: refusal.map_or(end, PageEnd::Failed) }
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

/// The message of an event's delivery, for a queue in which tenants are equals, or as it is owed.
fn delivery(subscription: &Subscription, page: &EventPage, now: Millis) -> Option<Next> {
    let message = subscription.delivery(&page.event, now);
    if subscription.is_owed() {
        return Some(Next::Owed(Box::new(message)));
    }
    match message.encode() {
        Ok(body) => Some(Next::Queued(Outgoing::new(body, page.event.tenant.clone(), 0))),
        Err(error) => {
            tracing::error!(webhook_id = %message.delivery.id, error = %chain(&error), "a delivery cannot be written");
            None
        }
    }
}

impl Progress {
    /// A page that could not even begin.
    pub(crate) fn failed(page: &EventPage, why: &'static str) -> Self {
        Self { after: page.after.clone(), matched: 0, owed: 0, end: PageEnd::Failed(why) }
    }
}

impl Done {
    /// Notes what became of the next group. After the first that is not done, none counts: a
    /// continuation goes on where that one began.
    fn note(&mut self, sent: Option<Sent>) {
        let Some(Sent { failure, queued, owed, last, .. }) = sent else { return };
        self.refusal = failure.or(self.refusal);
        if self.refusal.is_none() {
            self.after = last.or_else(|| self.after.take());
            self.matched += queued + owed;
            self.owed += owed;
        }
    }
}
