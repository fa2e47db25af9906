//! Consumes deliveries: read → claim → admit → limit → attempt → finish. Each phase takes what
//! the one before it gives, and what is decided on the way is carried out by the last. A
//! receiver's failure is a value here. Only our own trouble is reported to SQS as a
//! failed message.

pub mod config;

mod admit;
mod attempt;
mod bookkeeping;
mod cards;
mod claim;
mod claimed;
mod context;
mod decision;
mod finish;
mod history;
mod judge;
mod late;
mod limit;
mod live;
mod notices;
mod outbox;
mod owed;
mod questions;
mod read;
mod recent;
mod route;
mod told;
mod urls;

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::sqs::Queue;
use adapters::aws::sqs_event::{self, Received, SqsEvent};
use adapters::clock::Clock;
use adapters::history::HistoryWriter;
use adapters::owed::Owing;
use adapters::receiver_client::ReceiverClient;
use adapters::redis::transport::RedisPort;
use aws_lambda_events::sqs::SqsBatchResponse;
use domain::time::Millis;
use lambda_runtime::LambdaEvent;

use crate::admit::admit;
use crate::attempt::Attempts;
use crate::claim::claim;
use crate::config::{BOOKKEEPING, Config};
use crate::context::{Batch, Batches, Context, RedisHealth};
use crate::finish::finish;
use crate::limit::limit;
use crate::read::read;
use crate::told::Told;
use crate::urls::ReceiverUrls;

pub use crate::cards::CardCache;

/// The handler.
pub struct Deliver {
    context: Context,
}

impl Deliver {
    /// A handler with these settings.
    pub fn new(
        config: &Config,
        queue: Arc<dyn Queue>,
        redis: Arc<dyn RedisPort>,
        receiver_client: Arc<dyn ReceiverClient>,
        cards: Arc<CardCache>,
        history: Arc<dyn HistoryWriter>,
        clock: Clock,
    ) -> Self {
        let context = Context {
            queue,
            queues: config.queues.clone(),
            owing: Owing::new(config.owed_life),
            owed_life: config.owed_life,
            disable_after: config.disable_after,
            told: Told::default(),
            urls: ReceiverUrls::default(),
            redis,
            receiver_client,
            clock,
            cards,
            history,
            history_life: config.history.life,
            batches: Batches::default(),
            retry: config.retry.clone(),
            breakers: config.breakers.clone(),
            parking: config.parking,
            lifetimes: config.lives.records,
            indexes: config.lives.indexes,
            redis_health: RedisHealth::default(),
            attempt_budget: config.receiver_client.timeout + BOOKKEEPING,
        };
        Self { context }
    }

    /// Answers one event of Lambda.
    ///
    /// # Errors
    /// Never: a failure is reported for its own message.
    pub async fn answer(&self, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Infallible> {
        let ends_at = Millis(event.context.deadline);
        let kept = self.handle(&event.payload.received(), ends_at).await;
        Ok(sqs_event::response(kept))
    }

    /// Works through one batch, all records at once, and names the messages that SQS is
    /// to keep. `ends_at` is when Lambda ends the invocation.
    pub async fn handle(&self, records: &[Received], ends_at: Millis) -> Vec<String> {
        let context = &self.context;
        let mut batch = Batch::new(ends_at);
        let mut decided = Vec::new();
        let mut kept = Vec::new();

        let due = read(&context.queues, records, context.clock.now(), &mut decided);
        batch.to_endpoints = due.to_endpoints();
        let claimed = claim(context, &mut batch, due, &mut decided).await;
        let admitted = admit(context, &mut batch, claimed, &mut decided).await;
        let within_limits = limit(context, &mut batch, admitted, &mut decided).await;
        let mut attempts = Attempts::begin(context, within_limits);
        loop {
            attempts.gather(&mut decided).await;
            let group = std::mem::take(&mut decided);
            kept.extend(attempts.run_beside(finish(context, &mut batch, group)).await);
            if attempts.are_over() {
                break;
            }
        }

        kept.sort_unstable();
        kept.into_iter().map(|record| records[record].message_id.clone()).collect()
    }
}
