//! Consumes the dead-letter queue, which is an inbox and not an archive: each
//! dead letter goes to DynamoDB, where it is kept, and to Redis, where it is seen.
//! A message is acknowledged when both have it; until then it stays in the queue.
//!
//! It never makes truth false: a delivery that was delivered, or is carried on by
//! a later message, is not filed.

pub mod config;

mod history;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use adapters::clock::Clock;
use adapters::config::Lives;
use adapters::dead_letter_store::{DeadLetterStore, Filed, StoreError};
use adapters::history::HistoryWriter;
use adapters::metrics::{self, DeliveryKind};
use adapters::redis::query::Trip;
use adapters::redis::transport::RedisPort;
use adapters::redis::{dead_letters, records};
use adapters::telemetry::chain;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use bytes::Bytes;
use domain::dead_letter::{DeadLetter, ERROR_CODE, ERROR_MESSAGE};
use domain::history::delivery::EndedDelivery;
use domain::identity::is_another_body;
use domain::message::{Envelope, LateOutcome, LateOutcomes};
use domain::reason::Reason;
use domain::record::{Ending, NewRecord, Record, Settlement, short_error};
use domain::status::Status;
use domain::time::Millis;
use domain::work::Work;
use futures_util::future::join_all;
use lambda_runtime::LambdaEvent;

use crate::config::Config;

/// Without a reason SQS moved a message here: it came back again and again.
const RECEIVED_TOO_OFTEN: (Reason, &str) = (Reason::Crashed, "outcome unknown: the message was received too often");

/// The handler and what it works with.
pub struct Archivist {
    redis: Arc<dyn RedisPort>,
    store: Arc<dyn DeadLetterStore>,
    history: Arc<dyn HistoryWriter>,
    history_life: Option<Duration>,
    clock: Clock,
    life_s: u64,
    lives: Lives,
    ingest_dead_letter_queue: String,
}

/// A message as the dead-letter queue handed it over.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// SQS's id for it.
    pub message_id: String,
    /// Its text.
    pub body: Bytes,
    /// `ERROR_CODE`; absent when SQS itself moved the message here.
    pub error_code: Option<String>,
    /// `ERROR_MESSAGE`.
    pub error_message: Option<String>,
    /// When it was sent, to this queue or to the one it was moved from.
    pub sent_at: Option<Millis>,
    /// Whether it comes from the dead-letter queue of the IngestQueue: then outsiders wrote all
    /// of it, and it is never taken for a message of ours.
    pub is_foreign: bool,
}

/// A dead letter on its way into the archive.
struct Filing {
    record: usize,
    letter: DeadLetter,
    /// Whether the table had it, or something newer, before.
    known: bool,
    /// What the delivery's record is to learn; nothing when it has none.
    settle: Option<(String, NewRecord, Settlement)>,
    /// The end of the delivery, for a history that missed it.
    ended: Option<EndedDelivery>,
}

impl Archivist {
    /// A handler with these settings.
    pub fn new(
        config: &Config,
        redis: Arc<dyn RedisPort>,
        store: Arc<dyn DeadLetterStore>,
        history: Arc<dyn HistoryWriter>,
        clock: Clock,
    ) -> Self {
        let ingest_dead_letter_queue = config.ingest_dead_letter_queue.clone();
        let (life_s, lives, history_life) = (config.life.as_secs(), config.lives, config.history.life);
        Self { redis, store, history, history_life, clock, life_s, lives, ingest_dead_letter_queue }
    }

