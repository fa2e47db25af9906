//! `POST /dead-letters/{id}/redrive` and `POST /dead-letters/redrive`: what was
//! given up is sent again, with a fresh budget and its old id.
//!
//! Reserve in the store, queue, note: a crash in between leaves a reservation
//! that ends, and whoever takes over queues the same hop, which a claim dedupes.

use std::time::Duration;

use adapters::aws::dynamodb::{Kept, Reserved};
use adapters::aws::sqs::{Outgoing, QueueName, delay_s, group_id};
use adapters::http::answer::Problem;
use adapters::redis::indexes;
use adapters::redis::query::Trip;
use adapters::redis::records;
use adapters::telemetry::chain;
use domain::dead_letter::{DeadLetter, Filter, Summary};
use domain::message::Message;
use domain::object::{ObjectReader, parsed};
use domain::reason::Reason;
use domain::status::Status;
use domain::time::Millis;
use futures_util::future::join_all;
use lambda_http::Body;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Operate;
use crate::dead_letters::{away, unknown};
use crate::request::{self, ORIGIN, REASONS, origin};

/// How long a reservation lasts: longer than anything that holds one can live.
const RESERVATION: Duration = Duration::from_secs(30);
/// Nothing is queued again at once.
const WAIT: Duration = Duration::from_secs(1);
/// Dead letters that are sent at a time.
const CHUNK: usize = 10;
/// Dead letters that are read at a time.
const PAGE: usize = 100;
/// When one call begins nothing more: the gateway gives it 30 s, and the last
/// chunk may need many of them.
const BUDGET: Duration = Duration::from_secs(14);
/// How much of that may go by before anything is sent.
const LOOKING: Duration = Duration::from_secs(7);
/// Most dead letters of one call.
const MAX_LIMIT: u64 = 1000;
/// Dead letters of one call, unless the request says otherwise.
const DEFAULT_LIMIT: u64 = 100;
/// Most dead letters a second.
const MAX_PER_SECOND: u64 = 1000;

/// What a bulk redrive is to do.
#[derive(Debug)]
struct Wish {
    filter: Filter,
    dry_run: bool,
    limit: usize,
    per_second: Option<u32>,
}

impl Operate {
    /// Sends one again. Somebody else's redrive of it counts as this one's.
    pub(crate) async fn redrive_one(&self, id: &str, correlation_id: &str) -> Result<Value, Problem> {
        let Kept { letter, .. } = self.store.get(id).await.map_err(away)?.ok_or_else(unknown)?;
        if letter.payload.is_none() {
            return Err(Problem::conflict("This message could not be read, so there is nothing to send again."));
        }
        let now = self.clock.now();
        let token = format!("{:016x}", fastrand::u64(..));
        let status = match self.store.reserve(id, &token, now, now.after(RESERVATION)).await.map_err(away)? {
            Reserved::Missing => return Err(unknown()),
            Reserved::Taken => Status::Pending,
            Reserved::Redriven(letter) => self.redriven_before(*letter, correlation_id).await?,
            Reserved::Granted(letter) => {
                let sent = self.send_again(vec![(*letter, now.after(WAIT))], correlation_id).await;
                sent.into_iter().next().flatten().ok_or_else(queue_away)?
            }
        };
        Ok(json!({ "webhook_id": id, "status": status }))
    }

