//! Heartbeats: a function that works says so in Redis, beside what it does anyway.

use domain::time::Millis;
use redis::FromRedisValue as _;

use super::query::Query;

/// How long a heartbeat is kept, in seconds.
const LIFE_S: u64 = 15 * 60;

fn key(function: &str) -> String {
    format!("heartbeat:{function}")
}

/// Says that a function works.
pub fn beat(function: &str, now: Millis) -> Query<()> {
    let mut set = redis::cmd("SET");
    set.arg(key(function)).arg(now.0).arg("EX").arg(LIFE_S);
    Query::write("heartbeat", vec![set.into()])
}

/// When a function last worked; `None` if it did not for a while.
pub fn last(function: &str) -> Query<Option<Millis>> {
    let mut get = redis::cmd("GET");
    get.arg(key(function));
    Query::one("last heartbeat", get, |value| Some(Option::<u64>::from_redis_value(value).ok()?.map(Millis)))
}
