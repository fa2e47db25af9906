//! Accepting checked webhooks: reserve their ids, queue them, confirm. The queue
//! is the commit point; Redis may be away throughout.

use std::collections::HashMap;

use adapters::aws::sqs::{Outgoing, QueueName, SendError, group_id};
use adapters::http::answer::Problem;
use adapters::metrics;
use adapters::redis::indexes;
use adapters::redis::query::{Replies, ReplyError, Trip};
use adapters::redis::records;
use adapters::telemetry::chain;
use bytes::Bytes;
use domain::delivery::Delivery;
use domain::destination::Destination;
use domain::fault::Fault;
use domain::identity::body_hash;
use domain::message::Message;
use domain::record::{NewRecord, Reservation};

use domain::status::Status;
use domain::time::Millis;
use domain::webhook::Webhook;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Enqueue;

/// What a client holds for an accepted webhook.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    webhook_id: String,
    status: Status,
    duplicate: bool,
    correlation_id: String,
}

impl Receipt {
    /// The answer to a single request.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "webhook_id": self.webhook_id,
            "status": self.status,
            "duplicate": self.duplicate,
            "correlation_id": self.correlation_id,
            "status_url": format!("/webhook-statuses/{}", self.webhook_id),
        })
    }

    /// The answer to one item of a batch.
    pub(crate) fn to_item(&self, index: usize) -> Value {
        json!({
            "index": index,
            "webhook_id": self.webhook_id,
            "status": self.status,
            "duplicate": self.duplicate,
        })
    }
}

/// A delivery on its way in.
struct Incoming {
    message: Message,
    new_record: NewRecord,
    /// Whether its id was made here. Generated ids are unknown to anyone else, so they are
    /// not reserved.
    generated: bool,
    state: State,
}

enum State {
    /// To be queued.
    New,
    /// Its `expires_at` has passed. The client gets this fault unless the delivery is known.
    Expired(Fault),
    /// The queue has it.
    Queued,
    /// Finished with, without the queue.
    Answered(Result<Receipt, Problem>),
    /// The queue will never take it.
    Refused,
}

/// Where an item of the request stands: an entry of its own, an answer already,
/// or the same delivery as an earlier item.
enum Slot {
    Own(usize),
    Same(usize),
    Rejected(Problem),
}

impl Enqueue {
    /// Accepts what passed the checks and answers every item in order.
    pub(crate) async fn accept(
        &self,
        webhooks: Vec<Result<Webhook<'_>, Problem>>,
        correlation_id: &str,
    ) -> Vec<Result<Receipt, Problem>> {
        let now = self.clock.now();
        let mut incoming: Vec<Incoming> = Vec::with_capacity(webhooks.len());
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let mut slots = Vec::with_capacity(webhooks.len());
        for webhook in webhooks {
            slots.push(match webhook {
                Err(problem) => Slot::Rejected(problem),
                Ok(webhook) => {
                    let next = self.incoming(webhook, correlation_id, now);
                    match by_id.get(&next.message.delivery.id) {
                        Some(&i) if incoming[i].new_record.body_hash == next.new_record.body_hash => Slot::Same(i),
                        Some(_) => Slot::Rejected(id_conflict()),
                        None => {
                            by_id.insert(next.message.delivery.id.clone(), incoming.len());
                            incoming.push(next);
                            Slot::Own(incoming.len() - 1)
                        }
                    }
                }
            });
        }

        let redis_is_up = self.reserve(&mut incoming).await;
        let results = self.send(&incoming).await;
        note_sent(&mut incoming, results);
        // A Redis that has just failed is not asked again: the client is waiting.
        if redis_is_up {
            self.confirm(&incoming, now).await;
        }

        let receipts: Vec<Result<Receipt, Problem>> = incoming.into_iter().map(receipt).collect();
        slots
            .into_iter()
            .map(|slot| match slot {
                Slot::Rejected(problem) => Err(problem),
                Slot::Own(i) => receipts[i].clone(),
                Slot::Same(i) => receipts[i].clone().map(|receipt| Receipt { duplicate: true, ..receipt }),
            })
            .collect()
    }

    /// Reserves the ids that clients chose. Generated ids are unknown to anyone else, so
    /// they are not reserved. Of what has expired, the id is only looked up, in the same
    /// round trip. Says whether Redis can be asked again.
    async fn reserve(&self, incoming: &mut [Incoming]) -> bool {
        let chosen: Vec<&mut Incoming> = incoming.iter_mut().filter(|item| !item.generated).collect();
        if chosen.is_empty() {
            return true;
        }
        let mut trip = Trip::default();
        let tickets = trip.add_all(chosen.iter().map(|item| match &item.state {
            State::Expired(_) => records::look_up(&item.message.delivery.id, &item.new_record),
            State::New | State::Queued | State::Answered(_) | State::Refused => {
                records::reserve(&item.message.delivery.id, &item.new_record)
            }
        }));
        let replies = self.round_trip(trip).await;
        let redis_is_up = replies.is_some();
        let mut replies = replies.unwrap_or_default();
        for (item, ticket) in chosen.into_iter().zip(tickets) {
            note_reserved(item, ticket.take(&mut replies));
        }
        redis_is_up
    }

