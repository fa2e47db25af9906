//! Sums of metrics: one hash for each function, with a field for each series.

use std::collections::BTreeMap;

use redis::FromRedisValue as _;

use super::query::Query;
use super::script::{Args, Script};
use super::transport::Call;

pub(super) static ADD: Script = Script::new("add", include_str!("scripts/add.lua"));

fn key(function: &str) -> String {
    format!("metrics:{function}")
}

/// Adds a batch of a process: its instance, the batch's number, then fields and values
/// in pairs. Redis adds each number of an instance once.
pub(crate) fn add(function: &str, batch: Args) -> Call {
    Call::Script { script: &ADD, key: key(function), args: batch }
}

/// All fields of a function: sums, and marks of instances, which begin with `_`.
pub fn read(function: &str) -> Query<BTreeMap<String, String>> {
    let mut command = redis::cmd("HGETALL");
    command.arg(key(function));
    Query::one("read sums", command, |value| BTreeMap::from_redis_value(value).ok())
}