    /// Sends all again that match, up to a limit. What is left is told by `complete`.
    pub(crate) async fn redrive_many(&self, body: &Body, correlation_id: &str) -> Result<Value, Problem> {
        let wish = wish(body)?;
        let began = self.clock.now();
        let ends_at = began.after(BUDGET);
        let (found, more) = self.matching(&wish, began.after(LOOKING)).await?;
        let token = format!("{:016x}", fastrand::u64(..));
        if wish.dry_run {
            return Ok(json!({ "matched": found.len(), "redriven": 0, "complete": !more }));
        }
        let (mut redriven, mut done) = (0, 0);
        for chunk in found.chunks(CHUNK) {
            let now = self.clock.now();
            if now >= ends_at {
                break;
            }
            let reserving =
                chunk.iter().map(|letter| self.store.reserve(&letter.webhook_id, &token, now, now.after(RESERVATION)));
            let mut letters = Vec::new();
            for reserved in join_all(reserving).await {
                match reserved {
                    Ok(Reserved::Granted(letter)) => {
                        let place = u32::try_from(redriven + letters.len()).unwrap_or(u32::MAX);
                        let wait = wish.per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * place / rate);
                        letters.push((*letter, began.after(WAIT + wait)));
                    }
                    // Somebody else has done it, or deleted it meanwhile.
                    Ok(Reserved::Redriven(_) | Reserved::Missing) => done += 1,
                    // Somebody else may do it, or may have died.
                    Ok(Reserved::Taken) => {}
                    Err(error) => {
                        tracing::error!(code = error.code(), error = %chain(&error), "a dead letter is not redriven")
                    }
                }
            }
            let sent = self.send_again(letters, correlation_id).await.into_iter().flatten().count();
            redriven += sent;
            done += sent;
        }
        Ok(json!({ "matched": found.len(), "redriven": redriven, "complete": !more && done == found.len() }))
    }

    /// It was sent again before: says where it stands. If nothing was heard of that
    /// until long after its deadline, its message is lost and is sent once more, as
    /// the same hop.
    async fn redriven_before(&self, letter: DeadLetter, correlation_id: &str) -> Result<Status, Problem> {
        let id = letter.webhook_id.clone();
        match records::read(&id).run(self.redis.as_ref()).await {
            Ok(Some(stored)) if stored.record.unknown => {
                let due = self.clock.now().after(WAIT);
                self.send_again(vec![(letter, due)], correlation_id)
                    .await
                    .into_iter()
                    .next()
                    .flatten()
                    .ok_or_else(queue_away)
            }
            Ok(Some(stored)) => Ok(stored.record.status),
            Ok(None) | Err(_) => Ok(Status::Pending),
        }
    }

    async fn matching(&self, wish: &Wish, ends_at: Millis) -> Result<(Vec<Summary>, bool), Problem> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let limit = PAGE.min(wish.limit - found.len());
            let now = self.clock.now();
            let listed = self.store.list(&wish.filter, after.as_ref(), limit, now).await.map_err(away)?;
            found.extend(listed.letters);
            after = listed.next;
            if after.is_none() || found.len() >= wish.limit || now >= ends_at {
                return Ok((found, after.is_some()));
            }
        }
    }

    /// Queues reserved dead letters and notes it. Gives where each delivery stands,
    /// `None` where the queue did not take it.
    async fn send_again(&self, letters: Vec<(DeadLetter, Millis)>, correlation_id: &str) -> Vec<Option<Status>> {
        let now = self.clock.now();
        let mut outgoing = Vec::new();
        let mut sending = Vec::new();
        for (i, (letter, due)) in letters.iter().enumerate() {
            let message = letter.redriven(*due, due.after(self.deadline));
            let text = message.as_ref().and_then(|message| message.encode().ok());
            match message.zip(text) {
                Some((message, text)) => {
                    let group = group_id(message.delivery.destination().as_ref());
                    outgoing.push(Outgoing::new(text, group, delay_s(now, *due)));
                    sending.push((i, message));
                }
                None => {
                    tracing::error!(webhook_id = %letter.webhook_id, "a dead letter cannot be written as a message")
                }
            }
        }
        let results = if outgoing.is_empty() { Vec::new() } else { self.queue.send(QueueName::Retry, outgoing).await };
        let mut sent: Vec<Option<&Message>> = vec![None; letters.len()];
        for ((i, message), result) in sending.iter().zip(results) {
            match result {
                Ok(()) => sent[*i] = Some(message),
                // It may be in the queue all the same; another try would send the same hop.
                Err(error) => {
                    tracing::error!(webhook_id = %message.delivery.id, code = error.code(), error = %chain(&error), "not redriven");
                }
            }
        }
        let noting = letters.iter().zip(&sent).map(|((letter, _), sent)| async move {
            let noted = match sent {
                Some(_) => self.store.redriven(letter, now).await,
                None => self.store.release(letter).await,
            };
            if let Err(error) = noted {
                tracing::error!(webhook_id = %letter.webhook_id, code = error.code(), error = %chain(&error), "a redrive is not noted");
            }
        });
        join_all(noting).await;
        let queued: Vec<&Message> = sent.iter().copied().flatten().collect();
        for message in &queued {
            tracing::warn!(
                webhook_id = %message.delivery.id,
                correlation_id = %message.delivery.correlation_id,
                request = %correlation_id,
                hop = message.hop,
                "dead letter redriven"
            );
        }
        let mut standing = self.show_redriven(&queued, now).await.into_iter();
        sent.iter().map(|sent| sent.map(|_| standing.next().unwrap_or(Status::Pending))).collect()
    }

    /// Lets the records say so. Without Redis, the claim of the message will.
    async fn show_redriven(&self, sent: &[&Message], now: Millis) -> Vec<Status> {
        let mut trip = Trip::default();
        let tickets = trip.add_all(sent.iter().map(|message| {
            let (id, new_record) = (&message.delivery.id, message.new_record());
            records::redrive(id, &new_record, message.hop, message.not_before, self.lifetimes)
        }));
        let moved: Vec<(String, Status)> =
            sent.iter().map(|message| (message.delivery.id.clone(), Status::Pending)).collect();
        // An entry that is missing is repaired by whoever reads the index.
        drop(trip.add(indexes::move_to(&moved, now, self.lifetimes)));
        match trip.run(self.redis.as_ref()).await {
            Ok(mut replies) => {
                tickets.into_iter().map(|ticket| ticket.take(&mut replies).unwrap_or(Status::Pending)).collect()
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; redriven deliveries show when they are claimed");
                Vec::new()
            }
        }
    }
}