    /// Answers one event of Lambda.
    ///
    /// # Errors
    /// Never: a failure is reported for its own message.
    pub async fn answer(&self, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Infallible> {
        let records: Vec<Received> = event
            .payload
            .records
            .into_iter()
            .map(|mut record| {
                let mut attribute = |name| record.message_attributes.remove(name).and_then(|value| value.string_value);
                let is_foreign = record.event_source_arn.as_ref() == Some(&self.ingest_dead_letter_queue);
                let mut attribute = |name| if is_foreign { None } else { attribute(name) };
                Received {
                    is_foreign,
                    error_code: attribute(ERROR_CODE),
                    error_message: attribute(ERROR_MESSAGE),
                    sent_at: record.attributes.get("SentTimestamp").and_then(|ms| ms.parse().ok()).map(Millis),
                    message_id: record.message_id.unwrap_or_default(),
                    body: Bytes::from(record.body.unwrap_or_default()),
                }
            })
            .collect();
        let mut response = SqsBatchResponse::default();
        for message_id in self.handle(&records).await {
            response.add_failure(message_id);
        }
        Ok(response)
    }

    /// Works through one batch and names the messages that SQS is to keep.
    pub async fn handle(&self, records: &[Received]) -> Vec<String> {
        let mut failed = BTreeSet::new();
        let mut late_outcomes = Vec::new();
        let mut filings = Vec::new();
        for (record, received) in records.iter().enumerate() {
            match self.read(record, received) {
                Ok(Item::Filing(filing)) => filings.push(*filing),
                Ok(Item::LateOutcomes(late)) => {
                    if !self.write_late(late.rows).await {
                        failed.insert(record);
                    }
                    late_outcomes.extend(late.outcomes.into_iter().map(|outcome| (record, outcome)))
                }
                Ok(Item::Newer) => {
                    tracing::warn!(message_id = %received.message_id, outcome = "left", "left for a newer consumer");
                    failed.insert(record);
                }
                Err(error) => {
                    tracing::error!(message_id = %received.message_id, error = %chain(&error), "a dead letter cannot be read");
                    failed.insert(record);
                }
            }
        }
        let filings = self.look_up(filings, &mut failed).await;
        let mut filed = Vec::with_capacity(filings.len());
        for result in join_all(filings.into_iter().map(|filing| self.file(filing))).await {
            match result {
                Ok(filing) => filed.push(filing),
                Err(record) => {
                    failed.insert(record);
                }
            }
        }
        self.show(&filed, &late_outcomes, &mut failed).await;
        failed.into_iter().map(|record| records[record].message_id.clone()).collect()
    }

    fn read(&self, record: usize, received: &Received) -> Result<Item, serde_json::Error> {
        let now = self.clock.now();
        let named = received.error_code.as_deref().and_then(|code| code.parse().ok());
        let failed_at = if named.is_some() { received.sent_at.unwrap_or(now) } else { now };
        let error = received.error_message.as_deref();
        // What nobody could read is never read again: outsiders may have written it, and here it
        // could speak for any delivery.
        if named == Some(Reason::Malformed) || received.is_foreign {
            return Ok(Item::malformed(record, received, error.unwrap_or(RECEIVED_TOO_OFTEN.1), failed_at));
        }
        Ok(match Envelope::decode(&received.body) {
            Ok(Envelope::LateOutcomes(late)) => Item::LateOutcomes(late),
            Ok(Envelope::Deliver(message)) => {
                let (reason, error) = (named.unwrap_or(RECEIVED_TOO_OFTEN.0), error.unwrap_or(RECEIVED_TOO_OFTEN.1));
                let letter = DeadLetter::of(&message, reason, error, failed_at)?;
                let ended = history::ended(&message, reason, error, failed_at);
                Item::filing(record, letter, &Work::Delivery(message), &received.message_id, ended)
            }
            Ok(Envelope::Event(page)) => {
                let (reason, error) = (named.unwrap_or(RECEIVED_TOO_OFTEN.0), error.unwrap_or(RECEIVED_TOO_OFTEN.1));
                let letter = DeadLetter::of_event(&page, reason, error, failed_at)?;
                Item::filing(record, letter, &Work::Event(page), &received.message_id, None)
            }
            Ok(Envelope::Job(page)) => {
                let (reason, error) = (named.unwrap_or(RECEIVED_TOO_OFTEN.0), error.unwrap_or(RECEIVED_TOO_OFTEN.1));
                let letter = DeadLetter::of_job(&page, reason, error, failed_at);
                Item::filing(record, letter, &Work::Job(page), &received.message_id, None)
            }
            Err(why) if why.is_newer_version() => Item::Newer,
            Err(why) => Item::malformed(record, received, error.unwrap_or(&why.to_string()), failed_at),
        })
    }

    /// Drops what is no longer true and sets apart what has another's id. What
    /// Redis says nothing about stays in the queue.
    async fn look_up(&self, filings: Vec<Filing>, failed: &mut BTreeSet<usize>) -> Vec<Filing> {
        let mut trip = Trip::default();
        let tickets = trip.add_all(filings.iter().map(|filing| records::read(&filing.letter.webhook_id)));
        let erased: Vec<_> = filings.iter().map(|filing| history::ask_of(&mut trip, &filing.letter)).collect();
        let mut replies = match trip.run(self.redis.as_ref()).await {
            Ok(replies) => replies,
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; dead letters stay in their queue");
                failed.extend(filings.iter().map(|filing| filing.record));
                return Vec::new();
            }
        };
        let mut kept = Vec::with_capacity(filings.len());
        for ((filing, ticket), erased) in filings.into_iter().zip(tickets).zip(erased) {
            let is_erased = erased.map_or(Ok(false), |erased| erased.take(&mut replies));
            let found = ticket.take(&mut replies).and_then(|found| Ok((found, is_erased?)));
            let record = match found {
                Ok((_, true)) => {
                    tracing::info!(webhook_id = %filing.letter.webhook_id, outcome = "erased", "a dead letter is dropped: its event was erased");
                    metrics::dropped_erased(1);
                    continue;
                }
                Ok((found, false)) => found.map(|stored| stored.record),
                Err(error) => {
                    tracing::error!(code = error.code(), error = %chain(&error), "a record cannot be read");
                    failed.insert(filing.record);
                    continue;
                }
            };
            if record.as_ref().is_some_and(|record| is_being_attempted(&filing, record, self.clock.now())) {
                tracing::info!(webhook_id = %filing.letter.webhook_id, outcome = "busy", "another message of this delivery is being attempted");
                failed.insert(filing.record);
            } else {
                kept.extend(judge(filing, record));
            }
        }
        kept
    }

