//! What happened lately: a bounded list of the deliveries that ended last, and sums of the last
//! hour by the minute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::time::{Millis, whole_ms};
use redis::FromRedisValue as _;

use super::query::{Query, QueryError};
use super::script::Args;
use super::sums::ADD;
use super::transport::{Call, RedisPort};

/// The deliveries that ended last, the last one first.
const DELIVERIES: &str = "recent_deliveries";
/// How many of them are kept.
const MOST_DELIVERIES: usize = 1000;
/// How many minutes can be read.
pub const MOST_MINUTES: u64 = 60;
/// How long the sums of a minute live after the last addition.
const SUMS_LIFE: Duration = Duration::from_secs(2 * 3600);

/// Adds deliveries that ended, each as a text, the last one last.
pub fn push(entries: &[String]) -> Query<()> {
    let mut calls = Vec::new();
    if !entries.is_empty() {
        let mut push = redis::cmd("LPUSH");
        push.arg(DELIVERIES).arg(entries);
        let mut trim = redis::cmd("LTRIM");
        trim.arg(DELIVERIES).arg(0).arg(MOST_DELIVERIES - 1);
        calls = vec![push.into(), trim.into()];
    }
    Query::write("push recent", calls)
}

/// The deliveries that ended last, newest first, `limit` at most. What stands there twice,
/// because it was sent again after a time-out, is given once.
pub fn latest(limit: usize) -> Query<Vec<String>> {
    let mut range = redis::cmd("LRANGE");
    range.arg(DELIVERIES).arg(0).arg(MOST_DELIVERIES - 1);
    Query::one("latest deliveries", range, move |value| {
        let entries = Vec::<String>::from_redis_value(value).ok()?;
        let mut seen = BTreeSet::new();
        Some(entries.into_iter().filter(|entry| seen.insert(entry.clone())).take(limit).collect())
    })
}

/// Takes out the deliveries of a tenant.
///
/// # Errors
/// When Redis is away or gives no usable reply.
pub async fn forget(redis: &dyn RedisPort, tenant: &str) -> Result<(), QueryError> {
    let mark = format!("\"tenant\":\"{tenant}\"");
    let entries = latest(MOST_DELIVERIES).run(redis).await?;
    let remove = |entry: &String| {
        let mut remove = redis::cmd("LREM");
        remove.arg(DELIVERIES).arg(0).arg(entry);
        remove.into()
    };
    let calls: Vec<Call> = entries.iter().filter(|entry| entry.contains(&mark)).map(remove).collect();
    if calls.is_empty() { Ok(()) } else { Query::write("forget recent", calls).run(redis).await }
}

/// The minute since the epoch that this instant is in.
pub fn minute_of(now: Millis) -> u64 {
    now.as_secs() / 60
}

fn sums_key(minute: u64) -> String {
    format!("recent_sums:{minute}")
}

/// Adds a batch of a process to the sums of a minute. Redis adds each number of an instance
/// once.
pub fn add<'a>(minute: u64, instance: &str, batch: u64, fields: impl IntoIterator<Item = (&'a str, u64)>) -> Query<()> {
    let mut args = Args::new().with(instance).with(batch);
    for (field, value) in fields {
        args = args.with(field).with(value);
    }
    let args = args.with(whole_ms(SUMS_LIFE));
    let call = Call::Script { script: &ADD, key: sums_key(minute), args };
    Query::one("add recent sums", call, |_| Some(()))
}

/// The sums of the last minutes, 60 at most, the oldest first and the present one last.
pub fn read(now: Millis, minutes: u64) -> Query<Vec<BTreeMap<String, u64>>> {
    let last = minute_of(now);
    let first = (last + 1).saturating_sub(minutes.min(MOST_MINUTES));
    let get = |minute| {
        let mut command = redis::cmd("HGETALL");
        command.arg(sums_key(minute));
        command.into()
    };
    Query::several("recent sums", (first..=last).map(get).collect(), |replies| {
        let sums = |value| {
            let fields = BTreeMap::<String, String>::from_redis_value(value).ok()?;
            // The marks of processes begin with `_`.
            let sums = fields.into_iter().filter(|(field, _)| !field.starts_with('_'));
            Some(sums.filter_map(|(field, value)| Some((field, value.parse().ok()?))).collect())
        };
        replies.into_iter().map(sums).collect()
    })
}
