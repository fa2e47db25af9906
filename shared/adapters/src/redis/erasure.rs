//! Deletes the records that Redis has of a tenant. No index names them all, so this walks through
//! all keys: in small steps, node by node, and on from where an earlier walk stopped.

use std::fmt;
use std::str::FromStr;

use domain::time::Millis;
use redis::{FromRedisValue as _, Value};

use super::info::is_cluster;
use super::query::{Query, QueryError, Trip};
use super::records::field;
use super::transport::{Call, RedisPort};

/// About how many keys one step looks at.
const STEP: usize = 500;

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    /// A slot that the node serves.
    slot: u16,
    /// The node's own cursor; 0 to begin.
    cursor: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.cursor)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (slot, cursor) = text.split_once('.').ok_or(())?;
        Ok(Self { slot: slot.parse().map_err(drop)?, cursor: cursor.parse().map_err(drop)? })
    }
}

/// Deletes the records of a tenant's events and deliveries that were accepted at `before` or
/// earlier, and the marks of its events that were erased by then. Begins at `position`, or at
/// the beginning, and stops after the step that makes `is_over` true. Gives where to go on;
/// `None` when everything was walked through. What moves to another node meanwhile may be
/// missed, and a second walk finds it.
///
/// # Errors
/// When Redis is away or gives no usable reply. The walk may begin at the same position again.
pub async fn sweep(
    redis: &dyn RedisPort,
    tenant: &str,
    before: Millis,
    position: Option<&str>,
    is_over: impl Fn() -> bool + Send,
) -> Result<Option<String>, QueryError> {
    let slots = slots_of_nodes(redis).await?;
    let begin = Position { slot: slots.first().copied().unwrap_or_default(), cursor: 0 };
    let mut position = position.and_then(|text| text.parse().ok()).unwrap_or(begin);
    loop {
        let (cursor, keys) = scan(position).run(redis).await?;
        delete(redis, tenant, before, keys).await?;
        position = match (cursor, slots.iter().find(|slot| **slot > position.slot)) {
            (0, None) => return Ok(None),
            (0, Some(&slot)) => Position { slot, cursor: 0 },
            (cursor, _) => Position { cursor, ..position },
        };
        if is_over() {
            return Ok(Some(position.to_string()));
        }
    }
}

/// The first slot of each node that has keys of its own, in order.
async fn slots_of_nodes(redis: &dyn RedisPort) -> Result<Vec<u16>, QueryError> {
    if !is_cluster().run(redis).await? {
        return Ok(vec![0]);
    }
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let call = Call::OnNode { slot: 0, command };
    Query::one("cluster slots", call, first_slots).run(redis).await
}

/// From ranges of slots: the first, the last, the node that serves them, its replicas.
fn first_slots(value: Value) -> Option<Vec<u16>> {
    let mut ranges = Vec::new();
    for range in Vec::<Value>::from_redis_value(value).ok()? {
        let mut parts = Vec::<Value>::from_redis_value(range).ok()?.into_iter();
        let first = u16::from_redis_value(parts.next()?).ok()?;
        ranges.push((first, parts.nth(1)?));
    }
    ranges.sort_by_key(|(first, _)| *first);
    let mut nodes: Vec<(u16, Value)> = Vec::new();
    for (first, node) in ranges {
        if nodes.iter().all(|(_, known)| *known != node) {
            nodes.push((first, node));
        }
    }
    Some(nodes.into_iter().map(|(first, _)| first).collect())
}

/// One step: the node's next cursor, and hashes whose keys begin as those of deliveries or
/// events do.
fn scan(position: Position) -> Query<(u64, Vec<String>)> {
    let mut command = redis::cmd("SCAN");
    command.arg(position.cursor).arg("MATCH").arg("[de]*").arg("COUNT").arg(STEP).arg("TYPE").arg("hash");
    Query::one("scan", Call::OnNode { slot: position.slot, command }, |value| {
        let (cursor, keys) = <(u64, Vec<Vec<u8>>)>::from_redis_value(value).ok()?;
        Some((cursor, keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect()))
    })
}

/// Deletes those of the keys that are the tenant's.
async fn delete(redis: &dyn RedisPort, tenant: &str, before: Millis, keys: Vec<String>) -> Result<(), QueryError> {
    let events = format!("event:{tenant}:");
    let mut trip = Trip::default();
    let mut looks = Vec::new();
    for key in keys {
        let is_event = key.starts_with(&events);
        if is_event || key.starts_with("delivery:") {
            let look = trip.add(owner(&key));
            looks.push((key, is_event, look));
        }
    }
    let mut replies = trip.run(redis).await?;
    let mut deletion = Trip::default();
    let mut deleted = Vec::new();
    for (key, is_event, look) in looks {
        match look.take(&mut replies) {
            Ok((owner, accepted_at)) => {
                let is_the_tenants = is_event || owner.as_deref() == Some(tenant);
                if is_the_tenants && accepted_at <= before {
                    let mut command = redis::cmd("DEL");
                    command.arg(key);
                    deleted.push(deletion.add(Query::write("delete record", vec![command.into()])));
                }
            }
            // It is no record any more.
            Err(error) if error.is_answer() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut replies = deletion.run(redis).await?;
    for ticket in deleted {
        ticket.take(&mut replies)?;
    }
    Ok(())
}

/// Whose record it is, and when what it tells of was accepted.
fn owner(key: &str) -> Query<(Option<String>, Millis)> {
    let mut get = redis::cmd("HMGET");
    get.arg(key).arg(field::TENANT).arg(field::CREATED_AT);
    Query::one("owner", get, |value| {
        let (owner, accepted_at) = <(Option<String>, Option<String>)>::from_redis_value(value).ok()?;
        Some((owner, Millis(accepted_at.and_then(|at| at.parse().ok()).unwrap_or_default())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_several_ranges_of_slots_is_walked_once() {
        let range = |first, last, port| {
            let node = Value::Array(vec![Value::BulkString(b"host".to_vec()), Value::Int(port)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node])
        };
        let value = Value::Array(vec![range(9000, 16383, 1), range(0, 99, 2), range(100, 8999, 1)]);
        assert_eq!(first_slots(value), Some(vec![0, 100]));
    }

    #[test]
    fn a_position_survives_a_message() {
        let position = Position { slot: 5461, cursor: u64::MAX };
        assert_eq!(position.to_string().parse(), Ok(position));
        assert_eq!("x".parse::<Position>(), Err(()));
    }
}
