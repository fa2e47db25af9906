//! The metrics of the whole fleet as Prometheus reads them: sums from Redis, and
//! what Redis and the queues are at this moment. Nothing is scanned: keys are
//! counted by their indexes.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::breaker::{Breaker, State};
use domain::status::{Lifetimes, Status};
use domain::time::Millis;
use futures_util::future::{join, join_all};
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use redis::FromRedisValue as _;

use crate::metric::{self, FAMILIES, FUNCTIONS, Family, Kind};
use crate::redis::{Call, Reply, Wire};
use crate::redis_info::Info;
use crate::sqs::{Depth, Depths, Lane};
use crate::{breaker, index, meter};

/// Most breakers that are shown one by one.
const MAX_BREAKERS: usize = 100;
/// How long one source may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Marks of processes that added nothing for so long are forgotten, in ms.
const MARK_LIFE_MS: u64 = 86_400_000;

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
    queues: Vec<(Lane, Depth)>,
}

/// The dead letters that Redis shows, by when they were given up.
pub const DEAD_LETTER_INDEX: &str = "dead_letter_index";

impl Snapshot {
    /// Reads everything at once. What does not answer is left out, and told by
    /// `redis_up`.
    pub async fn read(redis: &dyn Wire, queues: Option<&dyn Depths>, now: Millis, lifetimes: Lifetimes) -> Self {
        let (view, queues) = join(View::read(redis, now, lifetimes), depths(queues)).await;
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
        if family.name == metric::QUEUE_MESSAGES {
            let of = |(lane, depth): &(Lane, Depth)| {
                let figures = [("visible", depth.visible), ("in_flight", depth.in_flight), ("delayed", depth.delayed)];
                figures.map(|(state, count)| {
                    (series(family.name, &[("queue", lane.as_str()), ("state", state)]), value(count))
                })
            };
            return self.queues.iter().flat_map(of).collect();
        }
        if family.name == metric::REDIS_UP {
            return vec![(family.name.to_owned(), value(u64::from(self.view.is_some())))];
        }
        let Some(view) = &self.view else { return Vec::new() };
        let plain = |number: u64| vec![(family.name.to_owned(), value(number))];
        match family.name {
            metric::REDIS_MEMORY => plain(view.info.used_memory),
            metric::REDIS_MAX_MEMORY => plain(view.info.max_memory),
            metric::REDIS_EVICTED => plain(view.info.evicted_keys),
            metric::OLDEST_PENDING => plain(view.oldest_pending_s),
            metric::STATUSES_NOW => labelled(family, &view.statuses),
            metric::REDIS_KEYS => labelled(family, &view.keys),
            metric::BREAKERS => {
                let count = |state| view.breakers.iter().filter(|(_, b)| b.seen_at(self.at) == state).count() as u64;
                labelled(family, &[State::Closed, State::HalfOpen, State::Open].map(count))
            }
            metric::BREAKER_STATE => self.breaker_lines(view),
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
            Some((series(metric::BREAKER_STATE, &[("destination", to)]), level(breaker)?))
        };
        view.breakers.iter().filter_map(line).take(MAX_BREAKERS).collect()
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

async fn depths(queues: Option<&dyn Depths>) -> Vec<(Lane, Depth)> {
    let Some(queues) = queues else { return Vec::new() };
    let ask = |lane: Lane| async move {
        match tokio::time::timeout(PATIENCE, queues.depth(lane)).await {
            Ok(Ok(depth)) => Some((lane, depth)),
            Ok(Err(error)) => {
                tracing::error!(queue = lane.as_str(), code = error.code(), %error, "queue");
                None
            }
            Err(_) => None,
        }
    };
    join_all(Lane::ALL.map(ask)).await.into_iter().flatten().collect()
}

impl View {
    async fn read(redis: &dyn Wire, now: Millis, lifetimes: Lifetimes) -> Option<Self> {
        let reading = async {
            let mut calls: Vec<Call> = FUNCTIONS.iter().map(|function| get_all(function)).collect();
            calls.extend(index::counts(now, lifetimes));
            calls.push(count(DEAD_LETTER_INDEX));
            calls.push(count(breaker::INDEX));
            calls.push(index::oldest(Status::Pending));
            calls.extend(Info::calls());
            let replies = redis.wave(&calls).await.inspect_err(|error| {
                tracing::error!(code = error.code(), error = ?error, "metrics cannot be read");
            });
            let mut replies = replies.ok()?.into_iter();
            let mut view = Self::default();
            let mut stale = Vec::new();
            for function in FUNCTIONS {
                view.add(function, replies.next()?, now, &mut stale)?;
            }
            let mut number = || u64::from_redis_value(replies.next()?.ok()?).ok();
            view.statuses = Status::ALL.iter().map(|_| number()).collect::<Option<_>>()?;
            view.keys = vec![view.statuses.iter().sum(), number()?, number()?];
            let oldest = replies.next().and_then(index::oldest_at);
            view.oldest_pending_s = oldest.map_or(0, |at| at.until(now).as_secs());
            view.info = Info::read(replies);
            view.breakers = breaker::survey(redis).await.ok()?;
            if !stale.is_empty() {
                // What is not forgotten now is forgotten at the next reading.
                drop(redis.wave(&stale).await);
            }
            Some(view)
        };
        tokio::time::timeout(PATIENCE, reading).await.ok().flatten()
    }

    /// Adds one function's sums, and gathers its marks that are too old.
    fn add(&mut self, function: &str, reply: Reply, now: Millis, stale: &mut Vec<Call>) -> Option<()> {
        let fields = BTreeMap::<String, String>::from_redis_value(reply.ok()?).ok()?;
        let mut old = redis::cmd("HDEL");
        old.arg(meter::key(function));
        let mut any = false;
        for (field, value) in fields {
            if field.starts_with('_') {
                let marked = value.split_once(' ').and_then(|(_, at)| at.parse::<u64>().ok());
                if marked.is_none_or(|at| now.0.saturating_sub(at) > MARK_LIFE_MS) {
                    old.arg(field);
                    any = true;
                }
            } else if let Ok(value) = value.parse::<f64>() {
                *self.sums.entry(field).or_default() += value;
            }
        }
        stale.extend(any.then(|| old.into()));
        Some(())
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

fn get_all(function: &str) -> Call {
    let mut command = redis::cmd("HGETALL");
    command.arg(meter::key(function));
    command.into()
}

fn count(key: &str) -> Call {
    let mut command = redis::cmd("ZCARD");
    command.arg(key);
    command.into()
}
