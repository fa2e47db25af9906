//! Accepting work that was checked: reserve its ids, queue it, confirm. The queue is the
//! commit point. Redis may be away throughout.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use domain::destination::Destination;
use domain::fault::Faults;
use domain::record::{NewRecord, Reservation};
use domain::status::Status;
use domain::time::Millis;
use domain::work::Work;

use crate::aws::sqs::{Outgoing, Queue, QueueName, SendError, group_id};
use crate::config::Lives;
use crate::metrics;
use crate::redis::query::{Replies, ReplyError, Trip};
use crate::redis::transport::RedisPort;
use crate::redis::{records, tenants};
use crate::telemetry::chain;

/// What accepts work.
pub struct Acceptor {
    queue: Arc<dyn Queue>,
    redis: Arc<dyn RedisPort>,
    lives: Lives,
}

/// Work on its way in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The work, at its first hop.
    pub work: Work,
    /// Whether its id was made here. Generated ids are unknown to anyone else, so they are
    /// not reserved.
    pub generated: bool,
    /// What is wrong with it now, although it may have been accepted before: it has expired, or a
    /// schema has changed. The client gets these faults unless the work is known.
    pub refusal: Option<Faults>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// The queue has it.
    Queued,
    /// The queue had it before, or it is finished.
    Known {
        /// Where it stands.
        status: Status,
        /// What its log lines are found by.
        correlation_id: String,
    },
    /// Its id belongs to another body, or its event was erased.
    Conflict,
    /// Its tenant is being erased.
    Erasing,
    /// These faults, and nothing is known of it.
    Invalid(Faults),
    /// The queue will never take it.
    Refused,
    /// The queue did not confirm it. It may have it all the same.
    Unavailable,
}

struct Item {
    work: Work,
    id: String,
    new_record: NewRecord,
    generated: bool,
    /// `None` while it is to be queued.
    accepted: Option<Accepted>,
}

/// Where something stands that came in: an item of its own, or the same as an earlier one.
enum Slot {
    Own(usize),
    Same(usize),
    Conflict,
}

impl Acceptor {
    /// An acceptor that gives to this queue.
    pub fn new(queue: Arc<dyn Queue>, redis: Arc<dyn RedisPort>, lives: Lives) -> Self {
        Self { queue, redis, lives }
    }

    /// Accepts work, and says of each, in order, what became of it. Redis is asked at most
    /// twice.
    pub async fn accept(&self, incoming: Vec<Incoming>, now: Millis) -> Vec<Accepted> {
        let mut items: Vec<Item> = Vec::with_capacity(incoming.len());
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let mut slots = Vec::with_capacity(incoming.len());
        for incoming in incoming {
            let next = Item::of(incoming);
            slots.push(match by_id.get(&next.id) {
                Some(&i) if items[i].new_record.body_hash == next.new_record.body_hash => Slot::Same(i),
                Some(_) => Slot::Conflict,
                None => {
                    by_id.insert(next.id.clone(), items.len());
                    items.push(next);
                    Slot::Own(items.len() - 1)
                }
            });
        }

        let redis_is_up = self.reserve(&mut items).await;
        self.send(&mut items).await;
        // A Redis that has just failed is not asked again: the client is waiting.
        if redis_is_up {
            self.confirm(&items, now).await;
        }

        let of = |i: usize| items[i].accepted.clone().unwrap_or(Accepted::Unavailable);
        let answer = |slot| match slot {
            Slot::Own(i) => of(i),
            Slot::Same(i) if matches!(items[i].accepted, Some(Accepted::Queued)) => {
                let correlation_id = items[i].work.correlation_id().to_owned();
                Accepted::Known { status: Status::Pending, correlation_id }
            }
            Slot::Same(i) => of(i),
            Slot::Conflict => Accepted::Conflict,
        };
        slots.into_iter().map(answer).collect()
    }

    /// Reserves the ids that clients chose, and asks whether tenants are being erased. Of what is
    /// refused, the id is only looked up, in the same round trip. Says whether Redis can be asked
    /// again.
    async fn reserve(&self, items: &mut [Item]) -> bool {
        let tenants: BTreeSet<String> = items.iter().filter_map(|item| item.work.tenant()).map(str::to_owned).collect();
        let chosen: Vec<&mut Item> = items.iter_mut().filter(|item| !item.generated).collect();
        if chosen.is_empty() && tenants.is_empty() {
            return true;
        }
        let mut trip = Trip::default();
        let tickets = trip.add_all(chosen.iter().map(|item| match &item.accepted {
            Some(_) => records::look_up(&item.id, &item.new_record),
            None => records::reserve(&item.id, &item.new_record),
        }));
        let marks: Vec<_> = tenants.into_iter().map(|tenant| (trip.add(tenants::erasing(&tenant)), tenant)).collect();
        let replies = self.round_trip(trip).await;
        let redis_is_up = replies.is_some();
        let mut replies = replies.unwrap_or_default();
        for (item, ticket) in chosen.into_iter().zip(tickets) {
            item.note_reserved(ticket.take(&mut replies));
        }
        for (ticket, tenant) in marks {
            if ticket.take(&mut replies).ok().flatten().is_some() {
                let of_tenant = items.iter_mut().filter(|item| item.work.tenant() == Some(&tenant));
                of_tenant.for_each(|item| item.accepted = Some(Accepted::Erasing));
            }
        }
        redis_is_up
    }

