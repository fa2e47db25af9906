//! Claims every delivery of a batch and looks at each destination's breaker, in one
//! round trip. Late outcomes are recorded in the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use adapters::redis::query::{Query, Trip};
use adapters::redis::{breakers, heartbeats, marks, records, tenants};
use domain::breaker::host_breaker;
use domain::delivery::{Delivery, EndpointTarget};
use domain::destination::Destination;
use domain::identity::event_record_id;
use domain::message::Message;
use domain::next_step::give_up;
use domain::outcome::Watched;
use domain::reason::Reason;
use domain::record::{Claim, Ending, Grant};
use domain::time::{Millis, whole_ms};
use url::Url;

use crate::cards::{CardSeen, OpenCard};
use crate::context::{Batch, Context, token, usable};
use crate::decision::{Decided, Decision, HeldClaim};
use crate::late::LateTickets;
use crate::read::Due;
use crate::route::{Route, key_of};

/// A delivery that may be attempted, as far as its record is concerned.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) message: Box<Message>,
    pub(crate) route: Route,
    /// The receiver's origin; empty when the URL cannot be read.
    pub(crate) destination: String,
    pub(crate) claim: HeldClaim,
    /// The breakers that watch over it, in the order in which they are asked.
    pub(crate) breakers: Vec<WatchingBreaker>,
}

/// A breaker that watches over a delivery.
#[derive(Clone, Debug)]
pub(crate) struct WatchingBreaker {
    /// What it watches over.
    pub(crate) watched: Watched,
    /// Its name.
    pub(crate) name: String,
    pub(crate) seen: BreakerSeen,
}

/// What was seen of a breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BreakerSeen {
    /// It is closed, in this epoch.
    Closed(u64),
    /// It is not closed: the caller has to ask for admission.
    NotClosed,
    /// It cannot be read, and counts as closed.
    Unreadable,
}

