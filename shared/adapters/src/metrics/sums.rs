//! The way of sums into Redis. A Lambda cannot be scraped, so Redis holds the sums of
//! all processes. They travel with round trips that happen anyway.
//!
//! What is added goes out in numbered batches. A batch that got no answer is sent again
//! as it was, under its number, and Redis adds it once. A process that is killed takes
//! with it what it had not sent. So the sums are never too high.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use uuid::Uuid;

use super::names;
use super::recorder::{Drained, Recording, lock};
use crate::clock::Clock;
use crate::redis::script::Args;
use crate::redis::sums;
use crate::redis::transport::{Call, RedisPort, Reply, Unavailable};
use crate::telemetry::chain;

/// How long nothing is sent after a refusal, in ms.
const BACK_OFF_MS: u64 = 5_000;
/// What can wait is sent along with what cannot, or after this long, in ms.
const WAIT_MS: u64 = 10_000;

#[derive(Default)]
struct State {
    /// Not in any batch yet.
    fresh: Drained,
    /// For the next line of EMF.
    unwritten: Drained,
    /// The batch that is out or got no answer, as it was sent.
    batch: Option<Args>,
    number: u64,
    /// Whether that batch is on its way now.
    out: bool,
    sent_at: u64,
    redis_failed: bool,
    /// After a refusal, nothing is sent before.
    not_before: u64,
}

/// What one process has to add.
pub(super) struct Sums {
    function: &'static str,
    instance: String,
    clock: Clock,
    recording: Recording,
    state: Mutex<State>,
}

impl Sums {
    /// Nothing to add yet.
    pub(super) fn new(function: &'static str, clock: Clock, recording: Recording) -> Self {
        let instance = Uuid::new_v4().simple().to_string();
        Self { function, instance, clock, recording, state: Mutex::default() }
    }

    /// An invocation begins: Redis may be asked again.
    pub(super) fn begin(&self) {
        lock(&self.state).redis_failed = false;
    }

    /// Takes what was recorded since the last line of EMF.
    pub(super) fn take_unwritten(&self) -> Drained {
        self.drain();
        std::mem::take(&mut lock(&self.state).unwritten)
    }

    /// Moves what was recorded to where it waits for its way out.
    fn drain(&self) {
        let drained = self.recording.drain();
        let mut state = lock(&self.state);
        state.fresh.add(&drained);
        state.unwritten.add(&drained);
    }

    /// Whether something should be sent before the invocation ends.
    pub(super) fn has_urgent(&self) -> bool {
        let state = lock(&self.state);
        let refused = state.not_before > self.clock.now().0;
        !state.redis_failed && !refused && (state.batch.is_some() || !state.fresh.can_wait())
    }

    /// The batch to send along, if there is one: one that got no answer first, as it
    /// was.
    fn next_batch(&self) -> Option<Call> {
        self.drain();
        let now = self.clock.now().0;
        let mut state = lock(&self.state);
        if state.out || state.not_before > now {
            return None;
        }
        if state.batch.is_none() {
            let waited = now.saturating_sub(state.sent_at) >= WAIT_MS;
            if state.fresh.is_empty() || (state.fresh.can_wait() && !waited) {
                return None;
            }
            state.number += 1;
            let head = [self.instance.clone(), state.number.to_string()];
            state.batch = Some(head.into_iter().chain(std::mem::take(&mut state.fresh).fields()).collect());
        }
        state.out = true;
        state.sent_at = now;
        let batch = state.batch.clone()?;
        Some(sums::add(self.function, batch))
    }

    fn back_off(&self) {
        let until = self.clock.now().0 + BACK_OFF_MS;
        lock(&self.state).not_before = until;
    }

    fn batch_ended(&self, acknowledged: bool) {
        let mut state = lock(&self.state);
        state.out = false;
        if acknowledged {
            state.batch = None;
        }
    }

    fn redis_failed(&self) {
        self.recording.record(names::redis_failed);
        lock(&self.state).redis_failed = true;
    }
}

/// Redis, whose round trips take along what is to be added to the sums.
#[derive(Clone)]
pub struct Metered {
    inner: Arc<dyn RedisPort>,
    sums: Arc<Sums>,
}

impl Metered {
    pub(super) fn new(inner: Arc<dyn RedisPort>, sums: Arc<Sums>) -> Self {
        Self { inner, sums }
    }

    /// A round trip for the sums alone.
    pub(super) async fn flush(&self) {
        if let Err(error) = self.round_trip(Vec::new()).await {
            tracing::warn!(code = error.code(), error = %chain(&error), "metrics wait for the next invocation");
        }
    }

    async fn noted(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        self.inner.round_trip(calls).await.inspect_err(|_| self.sums.redis_failed())
    }
}

#[async_trait]
impl RedisPort for Metered {
    async fn round_trip(&self, mut calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        let Some(batch) = self.sums.next_batch() else { return self.noted(calls).await };
        let mut sent = SentBatch { sums: &self.sums, acknowledged: false };
        let asked = calls.len();
        calls.push(batch);
        let mut replies = self.noted(calls).await?;
        // The batch was the last call, and its reply is the last one.
        match (replies.len() > asked).then(|| replies.pop()).flatten() {
            Some(Ok(_)) => sent.acknowledged = true,
            // Redis rejects it, or its node does not answer: the work goes on without metrics.
            Some(Err(error)) => {
                tracing::warn!(error = %chain(&error), "Redis does not add metrics; they wait");
                self.sums.back_off();
            }
            None => {}
        }
        Ok(replies)
    }
}

/// Notes what became of a batch, also when its round trip is given up.
struct SentBatch<'s> {
    sums: &'s Sums,
    acknowledged: bool,
}

impl Drop for SentBatch<'_> {
    fn drop(&mut self) {
        self.sums.batch_ended(self.acknowledged);
    }
}
