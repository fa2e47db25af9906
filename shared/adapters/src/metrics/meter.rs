//! One process's meter: it records what an invocation does and lets it out, as sums
//! into Redis and as one line for CloudWatch.

use std::future::Future;
use std::sync::Arc;

use aws_lambda_events::sqs::SqsBatchResponse;
use domain::time::Millis;

use super::emf::{self, Head};
use super::names;
use super::recorder::Recording;
use super::sums::{Metered, Sums};
use crate::clock::Clock;
use crate::redis::transport::RedisPort;
use crate::telemetry;

/// One process's recorder and the ways out of it.
#[derive(Clone)]
pub struct Meter {
    function: &'static str,
    stack: String,
    version: Option<String>,
    clock: Clock,
    recording: Recording,
    sums: Arc<Sums>,
}

impl Meter {
    /// A meter that nothing records to yet.
    pub fn new(function: &'static str, stack: impl Into<String>, clock: Clock) -> Self {
        let recording = Recording::default();
        let sums = Arc::new(Sums::new(function, clock.clone(), recording.clone()));
        Self { function, stack: stack.into(), version: None, clock, recording, sums }
    }

    /// The same meter for a published version of its function.
    #[must_use]
    pub fn of_version(self, version: Option<String>) -> Self {
        Self { version, ..self }
    }

    /// Makes it this process's recorder, and counts the process.
    #[must_use]
    pub fn installed(self) -> Self {
        if metrics::set_global_recorder(self.recording.clone()).is_err() {
            tracing::error!("metrics have a recorder already");
        }
        names::cold_start(self.function);
        self
    }

    /// Records with this meter, whatever the process's recorder is: for tests, in
    /// which one process is a whole fleet.
    pub fn record(&self, recording: impl FnOnce()) {
        self.recording.record(recording);
    }

    /// Redis, whose round trips take along what is to be added to the sums.
    pub fn wrap(&self, redis: impl RedisPort + 'static) -> Metered {
        Metered::new(Arc::new(redis), Arc::clone(&self.sums))
    }

    /// Carries out one invocation: measures it, writes its line of EMF, and sends
    /// what no round trip of its own has taken along.
    pub async fn observe<T: Success>(&self, redis: &Metered, invocation: impl Future<Output = T>) -> T {
        let _gathered = telemetry::gather();
        self.sums.begin();
        let began = self.clock.now();
        let mut watch = Watch { meter: self, began, ended: false };
        let answer = invocation.await;
        watch.ended = true;
        let (succeeded, took) = (answer.succeeded(), began.until(self.clock.now()));
        self.record(|| names::invocation(self.function, succeeded, took));
        let told = self.sums.take_unwritten();
        if !told.is_empty() {
            let version = self.version.as_deref();
            let head = Head { stack: &self.stack, function: self.function, at_ms: self.clock.now().0, version };
            emf::write(head, &told);
        }
        if self.sums.has_urgent() {
            redis.flush().await;
        }
        answer
    }
}

/// Counts an invocation that panicked or was given up.
struct Watch<'m> {
    meter: &'m Meter,
    began: Millis,
    ended: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let took = self.began.until(self.meter.clock.now());
            self.meter.record(|| names::invocation(self.meter.function, false, took));
        }
    }
}

/// Whether an invocation's answer is a success.
pub trait Success {
    /// Whether it is.
    fn succeeded(&self) -> bool;
}

impl<B> Success for http::Response<B> {
    fn succeeded(&self) -> bool {
        !self.status().is_server_error()
    }
}

impl<E> Success for Result<SqsBatchResponse, E> {
    /// A batch of which something stays in its queue is not one.
    fn succeeded(&self) -> bool {
        self.as_ref().is_ok_and(|response| response.batch_item_failures.is_empty())
    }
}