/// Claims what is due. Without Redis every delivery is granted: its attempts are
/// counted in the message.
pub(crate) async fn claim(context: &Context, batch: &mut Batch, due: Due, decided: &mut Vec<Decided>) -> Vec<Claimed> {
    let Due { deliveries, waiting, late_outcomes } = due;
    if deliveries.is_empty() && waiting.is_empty() && late_outcomes.is_empty() {
        return Vec::new();
    }
    let now = context.clock.now();
    let lease_ms = whole_ms(batch.lease(now));
    let mut trip = Trip::default();
    let mut wanted = Vec::with_capacity(deliveries.len());
    let mut owners = BTreeSet::new();
    let (mut endpoints, mut tested) = (BTreeSet::new(), BTreeSet::new());
    for (record, message) in deliveries {
        let wish = Claim { token: token(), hop: message.hop, lease_ms, new_record: message.new_record() };
        let id = message.delivery.id.clone();
        let grant = trip.add(records::claim(&id, &wish, context.lifetimes));
        let erased = message.delivery.endpoint.as_ref().map(|target| trip.add(erased_at(target)));
        owners.extend(message.tenant().map(str::to_owned));
        let claim =
            HeldClaim { id, token: wish.token, hop: wish.hop, new_record: wish.new_record, is_known: false, log: None };
        let mut next =
            Claimed { record, message, route: Route::Direct, destination: String::new(), claim, breakers: Vec::new() };
        next.head_for(context, likely_url(context, &next.message.delivery).as_ref());
        if let Some(target) = &next.message.delivery.endpoint {
            endpoints.insert(key_of(target));
            tested.extend(target.is_test.then(|| key_of(target)));
        }
        wanted.push((grant, erased, next));
    }
    let waiting: Vec<_> = waiting
        .into_iter()
        .filter_map(|(record, message)| {
            let ticket = trip.add(erased_at(message.delivery.endpoint.as_ref()?));
            owners.extend(message.tenant().map(str::to_owned));
            Some((record, message, ticket))
        })
        .collect();
    let late: Vec<_> = late_outcomes
        .into_iter()
        .map(|(record, outcomes)| (record, LateTickets::begin(context, &mut trip, *outcomes, now)))
        .collect();
    let names: BTreeSet<String> =
        wanted.iter().flat_map(|(_, _, next)| &next.breakers).map(|breaker| breaker.name.clone()).collect();
    let epochs = trip.add_all(names.iter().map(|name| breakers::closed_epoch(name)));
    let erased_tenants: Vec<_> = owners
        .into_iter()
        .map(|tenant| {
            let ticket = trip.add(tenants::erased_before(&tenant));
            (tenant, ticket)
        })
        .collect();
    let heartbeat = trip.add(heartbeats::beat("deliver", now));
    let (mut replies, ()) = tokio::join!(batch.round_trip(context, trip), context.cards.read(endpoints, &tested, now));

    let mut seen = BTreeMap::new();
    for (name, epoch) in names.into_iter().zip(epochs) {
        let epoch = usable(epoch.take(&mut replies), &name);
        seen.insert(name, BreakerSeen::of(epoch));
    }
    for (record, tickets) in late {
        decided.push(Decided::new(record, tickets.end(&mut replies, now)));
    }
    let mut erased_before = BTreeMap::new();
    for (tenant, ticket) in erased_tenants {
        let before = usable(ticket.take(&mut replies), &tenant).flatten();
        erased_before.extend(before.map(|before| (tenant, before)));
    }
    for (record, message, ticket) in waiting {
        let marked_at = usable(ticket.take(&mut replies), &message.delivery.id).flatten();
        let is_erased = is_erased(&message, marked_at, &erased_before);
        let decision = if is_erased { dropped(&message) } else { Decision::Wait(message) };
        decided.push(Decided::new(record, decision));
    }
    usable(heartbeat.take(&mut replies), "heartbeat");
    let mut claimed = Vec::with_capacity(wanted.len());
    for (grant, erased, mut next) in wanted {
        let grant = usable(grant.take(&mut replies), &next.claim.id);
        let marked_at = erased.and_then(|erased| usable(erased.take(&mut replies), &next.claim.id)).flatten();
        if is_erased(&next.message, marked_at, &erased_before) {
            tracing::info!(
                webhook_id = %next.claim.id,
                correlation_id = %next.message.delivery.correlation_id,
                outcome = "erased",
                "its event was erased"
            );
            decided.push(Decided::new(next.record, dropped(&next.message)));
            continue;
        }
        next.claim.is_known = grant.is_some();
        for breaker in &mut next.breakers {
            breaker.seen = seen.get(&breaker.name).copied().unwrap_or(BreakerSeen::Unreadable);
        }
        claimed.extend(judge(context, batch, grant.unwrap_or(Grant::Granted), next, decided));
    }
    claimed
}

/// When the event of a delivery was erased.
fn erased_at(target: &EndpointTarget) -> Query<Option<Millis>> {
    marks::erased_at(&event_record_id(&target.tenant, &target.event_id))
}

/// A delivery of what was erased.
fn dropped(message: &Message) -> Decision {
    Decision::Erased { id: message.delivery.id.clone(), accepted_at: message.delivery.accepted_at }
}

/// Whether the event of a delivery was erased, alone or with its tenant. One that was accepted
/// later is not.
fn is_erased(message: &Message, marked_at: Option<Millis>, erased_before: &BTreeMap<String, Millis>) -> bool {
    let with_tenant = message.tenant().and_then(|tenant| erased_before.get(tenant));
    let is_before = |at: &Millis| message.delivery.accepted_at <= *at;
    marked_at.as_ref().is_some_and(is_before) || with_tenant.is_some_and(is_before)
}

/// Where a delivery probably goes. The cards of endpoints are read at the same time as their
/// breakers, so a message says which origin its endpoint had.
fn likely_url(context: &Context, delivery: &Delivery) -> Option<Url> {
    match &delivery.endpoint {
        None => delivery.parsed_url(),
        Some(target) => {
            let known = context.cards.known_url(&key_of(target));
            Url::parse(known.as_ref().unwrap_or(&target.origin)).ok()
        }
    }
}

