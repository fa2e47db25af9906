//! `POST /dead-letters/{id}/redrive` and `POST /dead-letters/redrive`: what was
//! given up is sent again, with a fresh budget and its old id.
//!
//! Reserve in the archive, queue, note: a crash in between leaves a reservation
//! that ends, and whoever takes over queues the same hop, which a claim dedupes.

use std::time::Duration;

use adapters::api::Problem;
use adapters::dynamodb::{Kept, Reserved};
use adapters::index;
use adapters::ledger;
use adapters::redis::Call;
use adapters::sqs::{Lane, Outgoing};
use domain::dead_letter::{DeadLetter, Filter, Reason, Summary};
use domain::fault::{Fault, pointer_token};
use domain::json::Fields;
use domain::message::Message;
use domain::retry::sqs_delay_s;
use domain::status::Status;
use domain::time::Millis;
use futures_util::future::join_all;
use lambda_http::Body;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Operate;
use crate::breakers::origin;
use crate::dead_letters::{ORIGIN, REASONS, away, unknown};

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
        let Kept { letter, .. } = self.archive.get(id).await.map_err(away)?.ok_or_else(unknown)?;
        if letter.payload.is_none() {
            return Err(Problem::conflict("This message could not be read, so there is nothing to send again."));
        }
        let now = self.clock.now();
        let token = format!("{:016x}", fastrand::u64(..));
        let status = match self.archive.reserve(id, &token, now, now.after(RESERVATION)).await.map_err(away)? {
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
            let reserving = chunk
                .iter()
                .map(|letter| self.archive.reserve(&letter.webhook_id, &token, now, now.after(RESERVATION)));
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
                    Err(error) => tracing::error!(code = error.code(), %error, "a dead letter is not redriven"),
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
        let replies = self.redis.wave(&ledger::read(&id)).await.unwrap_or_default();
        let Ok([get, ttl]) = <[_; 2]>::try_from(replies) else { return Ok(Status::Pending) };
        match ledger::record(get, ttl) {
            Ok(Some((record, _))) if record.unknown => {
                let due = self.clock.now().after(WAIT);
                self.send_again(vec![(letter, due)], correlation_id)
                    .await
                    .into_iter()
                    .next()
                    .flatten()
                    .ok_or_else(queue_away)
            }
            Ok(Some((record, _))) => Ok(record.status),
            Ok(None) | Err(_) => Ok(Status::Pending),
        }
    }

    async fn matching(&self, wish: &Wish, ends_at: Millis) -> Result<(Vec<Summary>, bool), Problem> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let limit = PAGE.min(wish.limit - found.len());
            let now = self.clock.now();
            let listed = self.archive.list(&wish.filter, after.as_ref(), limit, now).await.map_err(away)?;
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
                    outgoing.push(Outgoing::new(text, message.group(), sqs_delay_s(now, *due)));
                    sending.push((i, message));
                }
                None => {
                    tracing::error!(webhook_id = %letter.webhook_id, "a dead letter cannot be written as a message")
                }
            }
        }
        let results = if outgoing.is_empty() { Vec::new() } else { self.queue.send(Lane::Retry, outgoing).await };
        let mut sent: Vec<Option<&Message>> = vec![None; letters.len()];
        for ((i, message), result) in sending.iter().zip(results) {
            match result {
                Ok(()) => sent[*i] = Some(message),
                // It may be in the queue all the same; another try would send the same hop.
                Err(error) => {
                    tracing::error!(webhook_id = %message.id, code = error.code(), %error, "not redriven");
                }
            }
        }
        let noting = letters.iter().zip(&sent).map(|((letter, _), sent)| async move {
            let noted = match sent {
                Some(_) => self.archive.redriven(letter, now).await,
                None => self.archive.release(letter).await,
            };
            if let Err(error) = noted {
                tracing::error!(webhook_id = %letter.webhook_id, code = error.code(), %error, "a redrive is not noted");
            }
        });
        join_all(noting).await;
        let queued: Vec<&Message> = sent.iter().copied().flatten().collect();
        for message in &queued {
            tracing::warn!(
                webhook_id = %message.id,
                correlation_id = %message.correlation_id,
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
        let mut calls: Vec<Call> = sent
            .iter()
            .map(|message| {
                ledger::redrive(&message.id, &message.birth(), message.hop, message.not_before, self.lifetimes)
            })
            .collect();
        let moved: Vec<(String, Status)> = sent.iter().map(|message| (message.id.clone(), Status::Pending)).collect();
        calls.extend(index::moved(&moved, now, self.lifetimes));
        match self.redis.wave(&calls).await {
            Ok(replies) => {
                let read = |reply| ledger::redriven(reply).unwrap_or(Status::Pending);
                replies.into_iter().take(sent.len()).map(read).collect()
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = ?error, "redis is away; redriven deliveries show when they are claimed");
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
    let text = std::str::from_utf8(body.as_ref()).map_err(|_| Problem::not_json("The body is not UTF-8."))?;
    let raw = domain::json::well_formed(text)
        .map_err(|error| Problem::not_json(format!("The body is not JSON: {error}.")))?;
    let mut wish =
        Wish { filter: Filter { redrivable: true, ..Filter::default() }, dry_run: false, limit: 100, per_second: None };
    let mut faults = Vec::new();
    let whole = |value: &RawValue, most: u64| json_of::<u64>(value).filter(|number| (1..=most).contains(number));
    for (name, value) in fields("", raw, &mut faults) {
        let pointer = format!("/{}", pointer_token(&name));
        let fault = match name.as_str() {
            "filter" => {
                read_filter(value, &mut wish.filter, &mut faults);
                None
            }
            "dry_run" => json_of(value).map_or(Some("must be true or false"), |flag| {
                wish.dry_run = flag;
                None
            }),
            "limit" => whole(value, MAX_LIMIT).map_or(Some("must be a whole number from 1 to 1000"), |limit| {
                wish.limit = usize::try_from(limit).unwrap_or_default();
                None
            }),
            "per_second" => whole(value, 1000).map_or(Some("must be a whole number from 1 to 1000"), |rate| {
                wish.per_second = u32::try_from(rate).ok();
                None
            }),
            _ => Some("unknown field"),
        };
        faults.extend(fault.map(|message| Fault::at(pointer, message)));
    }
    if faults.is_empty() { Ok(wish) } else { Err(Problem::invalid(faults)) }
}

fn read_filter(value: &RawValue, filter: &mut Filter, faults: &mut Vec<Fault>) {
    let time = |value: &RawValue| json_of::<String>(value).and_then(|text| Millis::parse_rfc3339(&text));
    for (name, value) in fields("/filter", value, faults) {
        let pointer = format!("/filter/{}", pointer_token(&name));
        let wants = match name.as_str() {
            "reason" => {
                let reason = json_of::<String>(value).and_then(|name| Reason::named(&name));
                filter.reason = reason;
                match reason {
                    None => Some(REASONS),
                    Some(Reason::Malformed) => Some("malformed dead letters cannot be sent again"),
                    Some(_) => None,
                }
            }
            "destination" => {
                filter.destination = json_of::<String>(value).and_then(|text| origin(&text));
                filter.destination.is_none().then_some(ORIGIN)
            }
            "since" => {
                filter.since = time(value);
                filter.since.is_none().then_some("must be a time such as 2026-01-31T12:00:00Z (RFC 3339)")
            }
            "until" => {
                filter.until = time(value);
                filter.until.is_none().then_some("must be a time such as 2026-01-31T12:00:00Z (RFC 3339)")
            }
            _ => Some("unknown field"),
        };
        faults.extend(wants.map(|message| Fault::at(pointer, message)));
    }
}

fn json_of<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// An object's fields; a fault if it is none, or names one twice.
fn fields<'a>(pointer: &str, value: &'a RawValue, faults: &mut Vec<Fault>) -> Vec<(String, &'a RawValue)> {
    let Ok(Fields(fields)) = serde_json::from_str::<Fields<'a>>(value.get()) else {
        faults.push(Fault::at(pointer, "must be a JSON object"));
        return Vec::new();
    };
    for (i, (name, _)) in fields.iter().enumerate() {
        if fields[..i].iter().any(|(other, _)| other == name) {
            faults.push(Fault::at(format!("{pointer}/{}", pointer_token(name)), "stands more than once"));
        }
    }
    fields
}
