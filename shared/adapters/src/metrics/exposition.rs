//! The metrics of the whole fleet as Prometheus reads them: sums from Redis, and
//! what Redis and the queues are at this moment. Nothing is scanned: keys are
//! counted by their indexes.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::breaker::{Breaker, State, shown_name};
use domain::status::Status;
use domain::time::Millis;
use futures_util::future::{join, join_all};
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use strum::IntoEnumIterator as _;

use super::names::{self, DeliveryKind, FAMILIES, FUNCTIONS, Family, Kind};
use crate::aws::sqs::{Depth, Depths, QueueName};
use crate::redis::indexes::Indexes;
use crate::redis::info::Info;
use crate::redis::query::{QueryError, Trip};
use crate::redis::transport::RedisPort;
use crate::redis::{breakers, dead_letters, indexes, sums};
use crate::telemetry::chain;

/// Most breakers that are shown one by one.
const MAX_BREAKERS: usize = 100;
/// How long one source may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `content-type` the text has.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What Redis says.
#[derive(Debug, Default)]
struct View {
    /// Sums over all functions, by series.
    sums: BTreeMap<String, f64>,
    statuses: Vec<u64>,
    oldest_pending_s: u64,
    keys: Vec<u64>,
    info: Info,
    breakers: Vec<(String, Breaker)>,
}

/// What there is to show.
#[derive(Debug)]
pub struct Snapshot {
    at: Millis,
    view: Option<View>,
    queues: Vec<(QueueName, Depth)>,
}

impl Snapshot {
    /// Reads everything at once. What does not answer is left out, and told by
    /// `redis_up`.
    pub async fn read(redis: &dyn RedisPort, queues: Option<&dyn Depths>, now: Millis, indexes: Indexes) -> Self {
        let (view, queues) = join(View::read(redis, now, indexes), depths(queues)).await;
        Self { at: now, view, queues }
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        for family in &FAMILIES {
            let lines = self.lines(family);
            if lines.is_empty() {
                continue;
            }
            write_help_line(&mut text, family.name, None, None, family.help);
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Histogram(_) => "histogram",
                Kind::Gauge => "gauge",
            };
            write_type_line(&mut text, family.name, None, None, kind);
            for (series, value) in lines {
                text.push_str(&format!("{series} {value}\n"));
            }
        }
        text
    }

    fn lines(&self, family: &Family) -> Vec<(String, f64)> {
        #[allow(clippy::cast_precision_loss, reason = "Prometheus's values are doubles")]
        let value = |number: u64| number as f64;
        if family.name == names::QUEUE_MESSAGES {
            let of = |(queue_name, depth): &(QueueName, Depth)| {
                let figures = [("visible", depth.visible), ("in_flight", depth.in_flight), ("delayed", depth.delayed)];
                figures.map(|(state, count)| {
                    (series(family.name, &[("queue", queue_name.as_str()), ("state", state)]), value(count))
                })
            };
            return self.queues.iter().flat_map(of).collect();
        }
        if family.name == names::REDIS_UP {
            return vec![(family.name.to_owned(), value(u64::from(self.view.is_some())))];
        }
        let Some(view) = &self.view else { return Vec::new() };
        let plain = |number: u64| vec![(family.name.to_owned(), value(number))];
        match family.name {
            names::REDIS_MEMORY => plain(view.info.used_memory),
            names::REDIS_MAX_MEMORY => plain(view.info.max_memory),
            names::REDIS_EVICTED => plain(view.info.evicted_keys),
            names::OLDEST_PENDING => plain(view.oldest_pending_s),
            names::STATUSES_NOW => labelled(family, &view.statuses),
            names::REDIS_KEYS => labelled(family, &view.keys),
            names::BREAKERS => {
                let count = |state, kind| {
                    let is_such = |(name, breaker): &&(String, Breaker)| {
                        breaker.seen_at(self.at) == state && DeliveryKind::of_breaker(name) == kind
                    };
                    view.breakers.iter().filter(is_such).count() as u64
                };
                let counts = State::iter().flat_map(|state| DeliveryKind::iter().map(move |kind| count(state, kind)));
                labelled(family, &counts.collect::<Vec<_>>())
            }
            names::BREAKER_STATE => self.breaker_lines(view),
            _ => match family.kind {
                Kind::Counter => every(family).iter().map(|labels| view.sum(&series(family.name, labels))).collect(),
                Kind::Histogram(bounds) => {
                    every(family).iter().flat_map(|labels| view.histogram(family.name, labels, bounds)).collect()
                }
                Kind::Gauge => Vec::new(),
            },
        }
    }

    fn breaker_lines(&self, view: &View) -> Vec<(String, f64)> {
        let level = |breaker: &Breaker| match breaker.seen_at(self.at) {
            State::Closed => None,
            State::HalfOpen => Some(1.0),
            State::Open => Some(2.0),
        };
        let line = |(to, breaker): &(String, Breaker)| {
            Some((series(names::BREAKER_STATE, &[("destination", &shown_name(to))]), level(breaker)?))
        };
        let is_direct = |(name, _): &&(String, Breaker)| DeliveryKind::of_breaker(name) == DeliveryKind::Direct;
        view.breakers.iter().filter(is_direct).filter_map(line).take(MAX_BREAKERS).collect()
    }
}

