//! What Redis says of itself: memory, evictions, and whether its settings suit us.

use adapters::redis::{Call, Reply};
use redis::{FromRedisValue as _, Value as RedisValue};
use serde_json::{Value, json};

use crate::Condition;

/// Memory use from which trouble is near, of a hundred.
const NEARLY_FULL: u64 = 90;

/// What to ask, in this order.
pub(crate) fn calls() -> Vec<Call> {
    let command = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        Call::from(command)
    };
    vec![redis::cmd("PING").into(), command(&["INFO", "memory"]), command(&["INFO", "stats"])]
}

/// Judges the answers.
pub(crate) fn judge(replies: Vec<Reply>) -> (Condition, Value) {
    let mut replies = replies.into_iter();
    if !matches!(replies.next(), Some(Ok(_))) {
        return (Condition::Down, json!({ "detail": "it does not answer" }));
    }
    let texts: Vec<String> = replies.flatten().flat_map(texts).collect();
    let all = |name: &str| {
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).collect::<Vec<_>>().into_iter()
    };
    // The sum over a cluster's nodes.
    let sum = |name: &str| -> u64 { all(name).filter_map(|value| value.trim().parse::<u64>().ok()).sum() };
    let (used, limit, evicted) = (sum("used_memory"), sum("maxmemory"), sum("evicted_keys"));
    let policy = all("maxmemory_policy").next().unwrap_or_default().trim();
    let mut warnings = Vec::new();
    let nearly_full = limit > 0 && used.saturating_mul(100) >= limit.saturating_mul(NEARLY_FULL);
    if nearly_full {
        warnings.push("memory is nearly full".to_owned());
    }
    if limit > 0 && policy == "noeviction" {
        warnings.push("maxmemory-policy noeviction: when memory is full, statuses are no longer recorded".to_owned());
    }
    if policy.starts_with("allkeys-") {
        warnings
            .push(format!("maxmemory-policy {policy} may evict indexes and metrics; use volatile-lru or volatile-ttl"));
    }
    let mut figures = json!({ "used_memory_bytes": used, "evicted_keys": evicted });
    if limit > 0 {
        figures["max_memory_bytes"] = json!(limit);
    }
    if !policy.is_empty() {
        figures["eviction_policy"] = json!(policy);
    }
    if !warnings.is_empty() {
        figures["warnings"] = json!(warnings);
    }
    (if nearly_full { Condition::Degraded } else { Condition::Up }, figures)
}

/// The texts of an answer: one from a node, one from each node of a cluster.
fn texts(value: RedisValue) -> Vec<String> {
    if let RedisValue::Map(nodes) = value {
        return nodes.into_iter().flat_map(|(_, value)| texts(value)).collect();
    }
    String::from_redis_value(value).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(memory: &str) -> (Condition, Value) {
        let text = |text: &str| Ok(RedisValue::BulkString(text.as_bytes().to_vec()));
        judge(vec![text("PONG"), text(memory), text("# Stats\r\nevicted_keys:7\r\n")])
    }

    #[test]
    fn memory_that_runs_out_is_trouble_and_a_bad_policy_is_told() {
        let (condition, figures) = told("used_memory:50\r\nmaxmemory:100\r\nmaxmemory_policy:volatile-lru\r\n");
        assert_eq!(condition, Condition::Up);
        assert_eq!(
            figures,
            json!({"used_memory_bytes": 50, "max_memory_bytes": 100, "evicted_keys": 7,
            "eviction_policy": "volatile-lru"})
        );
        let (condition, figures) = told("used_memory:90\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n");
        assert_eq!((condition, figures["warnings"].as_array().unwrap().len()), (Condition::Degraded, 2));
        let (_, figures) = told("used_memory:1\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\n");
        assert!(figures["warnings"][0].as_str().unwrap().contains("noeviction"));
        let (_, figures) = told("used_memory:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n");
        assert_eq!(figures.get("warnings"), None, "no limit, nothing to fill");
    }

    #[test]
    fn a_cluster_is_the_sum_of_its_nodes() {
        let node = |used: u64| {
            let text = RedisValue::BulkString(format!("used_memory:{used}\r\nmaxmemory:10\r\n").into_bytes());
            (RedisValue::BulkString(b"node".to_vec()), text)
        };
        let (_, figures) = judge(vec![Ok(RedisValue::Okay), Ok(RedisValue::Map(vec![node(3), node(4)]))]);
        assert_eq!((figures["used_memory_bytes"].as_u64(), figures["max_memory_bytes"].as_u64()), (Some(7), Some(20)));
    }
}
