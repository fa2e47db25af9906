//! Accepting checked webhooks: reserve their ids, queue them, confirm. The queue
//! is the commit point; Redis may be away throughout.

use std::collections::HashMap;

use adapters::api::Problem;
use adapters::index;
use adapters::ledger;
use adapters::metric;
use adapters::redis::{Call, Reply};
use adapters::sqs::{Lane, Outgoing, SendError};
use bytes::Bytes;
use domain::destination::Destination;
use domain::fault::Fault;
use domain::identity::body_hash;
use domain::ledger::{Birth, Reservation};
use domain::message::{History, Message};
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
    birth: Birth,
    /// Made by us: nobody else can know it, so nothing has to be looked up first.
    generated: bool,
    state: State,
}

enum State {
    /// To be queued.
    New,
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
                    match by_id.get(&next.message.id) {
                        Some(&i) if incoming[i].birth.body_hash == next.birth.body_hash => Slot::Same(i),
                        Some(_) => Slot::Rejected(id_conflict()),
                        None => {
                            by_id.insert(next.message.id.clone(), incoming.len());
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

    /// Reserves the ids that clients chose. Nobody else can know one that was made
    /// here, so there is nothing to learn about it. Says whether Redis can be asked
    /// again.
    async fn reserve(&self, incoming: &mut [Incoming]) -> bool {
        let mut chosen: Vec<&mut Incoming> = incoming.iter_mut().filter(|item| !item.generated).collect();
        if chosen.is_empty() {
            return true;
        }
        let calls: Vec<Call> = chosen.iter().map(|item| ledger::reserve(&item.message.id, &item.birth)).collect();
        let replies = self.wave(&calls).await;
        let redis_is_up = replies.is_some();
        note_reserved(&mut chosen, replies.unwrap_or_default());
        redis_is_up
    }

    fn incoming(&self, webhook: Webhook<'_>, correlation_id: &str, now: Millis) -> Incoming {
        let Webhook { reference_id, url, payload, event_type, headers, expires_at } = webhook;
        let generated = reference_id.is_none();
        let message = Message {
            id: reference_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            body_hash: body_hash(&url, payload, &headers, event_type.as_deref(), expires_at),
            url,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            headers,
            event_type,
            correlation_id: correlation_id.to_owned(),
            accepted_at: now,
            deadline: expires_at.unwrap_or_else(|| now.after(self.deadline)),
            attempt: 0,
            hop: 0,
            parked: 0,
            not_before: Millis(0),
            history: History::default(),
        };
        Incoming { birth: message.birth(), message, generated, state: State::New }
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
                    messages.push(Outgoing::new(body, item.message.group(), 0));
                }
                Err(error) => results[i] = Some(Err(SendError::Refused(error.to_string()))),
            }
        }
        if !messages.is_empty() {
            for (i, result) in at.into_iter().zip(self.queue.send(Lane::Delivery, messages).await) {
                results[i] = Some(result);
            }
        }
        results
    }

    /// Notes in Redis what the queue has, and takes back what it refused.
    async fn confirm(&self, incoming: &[Incoming], now: Millis) {
        let mut calls = Vec::with_capacity(incoming.len() + 2);
        let mut pending = Vec::new();
        for item in incoming {
            match &item.state {
                State::Queued => {
                    calls.push(ledger::confirm(&item.message.id, &item.birth, self.lifetimes));
                    pending.push((item.message.id.clone(), Status::Pending));
                }
                State::Refused if !item.generated => calls.push(ledger::forget(&item.message.id, &item.birth)),
                // A reservation stays, so that its client can try again.
                State::Refused | State::Answered(_) | State::New => {}
            }
        }
        calls.extend(index::entered(&pending, now, self.lifetimes));
        self.wave(&calls).await;
    }

    async fn wave(&self, calls: &[Call]) -> Option<Vec<Reply>> {
        match self.redis.wave(calls).await {
            Ok(replies) => Some(replies),
            Err(error) => {
                tracing::warn!(code = error.code(), error = ?error, "redis is away; accepting goes on");
                None
            }
        }
    }
}

/// Learns which ids are known already. An id that Redis says nothing about is new:
/// `claim` drops one of two messages, and losing one is worse.
fn note_reserved(incoming: &mut [&mut Incoming], replies: Vec<Reply>) {
    for (item, reply) in incoming.iter_mut().zip(replies) {
        let id = &item.message.id;
        match ledger::reserved(reply) {
            Ok(Reservation::Reserved) => {}
            Ok(Reservation::Conflict) => item.state = State::Answered(Err(id_conflict())),
            Ok(Reservation::Known { status, correlation_id }) => {
                item.state =
                    State::Answered(Ok(Receipt { webhook_id: id.clone(), status, duplicate: true, correlation_id }));
            }
            Err(error) => tracing::warn!(webhook_id = %id, code = error.code(), error = ?error, "id is not reserved"),
        }
    }
}

fn note_sent(incoming: &mut [Incoming], results: Vec<Option<Result<(), SendError>>>) {
    for (item, result) in incoming.iter_mut().zip(results) {
        match result {
            None => {}
            Some(Ok(())) => {
                let message = &item.message;
                tracing::info!(
                    webhook_id = message.id.as_str(),
                    correlation_id = message.correlation_id.as_str(),
                    destination = message.destination().as_ref().map_or("", Destination::as_str),
                    "accepted"
                );
                metric::enqueued(1);
                item.state = State::Queued;
            }
            Some(Err(error)) => {
                tracing::error!(
                    webhook_id = %item.message.id,
                    correlation_id = %item.message.correlation_id,
                    code = error.code(),
                    %error,
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
        State::Refused => Err(Problem::invalid(vec![Fault::at("", "the queue does not take this webhook")])),
        State::Queued => Ok(Receipt {
            webhook_id: item.message.id,
            status: Status::Pending,
            duplicate: false,
            correlation_id: item.message.correlation_id,
        }),
        State::New => Err(Problem::unavailable("The webhook was not queued.")),
    }
}

fn id_conflict() -> Problem {
    Problem::conflict("This reference_id belongs to a webhook with another body.")
}
