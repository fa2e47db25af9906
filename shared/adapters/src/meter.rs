//! Carries what was recorded out of the process: as sums into Redis, in round trips
//! that happen anyway, and as one line an invocation for CloudWatch (EMF).
//!
//! A Lambda cannot be scraped, so Redis holds the sums of all processes. What is
//! added goes out in numbered batches. One that got no answer is sent again as it
//! is, under its number, and Redis adds it once; a process that is killed takes
//! with it what it had not sent. So the sums are never too high.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_lambda_events::sqs::SqsBatchResponse;
use domain::time::Millis;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use uuid::Uuid;

use crate::clock::Clock;
use crate::metric::{self, Kind, can_wait, family_of};
use crate::redis::{Args, Call, Reply, Script, Unavailable, Wire};
use crate::telemetry;

static ADD: Script = Script::new(include_str!("scripts/add.lua"));

/// Most observations of one series between two drains; what is more is not kept.
const MAX_OBSERVATIONS: usize = 10_000;
/// Most values of one metric in one EMF document (CloudWatch, EMF specification).
const MAX_EMF_VALUES: usize = 100;
/// How long nothing is sent after a refusal, in ms.
const BACK_OFF_MS: u64 = 5_000;
/// What can wait is sent along with what cannot, or after this long, in ms.
const WAIT_MS: u64 = 10_000;

/// The hash that holds a function's sums.
pub fn key(function: &str) -> String {
    format!("metrics:{function}")
}

/// A series as it is named in Redis and in Prometheus: `name{label="value"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
}

impl Series {
    fn of(key: &Key) -> Self {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        Self { name: key.name().to_owned(), labels }
    }

    fn field(&self, suffix: &str, extra: Option<(&str, String)>) -> String {
        let own = self.labels.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let labels: Vec<String> = own.chain(extra).map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        match labels.is_empty() {
            true => format!("{}{suffix}", self.name),
            false => format!("{}{suffix}{{{}}}", self.name, labels.join(",")),
        }
    }

    /// The series' name in CloudWatch: its name and the values of its labels.
    fn dotted(&self) -> String {
        let values = self.labels.iter().map(|(_, value)| value.as_str());
        std::iter::once(self.name.as_str()).chain(values).collect::<Vec<_>>().join(".")
    }
}

#[derive(Default)]
struct Sum(AtomicU64);

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, _value: u64) {}
}

#[derive(Default)]
struct Observations(Mutex<Vec<f64>>);

impl HistogramFn for Observations {
    fn record(&self, value: f64) {
        let mut values = lock(&self.0);
        if values.len() < MAX_OBSERVATIONS {
            values.push(value);
        }
    }
}

#[derive(Default)]
struct Cells {
    sums: HashMap<Key, Arc<Sum>>,
    observations: HashMap<Key, Arc<Observations>>,
}

/// Keeps what is recorded until it is drained.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Cells>>);

impl Recorder for Recording {
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        let mut cells = lock(&self.0);
        let cell = cells.sums.entry(key.clone()).or_default();
        Counter::from_arc(Arc::clone(cell))
    }

    /// Gauges are read where they are shown.
    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        let mut cells = lock(&self.0);
        let cell = cells.observations.entry(key.clone()).or_default();
        Histogram::from_arc(Arc::clone(cell))
    }
}

/// What was recorded since the last time.
#[derive(Clone, Debug, Default)]
struct Drained {
    sums: BTreeMap<Series, u64>,
    observations: BTreeMap<Series, Vec<f64>>,
}

impl Drained {
    fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.observations.is_empty()
    }

    fn add(&mut self, other: &Self) {
        for (series, sum) in &other.sums {
            *self.sums.entry(series.clone()).or_default() += sum;
        }
        for (series, values) in &other.observations {
            self.observations.entry(series.clone()).or_default().extend(values);
        }
    }

    fn can_wait(&self) -> bool {
        self.sums.keys().chain(self.observations.keys()).all(|series| can_wait(&series.name))
    }

    /// What to add to which field: sums, and of observations how many were in
    /// each bucket, how many in all, and their sum.
    fn fields(&self) -> Vec<String> {
        let mut fields = Vec::new();
        let mut add = |field: String, value: String| fields.extend([field, value]);
        for (series, sum) in &self.sums {
            add(series.field("", None), sum.to_string());
        }
        for (series, values) in &self.observations {
            let bounds = match family_of(&series.name).map(|family| family.kind) {
                Some(Kind::Histogram(bounds)) => bounds,
                Some(Kind::Counter | Kind::Gauge) | None => &[],
            };
            let mut buckets: BTreeMap<usize, u64> = BTreeMap::new();
            for value in values {
                *buckets.entry(bounds.partition_point(|bound| bound < value)).or_default() += 1;
            }
            for (bucket, count) in buckets {
                let bound = bounds.get(bucket).map_or("+Inf".to_owned(), f64::to_string);
                add(series.field("_bucket", Some(("le", bound))), count.to_string());
            }
            add(series.field("_count", None), values.len().to_string());
            add(series.field("_sum", None), format!("{:.6}", values.iter().sum::<f64>()));
        }
        fields
    }
}