/// `name{label="value"}`, escaped.
fn series(name: &str, labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let label = |(label, value): &(&str, &str)| format!("{label}=\"{}\"", sanitize_label_value(value));
    format!("{name}{{{}}}", labels.iter().map(label).collect::<Vec<_>>().join(","))
}

/// Every combination of a family's label values.
fn every(family: &Family) -> Vec<Vec<(&'static str, &'static str)>> {
    let mut all = vec![Vec::new()];
    for (label, values) in family.labels {
        let with = |labels: &Vec<_>| {
            values.iter().map(|value| [labels.as_slice(), &[(*label, *value)]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}

/// A family with one label, by the order of its values.
fn labelled(family: &Family, numbers: &[u64]) -> Vec<(String, f64)> {
    #[allow(clippy::cast_precision_loss, reason = "Prometheus's values are doubles")]
    let line = |(labels, number): (Vec<_>, &u64)| (series(family.name, &labels), *number as f64);
    every(family).into_iter().zip(numbers).map(line).collect()
}

async fn depths(queues: Option<&dyn Depths>) -> Vec<(QueueName, Depth)> {
    let Some(queues) = queues else { return Vec::new() };
    let ask = |queue_name: QueueName| async move {
        match tokio::time::timeout(PATIENCE, queues.depth(queue_name)).await {
            Ok(Ok(depth)) => Some((queue_name, depth)),
            Ok(Err(error)) => {
                tracing::error!(queue = queue_name.as_str(), code = error.code(), error = %chain(&error), "queue");
                None
            }
            Err(_) => None,
        }
    };
    join_all(QueueName::iter().map(ask)).await.into_iter().flatten().collect()
}

impl View {
    async fn read(redis: &dyn RedisPort, now: Millis, indexes: Indexes) -> Option<Self> {
        let reading = Self::try_read(redis, now, indexes);
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(view)) => Some(view),
            Ok(Err(error)) => {
                tracing::error!(code = error.code(), error = %chain(&error), "metrics cannot be read");
                None
            }
            Err(_) => None,
        }
    }

    async fn try_read(redis: &dyn RedisPort, now: Millis, indexes: Indexes) -> Result<Self, QueryError> {
        let mut trip = Trip::default();
        let sums = FUNCTIONS.map(|function| trip.add(sums::read(function)));
        let statuses = trip.add_all(indexes::Kind::ALL.map(|kind| indexes.counts(kind, now)));
        let dead_letters = trip.add(dead_letters::count());
        let breaker_keys = trip.add(breakers::count());
        let oldest = trip.add(indexes::oldest(indexes.shards(), Status::Pending));
        let info = trip.add(Info::query());
        let mut replies = trip.run(redis).await?;

        let mut view = Self::default();
        for ticket in sums {
            view.add(ticket.take(&mut replies)?);
        }
        view.statuses = vec![0; Status::iter().count()];
        for counts in statuses {
            let counts = counts.take(&mut replies)?;
            view.statuses.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        view.keys =
            vec![view.statuses.iter().sum(), dead_letters.take(&mut replies)?, breaker_keys.take(&mut replies)?];
        let oldest = oldest.take(&mut replies).ok().flatten();
        view.oldest_pending_s = oldest.map_or(0, |at| at.until(now).as_secs());
        view.info = info.take(&mut replies).unwrap_or_default();
        view.breakers = breakers::survey(redis).await?;
        Ok(view)
    }

    /// Adds one function's sums. The marks of its processes are no numbers.
    fn add(&mut self, fields: BTreeMap<String, String>) {
        for (field, value) in fields.into_iter().filter(|(field, _)| !field.starts_with('_')) {
            if let Ok(value) = value.parse::<f64>() {
                *self.sums.entry(field).or_default() += value;
            }
        }
    }

    fn sum(&self, series: &str) -> (String, f64) {
        (series.to_owned(), self.sums.get(series).copied().unwrap_or_default())
    }

    /// Buckets grow towards `+Inf`, which is the count.
    fn histogram(&self, name: &str, labels: &[(&str, &str)], bounds: &[f64]) -> Vec<(String, f64)> {
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        let mut total = 0.0;
        let mut lines = Vec::with_capacity(bounds.len() + 3);
        for bound in bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]) {
            let (line, within) = self.sum(&series(&bucket, &[labels, &[("le", &bound)]].concat()));
            total += within;
            lines.push((line, total));
        }
        lines.push(self.sum(&series(&sum, labels)));
        lines.push((series(&count, labels), total));
        lines
    }
}