    fn incoming(&self, webhook: Webhook<'_>, correlation_id: &str, now: Millis) -> Incoming {
        let Webhook { reference_id, url, payload, event_type, headers, expires_at, expired } = webhook;
        let generated = reference_id.is_none();
        let delivery = Delivery {
            id: reference_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            endpoint: None,
            body_hash: body_hash(&url, payload, &headers, event_type.as_deref(), expires_at),
            url,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            headers,
            event_type,
            correlation_id: correlation_id.to_owned(),
            accepted_at: now,
            deadline: expires_at.unwrap_or_else(|| now.after(self.deadline)),
        };
        let message = Message { delivery, ..Message::default() };
        let state = expired.map_or(State::New, State::Expired);
        Incoming { new_record: message.new_record(), message, generated, state }
    }

    /// Queues what is new. Answers in order, `None` for what was not sent.
    async fn send(&self, incoming: &[Incoming]) -> Vec<Option<Result<(), SendError>>> {
        let mut results: Vec<_> = incoming.iter().map(|_| None).collect();
        let mut at = Vec::new();
        let mut messages = Vec::new();
        for (i, item) in incoming.iter().enumerate().filter(|(_, item)| matches!(item.state, State::New)) {
            match item.message.encode() {
                Ok(body) => {
                    at.push(i);
                    messages.push(Outgoing::new(body, group_id(item.message.delivery.destination().as_ref()), 0));
                }
                Err(error) => results[i] = Some(Err(SendError::refused(error))),
            }
        }
        if !messages.is_empty() {
            for (i, result) in at.into_iter().zip(self.queue.send(QueueName::Delivery, messages).await) {
                results[i] = Some(result);
            }
        }
        results
    }

    /// Notes in Redis what the queue has, and takes back what it refused.
    async fn confirm(&self, incoming: &[Incoming], now: Millis) {
        let mut trip = Trip::default();
        let mut pending = Vec::new();
        for item in incoming {
            let id = &item.message.delivery.id;
            match &item.state {
                State::Queued => {
                    drop(trip.add(records::confirm(id, &item.new_record, self.lifetimes)));
                    pending.push((id.clone(), Status::Pending));
                }
                State::Refused if !item.generated => drop(trip.add(records::forget(id, &item.new_record))),
                // A reservation stays, so that its client can try again.
                State::Refused | State::Answered(_) | State::Expired(_) | State::New => {}
            }
        }
        drop(trip.add(indexes::enter(&pending, now, self.lifetimes)));
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

/// Learns whether an id is known already. An id that Redis says nothing about is new. It may
/// be called a second time, unless its record says *delivered* by then: losing it is worse.
fn note_reserved(item: &mut Incoming, reservation: Result<Reservation, ReplyError>) {
    let id = item.message.delivery.id.clone();
    match reservation {
        Ok(Reservation::Reserved { accepted_at }) => {
            item.message.delivery.accepted_at = accepted_at;
            item.new_record.accepted_at = accepted_at;
        }
        // The client gets the expiry fault.
        Ok(Reservation::Conflict) if matches!(item.state, State::Expired(_)) => {}
        Ok(Reservation::Conflict) => item.state = State::Answered(Err(id_conflict())),
        Ok(Reservation::Known { status, correlation_id }) => {
            let receipt = Receipt { webhook_id: id, status, duplicate: true, correlation_id };
            item.state = State::Answered(Ok(receipt));
        }
        Err(error) if error.was_not_sent() => {}
        Err(error) => {
            tracing::warn!(webhook_id = %id, code = error.code(), error = %chain(&error), "id is not reserved");
        }
    }
}

fn note_sent(incoming: &mut [Incoming], results: Vec<Option<Result<(), SendError>>>) {
    for (item, result) in incoming.iter_mut().zip(results) {
        match result {
            None => {}
            Some(Ok(())) => {
                let delivery = &item.message.delivery;
                tracing::info!(
                    webhook_id = delivery.id.as_str(),
                    correlation_id = delivery.correlation_id.as_str(),
                    destination = delivery.destination().as_ref().map_or("", Destination::as_str),
                    "accepted"
                );
                metrics::enqueued(1);
                item.state = State::Queued;
            }
            Some(Err(error)) => {
                tracing::error!(
                    webhook_id = %item.message.delivery.id,
                    correlation_id = %item.message.delivery.correlation_id,
                    code = error.code(),
                    error = %chain(&error),
                    "not queued"
                );
                item.state = match error {
                    SendError::Refused(_) => State::Refused,
                    SendError::Unavailable(_) => State::Answered(Err(Problem::unavailable(
                        "The queue did not confirm the delivery. Send it again, best with the same reference_id.",
                    ))),
                };
            }
        }
    }
}

fn receipt(item: Incoming) -> Result<Receipt, Problem> {
    match item.state {
        State::Answered(answer) => answer,
        State::Refused => Err(Problem::invalid(Fault::at("", "the queue does not take this webhook"))),
        State::Queued => Ok(Receipt {
            webhook_id: item.message.delivery.id,
            status: Status::Pending,
            duplicate: false,
            correlation_id: item.message.delivery.correlation_id,
        }),
        State::Expired(fault) => Err(Problem::invalid(fault)),
        State::New => Err(Problem::unavailable("The webhook was not queued.")),
    }
}

fn id_conflict() -> Problem {
    Problem::conflict("This reference_id belongs to a webhook with another body.")
}
