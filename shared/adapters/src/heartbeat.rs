//! Signs of life: a function that works says so in Redis, beside what it does anyway.

use domain::time::Millis;
use redis::FromRedisValue as _;

use crate::redis::{Call, Reply};

/// How long a sign of life is kept, in seconds.
const LIFE_S: u64 = 15 * 60;

fn key(function: &str) -> String {
    format!("heartbeat:{function}")
}

/// Says that a function works.
pub fn beat(function: &str, now: Millis) -> Call {
    let mut set = redis::cmd("SET");
    set.arg(key(function)).arg(now.0).arg("EX").arg(LIFE_S);
    set.into()
}

/// Asks when a function last worked.
pub fn last(function: &str) -> Call {
    let mut get = redis::cmd("GET");
    get.arg(key(function));
    get.into()
}

/// Reads the answer to [`last`]: `None` when it cannot be read, else when it was, if
/// it was.
pub fn heard(reply: Reply) -> Option<Option<Millis>> {
    Option::<u64>::from_redis_value(reply.ok()?).ok().map(|at| at.map(Millis))
}
