//! Consumes the dead-letter queue, which is an inbox and not an archive: each
//! dead letter goes to DynamoDB, where it is kept, and to Redis, where it is seen.
//! A message is acknowledged when both have it; until then it stays in the queue.
//!
//! It never makes truth false: a delivery that was delivered, or is carried on by
//! a later message, is not filed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use adapters::clock::Clock;
use adapters::config::ArchiveConfig;
use adapters::dynamodb::{Archive, Filed, view_key};
use adapters::exposition::DEAD_LETTER_INDEX;
use adapters::ledger;
use adapters::metric;
use adapters::redis::{Call, Reply, Wire};
use adapters::{index, ledger::LedgerError};
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use bytes::Bytes;
use domain::dead_letter::{DeadLetter, ERROR_CODE, ERROR_MESSAGE, Reason};
use domain::ledger::{Birth, Ending, Record, Settlement, short_error};
use domain::message::{Envelope, Message, Report};
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use futures_util::future::join_all;
use lambda_runtime::LambdaEvent;

/// The handler and what it works with.
pub struct Archivist {
    redis: Arc<dyn Wire>,
    archive: Arc<dyn Archive>,
    clock: Clock,
    life_s: u64,
    lifetimes: Lifetimes,
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
}

/// A dead letter on its way into the archive.
struct Filing {
    record: usize,
    letter: DeadLetter,
    /// Whether the table had it, or something newer, before.
    known: bool,
    /// What the delivery's record is to learn; nothing when it has none.
    settle: Option<(String, Birth, Settlement)>,
}

impl Archivist {
    /// A handler with these settings.
    pub fn new(config: &ArchiveConfig, redis: Arc<dyn Wire>, archive: Arc<dyn Archive>, clock: Clock) -> Self {
        Self { redis, archive, clock, life_s: config.life.as_secs(), lifetimes: config.lifetimes }
    }