    /// Writes one to the tables: where it is first, so that an erasing finds it.
    async fn file(&self, filing: Filing) -> Result<Filing, usize> {
        let record = filing.record;
        if !self.point_to(&filing.letter).await {
            return Err(record);
        }
        let filing = self.store(filing).await?;
        match &filing.ended {
            Some(ended) if !self.add_missing(ended).await => Err(record),
            Some(_) | None => Ok(filing),
        }
    }

    /// Writes one to the table of dead letters.
    async fn store(&self, filing: Filing) -> Result<Filing, usize> {
        let record = filing.record;
        let (id, correlation_id) = (filing.letter.webhook_id.clone(), filing.letter.correlation_id.clone());
        let fail = |error: StoreError| {
            tracing::error!(webhook_id = %id, %correlation_id, code = error.code(), error = %chain(&error), "a dead letter stays in its queue");
            record
        };
        match self.store.file(&filing.letter).await.map_err(fail)? {
            Filed::Written => {
                count(&filing.letter);
                Ok(filing)
            }
            Filed::Known => Ok(Filing { known: true, ..filing }),
            Filed::Foreign => {
                // Its delivery's record is its own all the same.
                let filing = Filing { letter: filing.letter.apart(), ..filing };
                if !self.point_to(&filing.letter).await {
                    return Err(record);
                }
                let known = self.store.file(&filing.letter).await.map_err(fail)? != Filed::Written;
                if !known {
                    count(&filing.letter);
                }
                Ok(Filing { known, ..filing })
            }
        }
    }

    /// Writes what is filed to Redis, where people look, and lets the deliveries' records
    /// and the late outcomes' be true: one round trip.
    async fn show(&self, filed: &[Filing], late_outcomes: &[(usize, LateOutcome)], failed: &mut BTreeSet<usize>) {
        let now = self.clock.now();
        let mut trip = Trip::default();
        let mut shown = Vec::new();
        let mut settled = Vec::new();
        let mut moved = Vec::new();
        for filing in filed {
            let letter = &filing.letter;
            let Ok(text) = serde_json::to_string(letter) else { continue };
            // What is shown already may be newer.
            let query = dead_letters::show(&letter.webhook_id, text, self.life_s, filing.known);
            shown.push((filing.record, trip.add(query)));
            if let Some((id, new_record, settlement)) = &filing.settle {
                settled
                    .push((filing.record, trip.add(records::settle(id, new_record, settlement, self.lives.records))));
                moved.push((id.clone(), Status::Failed));
            }
        }
        for (record, LateOutcome { id, new_record, settlement, .. }) in late_outcomes {
            settled.push((*record, trip.add(records::settle(id, new_record, settlement, self.lives.records))));
            moved.extend(settlement.ending.final_status().map(|status| (id.clone(), status)));
        }
        let letters = filed.iter().map(|filing| (filing.letter.webhook_id.as_str(), filing.letter.failed_at));
        let has_final: Vec<usize> = settled.iter().map(|(record, _)| *record).collect();
        let indexed = trip.add(self.lives.indexes.move_to(&moved, now));
        let entered = trip.add(dead_letters::enter(letters, now, self.life_s));
        let mut replies = match trip.run(self.redis.as_ref()).await {
            Ok(replies) => replies,
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "Redis is away; dead letters stay in their queue");
                failed.extend(shown.iter().map(|(record, _)| *record));
                failed.extend(settled.iter().map(|(record, _)| *record));
                return;
            }
        };
        // Whatever a settlement came to: a record that is newer is true already.
        let shown = shown.into_iter().map(|(record, ticket)| (record, ticket.take(&mut replies).err()));
        let mut missing: Vec<_> = shown.collect();
        missing.extend(settled.into_iter().map(|(record, ticket)| (record, ticket.take(&mut replies).err())));
        for (record, error) in missing {
            if let Some(error) = error {
                tracing::error!(code = error.code(), error = %chain(&error), "a dead letter is not shown yet");
                failed.insert(record);
            }
        }
        if let Err(error) = indexed.take(&mut replies) {
            // Nothing touches what is final again, so it would be in no list.
            tracing::error!(code = error.code(), error = %chain(&error), "the records are in no list yet");
            failed.extend(has_final);
        }
        if let Err(error) = entered.take(&mut replies) {
            tracing::warn!(code = error.code(), error = %chain(&error), "an index was not updated; the next reader repairs it");
        }
        for filing in filed.iter().filter(|filing| !failed.contains(&filing.record)) {
            tracing::warn!(
                webhook_id = %filing.letter.webhook_id,
                correlation_id = %filing.letter.correlation_id,
                destination = %filing.letter.destination,
                reason = filing.letter.reason.map_or("", Reason::as_str),
                "dead letter filed"
            );
        }
    }
}

