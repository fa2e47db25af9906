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

/// A series as it is named in Redis and in Prometheus: `name{label="value"}`. Its names are made
/// once, and not for every batch.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    name: String,
    /// Its labels, as they stand in braces.
    labels: String,
    dotted: String,
}

impl Series {
    fn of(key: &Key) -> Self {
        let labels: Vec<String> = key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
        let values = key.labels().map(|label| label.value());
        let dotted = std::iter::once(key.name()).chain(values).collect::<Vec<_>>().join(".");
        Self { name: key.name().to_owned(), labels: labels.join(","), dotted }
    }

    fn field(&self, suffix: &str, bound: Option<&str>) -> String {
        let Self { name, labels, .. } = self;
        match bound {
            None if labels.is_empty() => [name, suffix].concat(),
            None => [name, suffix, "{", labels, "}"].concat(),
            Some(bound) => {
                let comma = if labels.is_empty() { "" } else { "," };
                [name, suffix, "{", labels, comma, "le=\"", bound, "\"}"].concat()
            }
        }
    }

    /// The series' name in CloudWatch: its name and the values of its labels.
    pub(super) fn dotted(&self) -> &str {
        &self.dotted
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
    sums: HashMap<Key, Cell<Sum>>,
    observations: HashMap<Key, Cell<Observations>>,
}

/// What is kept of one series.
struct Cell<T> {
    series: Arc<Series>,
    kept: Arc<T>,
}

/// The cell of a key, which is made when it is first asked for.
fn cell<T: Default>(cells: &mut HashMap<Key, Cell<T>>, key: &Key) -> Arc<T> {
    if let Some(cell) = cells.get(key) {
        return Arc::clone(&cell.kept);
    }
    let kept = Arc::<T>::default();
    cells.insert(key.clone(), Cell { series: Arc::new(Series::of(key)), kept: Arc::clone(&kept) });
    kept
}

/// Keeps what is recorded until it is drained.
#[derive(Clone, Default)]
pub(super) struct Recording(Arc<Mutex<Cells>>);

impl Recorder for Recording {
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(cell(&mut lock(&self.0).sums, key))
    }

    /// Gauges are read where they are shown.
    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(cell(&mut lock(&self.0).observations, key))
    }
}

impl Recording {
    /// Takes out what was recorded since the last time.
    pub(super) fn drain(&self) -> Drained {
        let mut drained = Drained::default();
        let cells = lock(&self.0);
        for Cell { series, kept } in cells.sums.values() {
            let value = kept.0.swap(0, Ordering::Relaxed);
            if value > 0 {
                drained.sums.insert(Arc::clone(series), value);
            }
        }
        for Cell { series, kept } in cells.observations.values() {
            let values = std::mem::take(&mut *lock(&kept.0));
            if !values.is_empty() {
                drained.observations.insert(Arc::clone(series), values);
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
    pub(super) sums: BTreeMap<Arc<Series>, u64>,
    pub(super) observations: BTreeMap<Arc<Series>, Vec<f64>>,
}

impl Drained {
    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.observations.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (series, sum) in &other.sums {
            *self.sums.entry(Arc::clone(series)).or_default() += sum;
        }
        for (series, values) in &other.observations {
            self.observations.entry(Arc::clone(series)).or_default().extend(values);
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
                add(series.field("_bucket", Some(&bound)), count.to_string());
            }
            add(series.field("_count", None), values.len().to_string());
            add(series.field("_sum", None), format!("{:.6}", values.iter().sum::<f64>()));
        }
        fields
    }
}
