//! `POST /dead-letters/{id}/redrive` and `POST /dead-letters/redrive`: what was
//! given up is sent again, with a fresh budget and its old id.
//!
//! Reserve in the store, queue, note: a crash in between leaves a reservation
//! that ends, and whoever takes over queues the same hop, which a claim dedupes. What a
//! claim would drop is not sent, and the caller is told.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, QueueName, SendError, delay_s, retry_group};
use adapters::dead_letter_store::{Kept, Reserved};
use adapters::http::answer::Problem;
use adapters::redis::query::{Replies, Trip};
use adapters::redis::records::{self, StoredRecord};
use adapters::redis::token;
use adapters::telemetry::chain;
use domain::dead_letter::{DeadLetter, Filter, Summary};
use domain::object::{ObjectReader, parsed};
use domain::place::Place;
use domain::reason::Reason;
use domain::schedule::LONGEST_LIFE;
use domain::status::Status;
use domain::time::Millis;
use domain::work::Work;
use futures_util::future::join_all;
use lambda_http::Body;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Operate;
use crate::dead_letters::{away, unknown};
use crate::request::{self, ORIGIN, REASONS, origin};
use crate::standing::{Futile, RedrivenBefore, Standing, futile, redriven_before};

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
/// How much of that may go by before dead letters are no longer looked for.
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

/// A dead letter that is reserved, and the work that it becomes again.
#[derive(Debug)]
struct Again {
    letter: DeadLetter,
    work: Work,
}

/// What a bulk redrive has come to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Dead letters that were found.
    found: usize,
    /// Those that were sent again.
    redriven: usize,
    /// Those that would have been dropped.
    skipped: usize,
    /// Those that nothing is left to do for, skipped ones included.
    done: usize,
}

impl Operate {
    /// Sends one again. Somebody else's redrive of it counts as this one's.
    pub(crate) async fn redrive_one(&self, id: &str, correlation_id: &str) -> Result<Value, Problem> {
        let Kept { letter, .. } = self.store.get(id).await.map_err(away)?.ok_or_else(unknown)?;
        if letter.payload.is_none() && letter.job.is_none() {
            return Err(Problem::conflict("This message could not be read, so there is nothing to send again."));
        }
        let now = self.clock.now();
        let token = token();
        let status = match self.store.reserve(id, &token, now, now.after(RESERVATION)).await.map_err(away)? {
            Reserved::Missing => return Err(unknown()),
            Reserved::Taken => Status::Pending,
            Reserved::Redriven(letter) => self.redrive_once_more(*letter, correlation_id).await?,
            Reserved::Granted(letter) => {
                let (wanted, refused) = self.sift(vec![(*letter, now.after(WAIT))]).await;
                if let Some(why) = refused.first() {
                    return Err(Problem::conflict(why.detail()));
                }
                self.send_one_again(wanted, correlation_id).await?
            }
        };
        Ok(json!({ "webhook_id": letter.delivery_id(), "status": status }))
    }

    /// Sends all again that match, up to a limit. Whether any are left is in `complete`.
    pub(crate) async fn redrive_many(&self, body: &Body, correlation_id: &str) -> Result<Value, Problem> {
        let wish = wish(body)?;
        let began = self.clock.now();
        let (looking_until, ends_at) = (began.after(LOOKING), began.after(BUDGET));
        let token = token();
        let mut tally = Tally::default();
        let mut after = None;
        loop {
            // What is skipped makes room for others. Otherwise it would be found again by
            // the next call, and by every call after that.
            let limit = wish.limit - (tally.found - tally.skipped);
            let found;
            (found, after) = self.matching(&wish.filter, limit, after, looking_until).await?;
            tally.found += found.len();
            if wish.dry_run {
                break;
            }
            for chunk in found.chunks(CHUNK) {
                if self.clock.now() >= ends_at {
                    break;
                }
                self.redrive_chunk(chunk, &wish, &token, began, &mut tally, correlation_id).await;
            }
            let is_full = tally.found - tally.skipped >= wish.limit;
            if after.is_none() || is_full || self.clock.now() >= looking_until {
                break;
            }
        }
        let Tally { found, redriven, skipped, done } = tally;
        let complete = after.is_none() && (wish.dry_run || done == found);
        let mut answer = json!({ "matched": found - skipped, "redriven": redriven, "complete": complete });
        if skipped > 0 {
            answer["skipped"] = json!(skipped);
        }
        Ok(answer)
    }

