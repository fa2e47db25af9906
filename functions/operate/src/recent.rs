//! `GET /deliveries/recent` and `GET /metrics/recent`: what happened lately.

use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::redis::query::QueryError;
use adapters::redis::recent;
use adapters::telemetry::chain;
use domain::time::Millis;
use serde_json::{Map, Value, json};

use crate::Operate;
use crate::request::{MAX_PAGE, PAGE};

/// What is counted by the minute.
const SUMS: [&str; 6] = ["delivered", "failed", "retried", "parked", "calls", "call_ms"];

impl Operate {
    /// The deliveries that ended last, newest first.
    pub(crate) async fn recent_deliveries(&self, query: &str) -> Result<Value, Problem> {
        let mut query = QueryString::of(query);
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        query.finish()?;
        let entries = recent::latest(limit).run(self.redis.as_ref()).await.map_err(|error| away(&error))?;
        let read = |entry: &String| serde_json::from_str::<Map<String, Value>>(entry).ok();
        Ok(json!({ "deliveries": entries.iter().filter_map(read).collect::<Vec<_>>() }))
    }

    /// The sums of the last minutes, the oldest first.
    pub(crate) async fn recent_metrics(&self, query: &str) -> Result<Value, Problem> {
        let most = usize::try_from(recent::MOST_MINUTES).unwrap_or(usize::MAX);
        let mut query = QueryString::of(query);
        let minutes = query.number("minutes", most, 1..=most);
        query.finish()?;
        let now = self.clock.now();
        let reading = recent::read(now, u64::try_from(minutes).unwrap_or(u64::MAX));
        let sums = reading.run(self.redis.as_ref()).await.map_err(|error| away(&error))?;
        let last = recent::minute_of(now);
        let mut shown = Vec::with_capacity(sums.len());
        for (ago, sums) in (0..).zip(sums.iter().rev()) {
            let mut minute = json!({ "at": Millis((last - ago) * 60_000).to_string() });
            for name in SUMS {
                minute[name] = json!(sums.get(name).copied().unwrap_or_default());
            }
            shown.push(minute);
        }
        shown.reverse();
        Ok(json!({ "minutes": shown }))
    }
}

fn away(error: &QueryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(error), "what happened lately cannot be read");
    Problem::unavailable("This cannot be read now; deliveries go on.")
}
