//! Which deliveries have which status: a sorted set a status, scored by the last
//! change. Written beside the records, not with them, so a member may be stale;
//! readers check it against its record.

use domain::status::{Lifetimes, Status};
use domain::time::Millis;

use crate::redis::Call;

/// The index of one status.
pub fn key(status: Status) -> String {
    format!("webhook_index:{}", status.as_str())
}

/// Enters fresh deliveries, which are in no other index: at most two commands
/// for each status.
pub fn entered(fresh: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Vec<Call> {
    let mut calls = Vec::new();
    for status in Status::ALL {
        let ids: Vec<&str> = fresh.iter().filter(|(_, other)| *other == status).map(|(id, _)| id.as_str()).collect();
        if ids.is_empty() {
            continue;
        }
        let mut add = redis::cmd("ZADD");
        add.arg(key(status));
        for id in ids {
            add.arg(now.0).arg(id);
        }
        calls.push(add.into());
        let mut trim = redis::cmd("ZREMRANGEBYSCORE");
        trim.arg(key(status)).arg("-inf").arg(format!("({}", now.0.saturating_sub(lifetimes.of(status))));
        calls.push(trim.into());
    }
    calls
}

/// Moves deliveries to the index of their status and out of the others, and
/// trims what has outlived its record: at most twelve commands, however many
/// they are.
pub fn moved(changes: &[(String, Status)], now: Millis, lifetimes: Lifetimes) -> Vec<Call> {
    let mut calls = entered(changes, now, lifetimes);
    for status in Status::ALL {
        let leaving: Vec<&str> =
            changes.iter().filter(|(_, other)| *other != status).map(|(id, _)| id.as_str()).collect();
        if !leaving.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(key(status)).arg(leaving);
            calls.push(remove.into());
        }
    }
    calls
}