    /// Reserves some and sends them again.
    async fn redrive_chunk(
        &self,
        chunk: &[Summary],
        wish: &Wish,
        token: &str,
        began: Millis,
        tally: &mut Tally,
        correlation_id: &str,
    ) {
        let now = self.clock.now();
        let reserving =
            chunk.iter().map(|letter| self.store.reserve(&letter.webhook_id, token, now, now.after(RESERVATION)));
        let mut letters = Vec::new();
        for reserved in join_all(reserving).await {
            match reserved {
                Ok(Reserved::Granted(letter)) => {
                    let place = u32::try_from(tally.redriven + letters.len()).unwrap_or(u32::MAX);
                    let wait = wish.per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * place / rate);
                    letters.push((*letter, began.after(WAIT + wait)));
                }
                // Somebody else has done it, or deleted it meanwhile.
                Ok(Reserved::Redriven(_) | Reserved::Missing) => tally.done += 1,
                // Somebody else may do it, or may have died.
                Ok(Reserved::Taken) => {}
                Err(error) => {
                    tracing::error!(code = error.code(), error = %chain(&error), "a dead letter is not redriven")
                }
            }
        }
        let (wanted, refused) = self.sift(letters).await;
        let sent = self.send_again(wanted, correlation_id).await.into_iter().flatten().count();
        tally.redriven += sent;
        tally.skipped += refused.len();
        tally.done += sent + refused.len();
    }

    /// It was sent again before: says where it stands. If nothing was heard of that
    /// until long after its deadline, its message is lost and is sent once more, as
    /// the same hop.
    async fn redrive_once_more(&self, letter: DeadLetter, correlation_id: &str) -> Result<Status, Problem> {
        let now = self.clock.now();
        let standing = self.standings(std::iter::once(letter.delivery_id())).await.pop();
        let again = self.again(letter, now.after(WAIT)).ok_or_else(queue_away)?;
        match redriven_before(&again.work, &standing.unwrap_or(Standing::Unreadable), now) {
            RedrivenBefore::Stands(status) => Ok(status),
            RedrivenBefore::Lost => self.send_one_again(vec![again], correlation_id).await,
            RedrivenBefore::Futile(why) => Err(Problem::conflict(why.detail())),
        }
    }

    /// Up to `limit` dead letters, and where the list goes on.
    async fn matching(
        &self,
        filter: &Filter,
        limit: usize,
        mut after: Option<Place>,
        ends_at: Millis,
    ) -> Result<(Vec<Summary>, Option<Place>), Problem> {
        let mut found = Vec::new();
        loop {
            let now = self.clock.now();
            let listed =
                self.store.list(filter, after.as_ref(), PAGE.min(limit - found.len()), now).await.map_err(away)?;
            found.extend(listed.letters);
            after = listed.next;
            if after.is_none() || found.len() >= limit || now >= ends_at {
                return Ok((found, after));
            }
        }
    }

    /// A reserved dead letter with its message. One that cannot be written was never read.
    fn again(&self, letter: DeadLetter, due: Millis) -> Option<Again> {
        // An endpoint's schedule ends it, whatever that is by then.
        let life = if letter.is_direct() { self.deadline } else { LONGEST_LIFE };
        let work = letter.redriven(due, due.after(life));
        if work.is_none() {
            tracing::error!(webhook_id = %letter.webhook_id, "a dead letter cannot be written as a message");
        }
        Some(Again { work: work?, letter })
    }

    /// What Redis says of these deliveries, in one round trip.
    async fn standings(&self, ids: impl Iterator<Item = &str>) -> Vec<Standing> {
        let mut trip = Trip::default();
        let tickets = trip.add_all(ids.map(records::read));
        let mut replies = trip.run(self.redis.as_ref()).await.unwrap_or_else(|error| {
            tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; dead letters are redriven without it");
            Replies::default()
        });
        let standing = |reply| match reply {
            Ok(Some(StoredRecord { record, .. })) => Standing::Known(Box::new(record)),
            Ok(None) => Standing::Forgotten,
            Err(_) => Standing::Unreadable,
        };
        tickets.into_iter().map(|ticket| standing(ticket.take(&mut replies))).collect()
    }

    /// Tells reserved dead letters that are to be sent from those whose message would be
    /// dropped, and gives back the reservation of these.
    async fn sift(&self, letters: Vec<(DeadLetter, Millis)>) -> (Vec<Again>, Vec<Futile>) {
        let now = self.clock.now();
        let standings = self.standings(letters.iter().map(|(letter, _)| letter.delivery_id())).await;
        let (mut wanted, mut refused, mut ids) = (Vec::<Again>::new(), Vec::new(), BTreeSet::new());
        let mut unwanted = Vec::new();
        for ((letter, due), standing) in letters.into_iter().zip(standings) {
            let Some(again) = self.again(letter, due) else { continue };
            // Of two bodies under one id, the first one is sent.
            let is_first = ids.insert(again.letter.delivery_id().to_owned());
            match futile(&again.work, &standing, now).or((!is_first).then_some(Futile::AnotherBody)) {
                None => wanted.push(again),
                Some(why) => {
                    unwanted.push((again.letter, why));
                    refused.push(why);
                }
            }
        }
        join_all(unwanted.iter().map(|(letter, why)| self.put_back(letter, *why, now))).await;
        (wanted, refused)
    }

    /// Gives a reservation back. One whose delivery succeeded is noted as redriven: nobody
    /// needs it any more, and a newer one may take its place.
    async fn put_back(&self, letter: &DeadLetter, why: Futile, now: Millis) {
        tracing::info!(webhook_id = %letter.webhook_id, correlation_id = %letter.correlation_id, ?why, "not redriven");
        let noted = match why {
            Futile::Delivered => self.store.redriven(letter, now).await,
            Futile::AnotherBody | Futile::FailedSince | Futile::CarriedOn | Futile::Forgotten => {
                self.store.release(letter).await
            }
        };
        if let Err(error) = noted {
            tracing::error!(webhook_id = %letter.webhook_id, code = error.code(), error = %chain(&error), "a reservation is not given back; it ends by itself");
        }
    }

    async fn send_one_again(&self, again: Vec<Again>, correlation_id: &str) -> Result<Status, Problem> {
        self.send_again(again, correlation_id).await.into_iter().next().flatten().ok_or_else(queue_away)
    }

    /// Queues reserved dead letters and notes it. Gives where each delivery stands,
    /// `None` where the queue did not take it.
    async fn send_again(&self, letters: Vec<Again>, correlation_id: &str) -> Vec<Option<Status>> {
        let now = self.clock.now();
        let (mut deliveries, mut events) = (Vec::new(), Vec::new());
        for (i, Again { letter, work }) in letters.iter().enumerate() {
            match work.encode() {
                Ok(text) => {
                    let (group, sending) = match work {
                        Work::Delivery(message) => (retry_group(&message.delivery), &mut deliveries),
                        Work::Event(page) => (page.event.tenant.clone(), &mut events),
                        Work::Job(page) => (page.tenant.clone(), &mut events),
                    };
                    sending.push((i, Outgoing::new(text, group, delay_s(now, work.not_before()))));
                }
                Err(error) => {
                    tracing::error!(webhook_id = %letter.webhook_id, error = %chain(&error), "a dead letter cannot be written as a message");
                }
            }
        }
        let results = join_all([self.send(QueueName::Retry, deliveries), self.send(QueueName::Event, events)]).await;
        let mut sent: Vec<Option<&Work>> = vec![None; letters.len()];
        for (i, result) in results.into_iter().flatten() {
            match result {
                Ok(()) => sent[i] = Some(&letters[i].work),
                // It may be in the queue all the same; another try would send the same hop.
                Err(error) => {
                    let id = &letters[i].letter.webhook_id;
                    tracing::error!(webhook_id = %id, code = error.code(), error = %chain(&error), "not redriven");
                }
            }
        }
        let noting = letters.iter().zip(&sent).map(|(Again { letter, .. }, sent)| async move {
            let noted = match sent {
                Some(_) => self.store.redriven(letter, now).await,
                None => self.store.release(letter).await,
            };
            if let Err(error) = noted {
                tracing::error!(webhook_id = %letter.webhook_id, code = error.code(), error = %chain(&error), "a redrive is not noted");
            }
        });
        join_all(noting).await;
        let queued: Vec<&Work> = sent.iter().copied().flatten().collect();
        for work in &queued {
            tracing::warn!(
                webhook_id = %work.record_id(),
                correlation_id = %work.correlation_id(),
                request = %correlation_id,
                hop = work.hop(),
                "dead letter redriven"
            );
        }
        let mut standing = self.show_redriven(&queued, now).await.into_iter();
        sent.iter().map(|sent| sent.map(|_| standing.next().unwrap_or(Status::Pending))).collect()
    }

    /// Sends messages, each with its place, to one queue.
    async fn send(
        &self,
        queue_name: QueueName,
        messages: Vec<(usize, Outgoing)>,
    ) -> Vec<(usize, Result<(), SendError>)> {
        if messages.is_empty() {
            return Vec::new();
        }
        let (places, messages): (Vec<usize>, Vec<Outgoing>) = messages.into_iter().unzip();
        places.into_iter().zip(self.queue.send(queue_name, messages).await).collect()
    }

    /// Lets the records say so. Without Redis, the claim of the message will.
    async fn show_redriven(&self, sent: &[&Work], now: Millis) -> Vec<Status> {
        let mut trip = Trip::default();
        let tickets = trip.add_all(sent.iter().map(|work| {
            let new_record = work.new_record();
            records::redrive(&work.record_id(), &new_record, work.hop(), work.not_before(), self.lifetimes)
        }));
        let moved: Vec<(String, Status)> = sent.iter().map(|work| (work.record_id(), Status::Pending)).collect();
        // An entry that is missing is repaired by whoever reads the index.
        drop(trip.add(self.indexes.move_to(&moved, now)));
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
            request.faults(fault);
            return Filter::default();
        }
    };
    let time = |raw: &RawValue| parsed::<String>(raw).and_then(|text| Millis::parse_rfc3339(&text));
    let reason = reader.optional("reason", |raw| parsed::<String>(raw)?.parse().ok(), &REASONS);
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
