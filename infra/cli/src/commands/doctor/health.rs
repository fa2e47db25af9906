//! What the stack says of its own health.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::checkup::{Checkup, Finding};

/// An answer of `GET /health`.
#[derive(Deserialize)]
struct Health {
    status: String,
    components: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Component {
    status: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Whether it is an answer of `GET /health`, and not one of the gateway.
pub(crate) fn is_health(body: &str) -> bool {
    serde_json::from_str::<Health>(body).is_ok()
}

/// The name that is shown, and the next step when the component is not up.
fn known(component: &str) -> (&'static str, &'static str) {
    match component {
        "redis" => (
            "redis",
            "Nothing is lost: deliveries go on without statuses and circuit breakers. Check that the cache runs and that the functions reach it (security groups, password). Runbook: Redis",
        ),
        "queue" => (
            "queue",
            "Check the queues below, the permissions of the functions, and the status of SQS. Runbook: Tasks are stuck",
        ),
        "facade" => (
            "deliver",
            "Check that the event source mappings of `deliver` are enabled, that the account has concurrency left, and its log. Runbook: Deliveries stay pending",
        ),
        "storage" => (
            "archive",
            "Dead letters wait in their queue until the table answers. Check the table and the log of `archive`. Runbook: The dead-letter queue is not drained",
        ),
        "circuit_breakers" => (
            "breakers",
            "These receivers fail. Their deliveries wait and are tried again by themselves. Runbook: A circuit breaker is open for too long",
        ),
        _ => ("health", "This command does not know the component: use the version of the stack"),
    }
}

/// Tells what is not up.
pub(crate) fn look(body: &str, checkup: &mut Checkup) {
    let Ok(health) = serde_json::from_str::<Health>(body) else { return };
    let mut order: Vec<(&String, &Component)> = health.components.iter().collect();
    order.sort_by_key(|(name, _)| {
        ["facade", "queue", "redis", "storage", "circuit_breakers"].iter().position(|known| known == name)
    });
    for (component, state) in order {
        let (name, next) = known(component);
        let told = state.told(component);
        checkup.note(match state.status.as_str() {
            "up" => Finding::good(name, told),
            // What is open is a receiver's trouble, and not the stack's.
            "degraded" => Finding::warning(name, told, next),
            _ => Finding::bad(name, told, next),
        });
    }
    if health.status == "unhealthy" {
        let next = "Deliveries cannot be accepted or made. Runbook: Complete failure";
        checkup.note(Finding::bad("health", "the stack is unhealthy", next));
    }
}

impl Component {
    fn told(&self, component: &str) -> String {
        let text = |name: &str| self.more.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| self.more.get(name).and_then(Value::as_u64).unwrap_or_default();
        let list = |name: &str| {
            let items = self.more.get(name).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut told = vec![self.status.clone()];
        told.extend(text("detail"));
        told.extend(list("warnings"));
        match component {
            "circuit_breakers" => {
                let (open, half_open) = (number("open_count"), number("half_open_count"));
                told.push(format!("{open} open, {half_open} half-open of direct webhooks"));
                told.extend(list("open").into_iter().chain(list("half_open")).take(5));
            }
            "queue" if self.status == "up" => {
                told.push(format!("the oldest delivery waits for {} s", number("oldest_pending_age_seconds")));
            }
            _ => {}
        }
        told.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_health_is_one() {
        assert!(is_health(r#"{"status":"healthy","components":{"redis":{"status":"up"}},"checked_at":"x"}"#));
        for other in [r#"{"message":"Service Unavailable"}"#, "", "{}"] {
            assert!(!is_health(other), "{other}");
        }
    }

    #[test]
    fn what_a_component_says_is_told() {
        let read = |json: &str| serde_json::from_str::<Component>(json).unwrap();
        let redis = read(r#"{"status":"degraded","warnings":["memory is nearly full"],"used_memory_bytes":1}"#);
        assert_eq!(redis.told("redis"), "degraded, memory is nearly full");
        let breakers = read(r#"{"status":"degraded","open_count":1,"half_open_count":0,"open":["https://a.example"]}"#);
        assert_eq!(
            breakers.told("circuit_breakers"),
            "degraded, 1 open, 0 half-open of direct webhooks, https://a.example"
        );
    }
}
