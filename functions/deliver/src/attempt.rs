//! The calls to receivers: all of a batch at once, each by itself, and what is
//! done is recorded without waiting long for the slow ones.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use adapters::metric;
use domain::delivery::{Step, next_step};
use domain::outcome::{ErrorClass, classify};
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use crate::finish::Finish;
use crate::gate::Called;
use crate::{Batch, Deliver, Work};

/// How long a finished attempt waits for its batch-mates before it is recorded.
const PATIENCE: Duration = Duration::from_millis(250);

impl Deliver {
    /// Attempts every delivery and finishes each, together with what was finished
    /// before any attempt.
    pub(crate) async fn attempt_all(&self, works: Vec<Work>, mut finishes: Vec<Finish>, batch: &mut Batch) {
        let mut running: FuturesUnordered<_> = works.into_iter().map(|work| self.attempt(work)).collect();
        let mut ended = Vec::new();
        while !running.is_empty() {
            // Something is done: its batch-mates have a moment to join it.
            let patience = if finishes.is_empty() { self.attempt } else { PATIENCE };
            let gathering = async {
                while let Some(end) = running.next().await {
                    ended.push(end);
                    if finishes.is_empty() && ended.len() == 1 {
                        break;
                    }
                }
            };
            let gathered = timeout(patience, gathering).await;
            for end in ended.drain(..) {
                self.note(end, &mut finishes, batch);
            }
            if gathered.is_err() && !finishes.is_empty() {
                // The calls that are still out go on meanwhile.
                let mut finishing = pin!(self.finish(std::mem::take(&mut finishes), batch));
                let mut finished = false;
                while !finished && !running.is_empty() {
                    match select(finishing.as_mut(), running.next()).await {
                        Either::Left(_) => finished = true,
                        Either::Right((end, _)) => ended.extend(end),
                    }
                }
                if !finished {
                    finishing.await;
                }
            }
            for end in ended.drain(..) {
                self.note(end, &mut finishes, batch);
            }
        }
        self.finish(finishes, batch).await;
    }

    fn note(&self, end: Result<Finish, usize>, finishes: &mut Vec<Finish>, batch: &mut Batch) {
        match end {
            Ok(finish) => {
                batch.failed.extend(finish.keeps());
                finishes.push(finish);
            }
            // It panicked. Its lease runs out and counts, which bounds poison.
            Err(record) => {
                tracing::error!(record, outcome = "panicked", "an attempt panicked");
                batch.failed.insert(record);
            }
        }
    }

    /// One attempt. A panic costs this record and no other.
    async fn attempt(&self, work: Work) -> Result<Finish, usize> {
        let record = work.record;
        AssertUnwindSafe(self.attempt_unguarded(work)).catch_unwind().await.map_err(|_| record)
    }

    async fn attempt_unguarded(&self, work: Work) -> Finish {
        let attempted = self.courier.post(&work.message).await;
        let called = Called::of(&work, &attempted);
        let step = self
            .after_probe(&work, &attempted)
            .unwrap_or_else(|| next_step(&work.message, &attempted, self.clock.now(), &self.retry, fastrand::f64()));
        let message = &work.message;
        let class = classify(&attempted.answer).error_class();
        metric::attempt(class, Duration::from_millis(attempted.ms));
        tracing::info!(
            correlation_id = message.correlation_id.as_str(),
            webhook_id = message.id.as_str(),
            destination = work.destination.as_str(),
            attempt = message.attempt + 1,
            outcome = match &step {
                Step::Delivered { .. } => "delivered",
                Step::Retry { .. } => "retried",
                Step::GiveUp { reason, .. } => reason.as_str(),
                Step::Keep => "kept",
            },
            status_code = attempted.code(),
            error_class = class.map(ErrorClass::as_str),
            duration_ms = attempted.ms,
            "attempt"
        );
        Finish::after(work, step).told(called)
    }
}