fn queue_away() -> Problem {
    Problem::unavailable("The queue did not take it; the dead letter stays. Try again.")
}

/// Reads a bulk redrive's wish, with every fault at once.
fn wish(body: &Body) -> Result<Wish, Problem> {
    let mut reader = request::object(body, &["filter", "dry_run", "limit", "per_second"])?;
    let filter = match reader.raw("filter") {
        Some(raw) => filter(&mut reader, raw),
        None => Filter::default(),
    };
    let dry_run = reader.flag("dry_run");
    let limit = reader.number("limit", MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let per_second = reader.number("per_second", MAX_PER_SECOND);
    let faults = reader.finish();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    Ok(Wish {
        filter: Filter { redrivable: true, ..filter },
        dry_run,
        limit: usize::try_from(limit).unwrap_or_default(),
        per_second: per_second.and_then(|rate| u32::try_from(rate).ok()),
    })
}

fn filter(request: &mut ObjectReader<'_>, raw: &RawValue) -> Filter {
    const FIELDS: [&str; 4] = ["reason", "destination", "since", "until"];
    const TIME: &str = "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)";
    let mut reader = match ObjectReader::open("/filter", raw, &FIELDS, "the filter") {
        Ok(reader) => reader,
        Err(fault) => {
            request.faults([fault]);
            return Filter::default();
        }
    };
    let time = |raw: &RawValue| parsed::<String>(raw).and_then(|text| Millis::parse_rfc3339(&text));
    let reason = reader.optional("reason", |raw| parsed::<String>(raw)?.parse().ok(), REASONS);
    if reason == Some(Reason::Malformed) {
        reader.fault("reason", "malformed dead letters cannot be sent again");
    }
    let filter = Filter {
        reason,
        destination: reader.optional("destination", |raw| origin(&parsed::<String>(raw)?), ORIGIN),
        since: reader.optional("since", time, TIME),
        until: reader.optional("until", time, TIME),
        redrivable: false,
    };
    request.faults(reader.finish());
    filter
}
