//! What Redis says of itself: memory and evictions.

use redis::{FromRedisValue as _, Value};

use super::query::Query;
use super::transport::Call;

/// Whether Redis answers.
pub fn ping() -> Query<()> {
    Query::write("ping", vec![redis::cmd("PING").into()])
}

/// Redis's figures; of a cluster, the sums over its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Bytes that are used.
    pub used_memory: u64,
    /// Bytes that may be used; 0 for no limit.
    pub max_memory: u64,
    /// Keys that were evicted since it started.
    pub evicted_keys: u64,
    /// What is evicted when memory is full; empty if unknown.
    pub eviction_policy: String,
}

impl Info {
    /// Asks for the figures. What is not told is 0.
    pub fn query() -> Query<Self> {
        let section = |name: &str| {
            let mut command = redis::cmd("INFO");
            command.arg(name);
            Call::from(command)
        };
        Query::several("info", vec![section("memory"), section("stats")], |replies| Some(Self::read(replies)))
    }

    fn read(replies: Vec<Value>) -> Self {
        let texts: Vec<String> = replies.into_iter().flat_map(texts).collect();
        let all = |name: &str| -> Vec<&str> {
            let lines = texts.iter().flat_map(|text| text.lines());
            lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).collect()
        };
        let sum = |name: &str| all(name).iter().filter_map(|value| value.parse::<u64>().ok()).sum();
        Self {
            used_memory: sum("used_memory"),
            max_memory: sum("maxmemory"),
            evicted_keys: sum("evicted_keys"),
            eviction_policy: all("maxmemory_policy").first().map(|policy| (*policy).to_owned()).unwrap_or_default(),
        }
    }
}

/// Whether it is a cluster.
pub(super) fn is_cluster() -> Query<bool> {
    let mut command = redis::cmd("INFO");
    command.arg("cluster");
    Query::one("cluster", command, |value| Some(texts(value).iter().any(|text| text.contains("cluster_enabled:1"))))
}

/// The texts of an answer: one from a node, one from each node of a cluster.
fn texts(value: Value) -> Vec<String> {
    if let Value::Map(nodes) = value {
        return nodes.into_iter().flat_map(|(_, value)| texts(value)).collect();
    }
    String::from_redis_value(value).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_the_sum_of_its_nodes() {
        let node = |used: u64| {
            let text = format!("used_memory:{used}\r\nmaxmemory:10\r\nmaxmemory_policy:volatile-lru\r\n");
            (Value::BulkString(b"node".to_vec()), Value::BulkString(text.into_bytes()))
        };
        let info = Info::read(vec![Value::Map(vec![node(3), node(4)])]);
        assert_eq!((info.used_memory, info.max_memory), (7, 20));
        assert_eq!(info.eviction_policy, "volatile-lru");
    }
}