    /// Answers one event of Lambda.
    ///
    /// # Errors
    /// Never: what goes wrong with a message is told of that message.
    pub async fn answer(&self, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Infallible> {
        let records: Vec<Received> = event
            .payload
            .records
            .into_iter()
            .map(|mut record| {
                let mut attribute = |name| record.message_attributes.remove(name).and_then(|value| value.string_value);
                Received {
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
        let mut reports = Vec::new();
        let mut filings = Vec::new();
        for (record, received) in records.iter().enumerate() {
            match self.read(record, received) {
                Ok(Item::Filing(filing)) => filings.push(*filing),
                Ok(Item::Report(report)) => reports.push((record, *report)),
                Ok(Item::Future) => {
                    tracing::warn!(message_id = %received.message_id, outcome = "left", "left for a newer archivist");
                    failed.insert(record);
                }
                Err(error) => {
                    tracing::error!(message_id = %received.message_id, %error, "a dead letter cannot be read");
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
        self.show(&filed, &reports, &mut failed).await;
        failed.into_iter().map(|record| records[record].message_id.clone()).collect()
    }

    fn read(&self, record: usize, received: &Received) -> Result<Item, serde_json::Error> {
        let now = self.clock.now();
        let named = received.error_code.as_deref().and_then(Reason::named);
        let failed_at = if named.is_some() { received.sent_at.unwrap_or(now) } else { now };
        let error = received.error_message.as_deref();
        Ok(match Envelope::decode(&received.body) {
            Ok(Envelope::Outcome(report)) => Item::Report(report),
            Ok(Envelope::Deliver(message)) => {
                // Without a reason SQS moved it here: it came back again and again.
                let reason = named.unwrap_or(Reason::Crashed);
                let error = error.unwrap_or("outcome unknown: the message was received too often");
                let letter = DeadLetter::of(&message, reason, error, failed_at)?;
                let settle = Some(settlement(&message, &letter, &received.message_id));
                Item::Filing(Box::new(Filing { record, letter, known: false, settle }))
            }
            Err(why) if why.is_from_the_future() => Item::Future,
            Err(why) => {
                let why = why.to_string();
                let body = String::from_utf8_lossy(&received.body);
                let letter = DeadLetter::malformed(&received.message_id, &body, error.unwrap_or(&why), failed_at);
                Item::Filing(Box::new(Filing { record, letter, known: false, settle: None }))
            }
        })
    }

    /// Drops what is no longer true and sets apart what has another's id. What
    /// Redis says nothing about stays in the queue.
    async fn look_up(&self, filings: Vec<Filing>, failed: &mut BTreeSet<usize>) -> Vec<Filing> {
        let calls: Vec<Call> = filings.iter().flat_map(|filing| ledger::read(&filing.letter.webhook_id)).collect();
        let mut replies = match self.redis.wave(&calls).await {
            Ok(replies) => replies.into_iter(),
            Err(error) => {
                tracing::error!(code = error.code(), error = ?error, "redis is away; dead letters stay in their queue");
                failed.extend(filings.iter().map(|filing| filing.record));
                return Vec::new();
            }
        };
        let mut kept = Vec::with_capacity(filings.len());
        for filing in filings {
            let found = replies.next().zip(replies.next()).map(|(get, ttl)| ledger::record(get, ttl));
            match found {
                Some(Ok(Some((record, _)))) if is_being_attempted(&filing, &record, self.clock.now()) => {
                    tracing::info!(webhook_id = %filing.letter.webhook_id, outcome = "busy", "its twin is being attempted");
                    failed.insert(filing.record);
                }
                Some(Ok(found)) => kept.extend(judge(filing, found.map(|(record, _)| record))),
                Some(Err(error)) => {
                    tracing::error!(code = error.code(), error = ?error, "a record cannot be read");
                    failed.insert(filing.record);
                }
                None => {
                    failed.insert(filing.record);
                }
            }
        }
        kept
    }

    /// Writes one to the table.
    async fn file(&self, filing: Filing) -> Result<Filing, usize> {
        let record = filing.record;
        let (id, correlation_id) = (filing.letter.webhook_id.clone(), filing.letter.correlation_id.clone());
        let fail = |error: adapters::dynamodb::ArchiveError| {
            tracing::error!(webhook_id = %id, %correlation_id, code = error.code(), %error, "a dead letter stays in its queue");
            record
        };
        match self.archive.file(&filing.letter).await.map_err(fail)? {
            Filed::Written => {
                count(&filing.letter);
                Ok(filing)
            }
            Filed::Known => Ok(Filing { known: true, ..filing }),
            Filed::Foreign => {
                let filing = Filing { letter: filing.letter.apart(), settle: None, ..filing };
                let known = self.archive.file(&filing.letter).await.map_err(fail)? != Filed::Written;
                if !known {
                    count(&filing.letter);
                }
                Ok(Filing { known, ..filing })
            }
        }
    }

    /// Counts the dead letters that Redis shows, so that nobody has to ask for all of its keys.
    fn index(&self, filed: &[Filing], now: Millis) -> Vec<Call> {
        if filed.is_empty() {
            return Vec::new();
        }
        let mut add = redis::cmd("ZADD");
        add.arg(DEAD_LETTER_INDEX);
        for filing in filed {
            add.arg(filing.letter.failed_at.0).arg(&filing.letter.webhook_id);
        }
        vec![add.into(), index::trim(DEAD_LETTER_INDEX, now, self.life_s.saturating_mul(1000))]
    }

    /// Writes what is filed to Redis, where people look, and lets the deliveries'
    /// records and the reports' be true: one round trip.
    async fn show(&self, filed: &[Filing], reports: &[(usize, Report)], failed: &mut BTreeSet<usize>) {
        let now = self.clock.now();
        let mut calls: Vec<Call> = Vec::new();
        let mut owners = Vec::new();
        let mut moved = Vec::new();
        for filing in filed {
            let Ok(text) = serde_json::to_string(&filing.letter) else { continue };
            let mut set = redis::cmd("SET");
            set.arg(view_key(&filing.letter.webhook_id)).arg(text).arg("EX").arg(self.life_s);
            if filing.known {
                // What is shown already may be newer.
                set.arg("NX");
            }
            calls.push(set.into());
            owners.push(filing.record);
            if let Some((id, birth, settlement)) = &filing.settle {
                calls.push(ledger::settle(id, birth, settlement, self.lifetimes));
                owners.push(filing.record);
                moved.push((id.clone(), Status::Failed));
            }
        }
        for (record, report) in reports {
            calls.push(ledger::settle(&report.id, &report.birth, &report.settlement, self.lifetimes));
            owners.push(*record);
        }
        calls.extend(index::moved(&moved, now, self.lifetimes));
        calls.extend(self.index(filed, now));
        match self.redis.wave(&calls).await {
            Ok(replies) => {
                for (record, reply) in owners.into_iter().zip(replies) {
                    if let Err(error) = taken(reply) {
                        tracing::error!(code = error.code(), error = ?error, "a dead letter is not shown yet");
                        failed.insert(record);
                    }
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
            Err(error) => {
                tracing::error!(code = error.code(), error = ?error, "redis is away; dead letters stay in their queue");
                failed.extend(owners);
            }
        }
    }
}

fn count(letter: &DeadLetter) {
    if let Some(reason) = letter.reason {
        metric::dead_letter(reason);
    }
}

enum Item {
    Filing(Box<Filing>),
    Report(Box<Report>),
    /// Written by a newer version: whoever can read it will file it.
    Future,
}

/// What the delivery's record is to learn. The token is the message's own id, so
/// that a repeated filing changes nothing.
fn settlement(message: &Message, letter: &DeadLetter, message_id: &str) -> (String, Birth, Settlement) {
    let ending = Ending::Failed {
        attempts: letter.attempts,
        code: letter.last_status_code,
        class: letter.error_class,
        error: short_error(&letter.error),
        duration_ms: message.history.attempts.last().map(|attempt| attempt.ms),
    };
    let settlement = Settlement { token: format!("archive-{message_id}"), hop: message.hop, ending };
    (message.id.clone(), message.birth(), settlement)
}

/// Whether another message of the same hop is being attempted: it may yet succeed.
fn is_being_attempted(filing: &Filing, record: &Record, now: Millis) -> bool {
    let live = record.lease.as_ref().is_some_and(|lease| lease.until > now);
    live && record.hop == filing.letter.hop && record.birth.body_hash == filing.letter.body_hash
}

/// Judges a dead letter by its delivery's record.
fn judge(filing: Filing, record: Option<Record>) -> Option<Filing> {
    let Some(record) = record else { return Some(filing) };
    let letter = &filing.letter;
    let hash = &record.birth.body_hash;
    if !hash.is_empty() && !letter.body_hash.is_empty() && *hash != letter.body_hash {
        return Some(Filing { letter: filing.letter.apart(), settle: None, ..filing });
    }
    if record.status == Status::Delivered || record.hop > letter.hop {
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

/// Whether Redis did its part, whatever the script said: a record that knows
/// better is true already.
fn taken(reply: Reply) -> Result<(), LedgerError> {
    reply.map(|_| ()).map_err(|error| LedgerError::Refused("show", error))
}