fn count(letter: &DeadLetter) {
    if let Some(reason) = letter.reason {
        let is_of_endpoint = letter.is_to_endpoint();
        metrics::dead_letter(reason, if is_of_endpoint { DeliveryKind::Endpoint } else { DeliveryKind::Direct });
    }
}

enum Item {
    Filing(Box<Filing>),
    LateOutcomes(Box<LateOutcomes>),
    /// Written by a newer version: whoever can read it will file it.
    Newer,
}

impl Item {
    fn malformed(record: usize, received: &Received, error: &str, failed_at: Millis) -> Self {
        let body = String::from_utf8_lossy(&received.body);
        let letter = DeadLetter::malformed(&received.message_id, &body, error, failed_at);
        Self::Filing(Box::new(Filing { record, letter, known: false, settle: None, ended: None }))
    }

    fn filing(record: usize, letter: DeadLetter, work: &Work, message_id: &str, ended: Option<EndedDelivery>) -> Self {
        let settle = Some(settlement(work, &letter, message_id));
        Self::Filing(Box::new(Filing { record, letter, known: false, settle, ended }))
    }
}

/// What the record is to learn. The token is the message's own id, so that a repeated filing
/// changes nothing.
fn settlement(work: &Work, letter: &DeadLetter, message_id: &str) -> (String, NewRecord, Settlement) {
    let ending = Ending::Failed {
        attempts: letter.attempts,
        code: letter.last_status_code,
        class: letter.error_class,
        error: short_error(&letter.error),
        duration_ms: letter.history.attempts.last().map(|attempt| attempt.ms),
    };
    let settlement = Settlement { token: format!("archive-{message_id}"), hop: work.hop(), ending, log: None };
    (work.record_id(), work.new_record(), settlement)
}

/// Whether another message of the same hop is being attempted: it may yet succeed.
fn is_being_attempted(filing: &Filing, record: &Record, now: Millis) -> bool {
    let live = record.lease.as_ref().is_some_and(|lease| lease.until > now);
    live && record.hop == filing.letter.hop && record.details.body_hash == filing.letter.body_hash
}

/// Judges a dead letter by its delivery's record.
fn judge(filing: Filing, record: Option<Record>) -> Option<Filing> {
    let Some(record) = record else { return Some(filing) };
    let letter = &filing.letter;
    if is_another_body(&record.details.body_hash, &letter.body_hash) {
        return Some(Filing { letter: filing.letter.apart(), settle: None, ..filing });
    }
    // A record of an earlier life of this id says nothing about this delivery.
    let recorded_at = record.details.accepted_at;
    let went_on = match record.status {
        Status::Delivered => recorded_at >= letter.accepted_at,
        Status::Pending | Status::Retrying | Status::Failed => {
            recorded_at == letter.accepted_at && record.hop > letter.hop
        }
    };
    if went_on {
        tracing::info!(
            webhook_id = %letter.webhook_id,
            hop = letter.hop,
            outcome = "superseded",
            "a dead letter is dropped: its delivery went on"
        );
        return None;
    }
    Some(filing)
}