impl Claimed {
    /// Notes where it goes, and which breakers watch over that. One that was not looked at has
    /// to be asked.
    fn head_for(&mut self, context: &Context, url: Option<&Url>) {
        self.destination = url.map(|url| Destination::of(url).as_str().to_owned()).unwrap_or_default();
        let names = match &self.message.delivery.endpoint {
            // It makes its call whatever breakers say, and reports nothing.
            Some(target) if target.is_test => Vec::new(),
            Some(target) => {
                vec![(Watched::Endpoint, target.endpoint.clone()), (Watched::Host, host_breaker(&self.destination))]
            }
            None => vec![(Watched::Origin, url.map(|url| context.breakers.breaker_of(url)).unwrap_or_default())],
        };
        let before = std::mem::take(&mut self.breakers);
        let seen = |name: &str| before.iter().find(|breaker| breaker.name == name).map(|breaker| breaker.seen);
        self.breakers = names
            .into_iter()
            .map(|(watched, name)| WatchingBreaker {
                watched,
                seen: seen(&name).unwrap_or(BreakerSeen::NotClosed),
                name,
            })
            .collect();
    }

    /// Goes where the card of its endpoint says.
    fn take_card(&mut self, context: &Context, card: Arc<OpenCard>) {
        self.route = Route::Endpoint(card);
        self.head_for(context, self.route.url(&self.message.delivery).as_ref());
    }
}

impl BreakerSeen {
    fn of(epoch: Option<Option<u64>>) -> Self {
        match epoch {
            Some(Some(epoch)) => Self::Closed(epoch),
            Some(None) => Self::NotClosed,
            None => Self::Unreadable,
        }
    }
}

/// Lets a delivery go on whose claim is granted, or decides what becomes of it.
fn judge(context: &Context, batch: &Batch, grant: Grant, next: Claimed, decided: &mut Vec<Decided>) -> Option<Claimed> {
    let now = context.clock.now();
    let delivery = &next.message.delivery;
    let decision = match grant {
        Grant::Done | Grant::Stale => {
            let is_finished = grant == Grant::Done;
            tracing::info!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                hop = next.message.hop,
                outcome = "duplicate",
                "superseded"
            );
            if is_finished { Decision::Finished(next.message) } else { Decision::Superseded }
        }
        // Never delete what another holder may still need.
        Grant::Busy(left) => {
            tracing::info!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                busy_ms = left.as_millis(),
                outcome = "busy",
                "claimed by another"
            );
            Decision::Keep
        }
        Grant::Foreign => Decision::ReusedId(next.message),
        Grant::Crashed => {
            let why = "outcome unknown: its consumer ended in mid-attempt again and again";
            Decision::give_up(next.claim, give_up(&next.message, Reason::Crashed, why))
        }
        Grant::Granted if now >= delivery.deadline => {
            let why = "the deadline passed before the next attempt";
            Decision::give_up(next.claim, give_up(&next.message, Reason::Expired, why))
        }
        Grant::Granted if now.until(batch.ends_at) < context.attempt_budget => {
            tracing::warn!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                outcome = "no_time",
                "too little time left for an attempt"
            );
            Decision::Release(next.claim)
        }
        Grant::Granted => return route(context, now, next, decided),
    };
    decided.push(Decided::new(next.record, decision));
    None
}

/// Looks up where a delivery to an endpoint goes. Without a usable card it waits and spends
/// no attempt: a card is configuration, and not work.
fn route(context: &Context, now: Millis, mut next: Claimed, decided: &mut Vec<Decided>) -> Option<Claimed> {
    let Some(target) = &next.message.delivery.endpoint else { return Some(next) };
    let decision = match context.cards.card(&key_of(target), now) {
        CardSeen::Open(card) => {
            next.take_card(context, card);
            return Some(next);
        }
        CardSeen::Gone => {
            let why = "its endpoint was deleted";
            Decision::give_up(next.claim, give_up(&next.message, Reason::EndpointGone, why))
        }
        CardSeen::Erased => dropped(&next.message),
        CardSeen::Unknown(why) => {
            let wait = context.parking.wait(Duration::ZERO, false, next.message.parked, fastrand::f64());
            // At its deadline it comes back all the same, and expires.
            let due = now.after(wait).min(next.message.delivery.deadline);
            tracing::info!(
                correlation_id = %next.message.delivery.correlation_id,
                webhook_id = %next.claim.id,
                outcome = "waiting",
                why,
                wait_ms = whole_ms(wait),
                "the card of its endpoint cannot be used"
            );
            let ending = Ending::Parked { error: format!("waiting: {why}"), next_attempt_at: due };
            Decision::Park { claim: next.claim, successor: Box::new(next.message.parked(due)), ending }
        }
    };
    decided.push(Decided::new(next.record, decision));
    None
}
