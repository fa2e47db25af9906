//! Dead letters as Redis shows them, and their index. DynamoDB keeps them.

use domain::time::Millis;
use redis::FromRedisValue as _;

use super::indexes::trim;
use super::query::Query;

/// Dead letters by when they were given up.
const INDEX: &str = "dead_letter_index";

/// The key of one dead letter.
pub fn key(id: &str) -> String {
    format!("dead_letter:webhook:{id}")
}

/// Shows a dead letter, `text`, for `life_s` seconds. With `keep_shown`, what is shown
/// already stays, because it may be newer.
pub fn show(id: &str, text: String, life_s: u64, keep_shown: bool) -> Query<()> {
    let mut set = redis::cmd("SET");
    set.arg(key(id)).arg(text).arg("EX").arg(life_s);
    if keep_shown {
        set.arg("NX");
    }
    Query::write("show dead letter", vec![set.into()])
}

/// Enters dead letters into the index, so that nobody has to look through all keys to
/// count them. Entries older than `life_s` seconds are trimmed.
pub fn enter<'a>(letters: impl Iterator<Item = (&'a str, Millis)>, now: Millis, life_s: u64) -> Query<()> {
    let mut add = redis::cmd("ZADD");
    add.arg(INDEX);
    let mut any = false;
    for (id, failed_at) in letters {
        add.arg(failed_at.0).arg(id);
        any = true;
    }
    let calls = if any { vec![add.into(), trim(INDEX, now, life_s.saturating_mul(1000))] } else { Vec::new() };
    Query::write("enter dead letters", calls)
}

/// Removes a dead letter and its index entry.
pub fn remove(id: &str) -> Query<()> {
    let mut delete = redis::cmd("DEL");
    delete.arg(key(id));
    let mut leave = redis::cmd("ZREM");
    leave.arg(INDEX).arg(id);
    Query::write("remove dead letter", vec![delete.into(), leave.into()])
}

/// How many dead letters Redis shows.
pub fn count() -> Query<u64> {
    let mut command = redis::cmd("ZCARD");
    command.arg(INDEX);
    Query::one("count dead letters", command, |value| u64::from_redis_value(value).ok())
}
