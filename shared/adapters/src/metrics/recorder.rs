//! The recorder for the crate `metrics`: it keeps what a process records until it is
//! drained.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::names::{Kind, can_wait, family_of};

/// Most observations of one series between two drains; what is more is not kept.
const MAX_OBSERVATIONS: usize = 10_000;

/// Locks, whatever a panic left behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A series as it is named in Redis and in Prometheus: `name{label="value"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
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
    pub(super) fn dotted(&self) -> String {
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
pub(super) struct Recording(Arc<Mutex<Cells>>);

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

impl Recording {
    /// Takes out what was recorded since the last time.
    pub(super) fn drain(&self) -> Drained {
        let mut drained = Drained::default();
        let cells = lock(&self.0);
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
        drained
    }

    /// Records with this recorder, whatever the process's recorder is.
    pub(super) fn record(&self, recording: impl FnOnce()) {
        metrics::with_local_recorder(self, recording);
    }
}

/// What was recorded since the last time.
#[derive(Clone, Debug, Default)]
pub(super) struct Drained {
    pub(super) sums: BTreeMap<Series, u64>,
    pub(super) observations: BTreeMap<Series, Vec<f64>>,
}

impl Drained {
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.observations.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (series, sum) in &other.sums {
            *self.sums.entry(series.clone()).or_default() += sum;
        }
        for (series, values) in &other.observations {
            self.observations.entry(series.clone()).or_default().extend(values);
        }
    }

    pub(super) fn can_wait(&self) -> bool {
        self.sums.keys().chain(self.observations.keys()).all(|series| can_wait(&series.name))
    }

    /// What to add to which field: sums, and of observations how many were in
    /// each bucket, how many in all, and their sum.
    pub(super) fn fields(&self) -> Vec<String> {
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