#[derive(Default)]
struct State {
    /// Not in any batch yet.
    fresh: Drained,
    /// For the next line of EMF.
    told: Drained,
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

/// One process's recorder and the way out of it.
#[derive(Clone)]
pub struct Meter {
    function: &'static str,
    stack: String,
    instance: String,
    clock: Clock,
    recording: Recording,
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// A meter that nothing records to yet.
    pub fn new(function: &'static str, stack: impl Into<String>, clock: Clock) -> Self {
        let instance = Uuid::new_v4().simple().to_string();
        let (recording, state) = (Recording::default(), Arc::default());
        Self { function, stack: stack.into(), instance, clock, recording, state }
    }

    /// Makes it this process's recorder, and counts the process.
    #[must_use]
    pub fn installed(self) -> Self {
        if metrics::set_global_recorder(self.recording.clone()).is_err() {
            tracing::error!("metrics have a recorder already");
        }
        metric::cold_start(self.function);
        self
    }

    /// Records with this meter, whatever the process's recorder is: for tests, in
    /// which one process is a whole fleet.
    pub fn record(&self, recording: impl FnOnce()) {
        metrics::with_local_recorder(&self.recording, recording);
    }

    /// The way to Redis, with room for what is to be added.
    pub fn aboard(&self, redis: impl Wire + 'static) -> Metered {
        Metered { inner: Arc::new(redis), meter: self.clone() }
    }

    /// Carries out one invocation: measures it, writes its line of EMF, and sends
    /// what no round trip of its own has taken along.
    pub async fn observe<T: Success>(&self, redis: &Metered, invocation: impl Future<Output = T>) -> T {
        let _gathered = telemetry::gather();
        lock(&self.state).redis_failed = false;
        let began = self.clock.now();
        let mut watch = Watch { meter: self, began, ended: false };
        let answer = invocation.await;
        watch.ended = true;
        let took = began.until(self.clock.now());
        self.record(|| metric::invocation(self.function, answer.succeeded(), took));
        self.drain();
        self.tell_emf();
        if self.has_urgent() {
            redis.flush().await;
        }
        answer
    }

    /// Moves what was recorded to where it waits for its way out.
    fn drain(&self) {
        let mut drained = Drained::default();
        let cells = lock(&self.recording.0);
        for (key, sum) in &cells.sums {
            let value = sum.0.swap(0, Ordering::Relaxed);
            if value > 0 {
                drained.sums.insert(Series::of(key), value);
            }
        }
        for (key, observations) in &cells.observations {
            let values = std::mem::take(&mut *lock(&observations.0));
            if !values.is_empty() {
                drained.observations.insert(Series::of(key), values);
            }
        }
        drop(cells);
        let mut state = lock(&self.state);
        state.fresh.add(&drained);
        state.told.add(&drained);
    }

    fn has_urgent(&self) -> bool {
        let state = lock(&self.state);
        let refused = state.not_before > self.clock.now().0;
        !state.redis_failed && !refused && (state.batch.is_some() || !state.fresh.can_wait())
    }

    /// The batch to send along, if there is one: one that got no answer first, as
    /// it was.
    fn cargo(&self) -> Option<Call> {
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
        let args = state.batch.clone()?;
        Some(Call::Script { script: &ADD, key: key(self.function), args })
    }

    fn back_off(&self) {
        let until = self.clock.now().0 + BACK_OFF_MS;
        lock(&self.state).not_before = until;
    }

    fn landed(&self, landed: bool) {
        let mut state = lock(&self.state);
        state.out = false;
        if landed {
            state.batch = None;
        }
    }

    /// Writes what was recorded since the last line.
    fn tell_emf(&self) {
        let told = std::mem::take(&mut lock(&self.state).told);
        if !told.is_empty() {
            let head = Head { stack: &self.stack, function: self.function, at_ms: self.clock.now().0 };
            write_line(&Emf { head, told: &told });
        }
    }
}

/// What every line of CloudWatch's embedded metric format begins with.
struct Head<'a> {
    stack: &'a str,
    function: &'a str,
    at_ms: u64,
}