    /// Queues what is new.
    async fn send(&self, items: &mut [Item]) {
        let mut by_queue: BTreeMap<QueueName, (Vec<usize>, Vec<Outgoing>)> = BTreeMap::new();
        let mut results = Vec::new();
        for (i, item) in items.iter().enumerate().filter(|(_, item)| item.accepted.is_none()) {
            let (queue_name, group) = address(&item.work);
            match item.work.encode() {
                Ok(body) => {
                    let (places, messages) = by_queue.entry(queue_name).or_default();
                    places.push(i);
                    messages.push(Outgoing::new(body, group, 0));
                }
                Err(error) => results.push((i, Err(SendError::refused(error)))),
            }
        }
        for (queue_name, (places, messages)) in by_queue {
            results.extend(places.into_iter().zip(self.queue.send(queue_name, messages).await));
        }
        for (i, result) in results {
            items[i].note_sent(result);
        }
    }

    /// Notes in Redis what the queue has, and takes back what it refused.
    async fn confirm(&self, items: &[Item], now: Millis) {
        let mut trip = Trip::default();
        let mut pending = Vec::new();
        for Item { id, new_record, generated, accepted, .. } in items {
            match accepted {
                Some(Accepted::Queued) => {
                    drop(trip.add(records::confirm(id, new_record, self.lives.records)));
                    pending.push((id.clone(), Status::Pending));
                }
                Some(Accepted::Refused) if !generated => drop(trip.add(records::forget(id, new_record))),
                // A reservation stays, so that its client can try again.
                Some(
                    Accepted::Refused
                    | Accepted::Unavailable
                    | Accepted::Known { .. }
                    | Accepted::Conflict
                    | Accepted::Erasing
                    | Accepted::Invalid(_),
                )
                | None => {}
            }
        }
        drop(trip.add(self.lives.indexes.enter(&pending, now)));
        // The queue has what was accepted: a claim confirms it if Redis does not.
        drop(self.round_trip(trip).await);
    }

    async fn round_trip(&self, trip: Trip) -> Option<Replies> {
        match trip.run(self.redis.as_ref()).await {
            Ok(replies) => Some(replies),
            Err(error) => {
                tracing::warn!(code = error.code(), error = %chain(&error), "Redis is away; accepting goes on");
                None
            }
        }
    }
}

/// The queue that work begins in, and what fair queues group it by: the tenant of an event,
/// the destination of a direct webhook.
fn address(work: &Work) -> (QueueName, String) {
    match work {
        Work::Delivery(message) => (QueueName::Delivery, group_id(message.delivery.destination().as_ref())),
        Work::Event(page) => (QueueName::Event, page.event.tenant.clone()),
        Work::Job(page) => (QueueName::Event, page.tenant.clone()),
    }
}

impl Item {
    fn of(incoming: Incoming) -> Self {
        let Incoming { work, generated, refusal } = incoming;
        Self {
            id: work.record_id(),
            new_record: work.new_record(),
            work,
            generated,
            accepted: refusal.map(Accepted::Invalid),
        }
    }

    /// Learns whether an id is known already. An id that Redis says nothing about is new. It
    /// may be worked on a second time, unless its record says *delivered* by then: losing it
    /// is worse.
    fn note_reserved(&mut self, reservation: Result<Reservation, ReplyError>) {
        match reservation {
            Ok(Reservation::Reserved { accepted_at }) => {
                self.work.set_accepted_at(accepted_at);
                self.new_record.accepted_at = accepted_at;
            }
            // The client gets the faults.
            Ok(Reservation::Conflict) if self.accepted.is_some() => {}
            Ok(Reservation::Conflict) => self.accepted = Some(Accepted::Conflict),
            Ok(Reservation::Known { status, correlation_id }) => {
                self.accepted = Some(Accepted::Known { status, correlation_id });
            }
            Err(error) if error.was_not_sent() => {}
            Err(error) => {
                tracing::warn!(webhook_id = %self.id, code = error.code(), error = %chain(&error), "id is not reserved");
            }
        }
    }

    fn note_sent(&mut self, result: Result<(), SendError>) {
        let Err(error) = result else {
            self.tell_queued();
            self.accepted = Some(Accepted::Queued);
            return;
        };
        tracing::error!(
            webhook_id = %self.id,
            correlation_id = %self.work.correlation_id(),
            code = error.code(),
            error = %chain(&error),
            "not queued"
        );
        self.accepted = Some(match error {
            SendError::Refused(_) => Accepted::Refused,
            SendError::Unavailable(_) => Accepted::Unavailable,
        });
    }

    fn tell_queued(&self) {
        match &self.work {
            Work::Delivery(message) => {
                let delivery = &message.delivery;
                tracing::info!(
                    webhook_id = delivery.id.as_str(),
                    correlation_id = delivery.correlation_id.as_str(),
                    destination = delivery.destination().as_ref().map_or("", Destination::as_str),
                    "accepted"
                );
                metrics::enqueued(1);
            }
            Work::Event(page) => {
                let event = &page.event;
                tracing::info!(
                    tenant = event.tenant.as_str(),
                    event_id = event.id.as_str(),
                    event_type = event.event_type.as_str(),
                    correlation_id = event.correlation_id.as_str(),
                    "event accepted"
                );
                metrics::event_accepted(1);
            }
            Work::Job(page) => {
                tracing::info!(
                    tenant = page.tenant.as_str(),
                    job = page.job.kind(),
                    job_id = page.id.as_str(),
                    correlation_id = page.correlation_id.as_str(),
                    "job accepted"
                );
            }
        }
    }
}
