//! Whether Redis's memory suits us: how full it is, and what it does when it is full.

use adapters::redis::info::Info;
use serde_json::{Value, json};

use crate::condition::Condition;

/// Memory use from which trouble is near, of a hundred.
const NEARLY_FULL: u64 = 90;

/// Judges what Redis says.
pub(crate) fn judge(info: &Info) -> (Condition, Value) {
    let Info { used_memory: used, max_memory: limit, evicted_keys, eviction_policy: policy } = info;
    let mut warnings = Vec::new();
    let nearly_full = *limit > 0 && used.saturating_mul(100) >= limit.saturating_mul(NEARLY_FULL);
    if nearly_full {
        warnings.push("memory is nearly full".to_owned());
    }
    if *limit > 0 && policy == "noeviction" {
        warnings.push("maxmemory-policy noeviction: when memory is full, statuses are no longer recorded".to_owned());
    }
    if policy.starts_with("allkeys-") {
        warnings
            .push(format!("maxmemory-policy {policy} may evict indexes and metrics; use volatile-lru or volatile-ttl"));
    }
    let mut figures = json!({ "used_memory_bytes": used, "evicted_keys": evicted_keys });
    if *limit > 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(used_memory: u64, max_memory: u64, policy: &str) -> (Condition, Value) {
        judge(&Info { used_memory, max_memory, evicted_keys: 7, eviction_policy: policy.into() })
    }

    #[test]
    fn memory_that_runs_out_is_trouble_and_a_bad_policy_is_told() {
        let (condition, figures) = told(50, 100, "volatile-lru");
        assert_eq!(condition, Condition::Up);
        assert_eq!(
            figures,
            json!({"used_memory_bytes": 50, "max_memory_bytes": 100, "evicted_keys": 7,
            "eviction_policy": "volatile-lru"})
        );
        let (condition, figures) = told(90, 100, "allkeys-lru");
        assert_eq!((condition, figures["warnings"].as_array().unwrap().len()), (Condition::Degraded, 2));
        assert!(told(1, 100, "noeviction").1["warnings"][0].as_str().unwrap().contains("noeviction"));
        assert_eq!(told(1, 0, "noeviction").1.get("warnings"), None, "no limit, nothing to fill");
    }
}