impl Head<'_> {
    /// The line's members, with what tells CloudWatch which of them are metrics.
    fn write<S: Serializer, V: Serialize>(
        &self,
        serializer: S,
        members: impl IntoIterator<Item = (String, &'static str, V)>,
    ) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Name {
            name: String,
            unit: &'static str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Metrics {
            namespace: &'static str,
            dimensions: [[&'static str; 1]; 1],
            metrics: Vec<Name>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Directive {
            timestamp: u64,
            cloud_watch_metrics: [Metrics; 1],
        }
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("stack", self.stack)?;
        line.serialize_entry("function", self.function)?;
        let mut metrics = Vec::new();
        for (name, unit, value) in members {
            line.serialize_entry(&name, &value)?;
            metrics.push(Name { name, unit });
        }
        let metrics = Metrics { namespace: "Steadhook", dimensions: [["stack"]], metrics };
        line.serialize_entry("_aws", &Directive { timestamp: self.at_ms, cloud_watch_metrics: [metrics] })?;
        line.end()
    }
}

/// Sums and observations as one line.
struct Emf<'a> {
    head: Head<'a>,
    told: &'a Drained,
}

/// A metric's value in a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Sum(u64),
    Values(&'a [f64]),
}

impl Serialize for Emf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sums = self.told.sums.iter().map(|(series, sum)| (series.dotted(), "Count", Told::Sum(*sum)));
        let values = self.told.observations.iter().map(|(series, values)| {
            (series.dotted(), "Seconds", Told::Values(&values[..values.len().min(MAX_EMF_VALUES)]))
        });
        self.head.write(serializer, sums.chain(values))
    }
}

/// Values of this moment as one line.
struct Gauges<'a> {
    head: Head<'a>,
    gauges: &'a [(&'static str, &'static str, u64)],
}

impl Serialize for Gauges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.head.write(serializer, self.gauges.iter().map(|(name, unit, value)| ((*name).to_owned(), *unit, value)))
    }
}

/// Writes values of this moment as one line of EMF: name, unit, value.
pub fn tell(stack: &str, function: &str, at_ms: u64, gauges: &[(&'static str, &'static str, u64)]) {
    write_line(&Gauges { head: Head { stack, function, at_ms }, gauges });
}

/// Logs are lines of JSON on the standard output, and so is this.
fn write_line(line: &impl Serialize) {
    match serde_json::to_string(line) {
        Ok(line) => telemetry::write_line(&line),
        Err(error) => tracing::error!(%error, "metrics cannot be written"),
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
            self.meter.record(|| metric::invocation(self.meter.function, false, took));
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

/// Redis, with what is to be added to the sums aboard.
#[derive(Clone)]
pub struct Metered {
    inner: Arc<dyn Wire>,
    meter: Meter,
}

impl Metered {
    /// A round trip for the sums alone.
    async fn flush(&self) {
        if let Err(error) = self.wave(&[]).await {
            tracing::warn!(code = error.code(), error = ?error, "metrics wait for the next invocation");
        }
    }
}

#[async_trait]
impl Wire for Metered {
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        let Some(cargo) = self.meter.cargo() else { return self.note(self.inner.wave(calls).await) };
        let landing = Landing { meter: &self.meter, landed: false };
        let all: Vec<Call> = calls.iter().cloned().chain([cargo]).collect();
        let mut replies = self.note(self.inner.wave(&all).await)?;
        let mut landing = landing;
        match (replies.len() > calls.len()).then(|| replies.pop()).flatten() {
            Some(Ok(_)) => landing.landed = true,
            // It says no, or its node does not answer: the work goes on without metrics.
            Some(Err(error)) => {
                tracing::warn!(error = ?error, "redis does not add metrics; they wait");
                self.meter.back_off();
            }
            None => {}
        }
        Ok(replies)
    }
}

impl Metered {
    fn note(&self, answer: Result<Vec<Reply>, Unavailable>) -> Result<Vec<Reply>, Unavailable> {
        if answer.is_err() {
            self.meter.record(metric::redis_failed);
            lock(&self.meter.state).redis_failed = true;
        }
        answer
    }
}

/// Notes what became of a batch, also when its round trip is given up.
struct Landing<'m> {
    meter: &'m Meter,
    landed: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.meter.landed(self.landed);
    }
}
