//! Consumes deliveries: queue → claim → receiver → queue → record, and never
//! turns round. A receiver's failure is a value here; only our own trouble is
//! reported to SQS as a failed message.

mod attempt;
mod finish;
mod gate;
mod intake;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use adapters::clock::Clock;
use adapters::config::{BOOKKEEPING, DeliverConfig};
use adapters::metric::{self, Outcome};
use adapters::redis::Wire;
use adapters::sender::Courier;
use adapters::sqs::Queue;
use aws_lambda_events::sqs::SqsBatchResponse;
use bytes::Bytes;
use domain::breaker::{Parking, Pass, Policies};
use domain::ledger::Grant;
use domain::message::Message;
use domain::retry::Policy;
use domain::status::Lifetimes;
use domain::time::Millis;
use lambda_runtime::LambdaEvent;
use serde::Deserialize;

use crate::finish::Finish;

/// The handler and what it works with.
pub struct Deliver {
    queue: Arc<dyn Queue>,
    redis: Arc<dyn Wire>,
    courier: Arc<dyn Courier>,
    clock: Clock,
    retry: Policy,
    breakers: Policies,
    parking: Parking,
    lifetimes: Lifetimes,
    /// What one attempt may take, with the bookkeeping after it.
    attempt: Duration,
}

/// What is read of an SQS event: of a record's dozen fields, two.
#[derive(Deserialize)]
pub struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    body: String,
}

/// A message as a queue handed it over.
#[derive(Clone, Debug)]
pub struct Received {
    /// SQS's id for it, by which its failure is reported.
    pub message_id: String,
    /// Its text.
    pub body: Bytes,
}

/// A delivery that this invocation works on.
#[derive(Clone, Debug)]
struct Work {
    /// Which record of the batch it came in.
    record: usize,
    /// Random for this receive; the same for every command that is re-sent.
    token: String,
    message: Message,
    /// Where it goes; empty when its URL cannot be read.
    destination: String,
    /// Whether Redis knows of the claim.
    claimed: bool,
    /// The right to call; absent while the breaker has to be asked.
    pass: Option<Pass>,
}

/// What one invocation remembers.
struct Batch {
    /// When Lambda ends the invocation.
    ends_at: Millis,
    /// After the first failure Redis is left alone.
    redis_is_up: bool,
    /// Records that SQS keeps.
    failed: BTreeSet<usize>,
}

impl Deliver {
    /// A handler with these settings.
    pub fn new(
        config: &DeliverConfig,
        queue: Arc<dyn Queue>,
        redis: Arc<dyn Wire>,
        courier: Arc<dyn Courier>,
        clock: Clock,
    ) -> Self {
        Self {
            queue,
            redis,
            courier,
            clock,
            retry: config.retry.clone(),
            breakers: config.breakers.clone(),
            parking: config.parking,
            lifetimes: config.lifetimes,
            attempt: config.sender.timeout + BOOKKEEPING,
        }
    }

    /// Answers one event of Lambda.
    ///
    /// # Errors
    /// Never: what goes wrong with a message is told of that message.
    pub async fn answer(&self, event: LambdaEvent<Event>) -> Result<SqsBatchResponse, Infallible> {
        let records: Vec<Received> = event
            .payload
            .records
            .into_iter()
            .map(|record| Received { message_id: record.message_id, body: Bytes::from(record.body) })
            .collect();
        let mut response = SqsBatchResponse::default();
        for message_id in self.handle(&records, Millis(event.context.deadline)).await {
            response.add_failure(message_id);
        }
        Ok(response)
    }

    /// Works through one batch, all records at once, and names the messages that
    /// SQS is to keep. `ends_at` is when Lambda ends the invocation.
    pub async fn handle(&self, records: &[Received], ends_at: Millis) -> Vec<String> {
        let mut batch = Batch { ends_at, redis_is_up: true, failed: BTreeSet::new() };
        let mut finishes = Vec::new();

        let taken = self.take_in(records, &mut batch, &mut finishes);
        let claimed = self.claim(taken, &mut batch, &mut finishes).await;
        let mut attempts = Vec::new();
        for (work, grant) in claimed {
            match self.judge(work, grant, &mut batch) {
                Verdict::Attempt(work) => attempts.push(*work),
                Verdict::Finish(finish) => finishes.push(*finish),
                Verdict::Leave => {}
            }
        }
        let attempts = self.admit(attempts, &mut batch, &mut finishes).await;
        self.attempt_all(attempts, finishes, &mut batch).await;

        records
            .iter()
            .enumerate()
            .filter(|(i, _)| batch.failed.contains(i))
            .map(|(_, record)| record.message_id.clone())
            .collect()
    }

    /// Decides what a claim's answer means for the delivery.
    fn judge(&self, work: Work, grant: Grant, batch: &mut Batch) -> Verdict {
        let now = self.clock.now();
        match grant {
            // Acknowledged: it is finished, or a later message carries it on.
            Grant::Done | Grant::Stale => {
                metric::delivery(Outcome::Duplicate);
                tracing::info!(
                    webhook_id = %work.message.id,
                    correlation_id = %work.message.correlation_id,
                    hop = work.message.hop,
                    outcome = "duplicate",
                    "superseded"
                );
                Verdict::Leave
            }
            // Never delete what another holder may still need.
            Grant::Busy(left) => {
                tracing::info!(webhook_id = %work.message.id, correlation_id = %work.message.correlation_id, busy_ms = left.as_millis(), outcome = "busy", "claimed by another");
                batch.failed.insert(work.record);
                Verdict::Leave
            }
            Grant::Foreign => Verdict::Finish(Box::new(Finish::reused_id(work))),
            Grant::Crashed => Verdict::Finish(Box::new(Finish::crashed(work))),
            Grant::Granted if now >= work.message.deadline => Verdict::Finish(Box::new(Finish::expired(work))),
            Grant::Granted if now.until(batch.ends_at) < self.attempt => {
                tracing::warn!(webhook_id = %work.message.id, correlation_id = %work.message.correlation_id, outcome = "no_time", "too little time left for an attempt");
                batch.failed.insert(work.record);
                Verdict::Finish(Box::new(Finish::release(work)))
            }
            Grant::Granted => Verdict::Attempt(Box::new(work)),
        }
    }
}

/// What becomes of a claimed record.
enum Verdict {
    Attempt(Box<Work>),
    Finish(Box<Finish>),
    /// Nothing more is done; the record is acknowledged unless it is marked as failed.
    Leave,
}
