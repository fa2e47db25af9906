//! What the template must say, where no local run would notice it missing.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

/// One resource of the template, as text.
fn resource(name: &str) -> String {
    let template = include_str!("../../template.yaml");
    let mut lines = template.lines().skip_while(|line| *line != format!("  {name}:"));
    let head = lines.next().unwrap_or_else(|| panic!("the template lacks {name}")).to_owned();
    let body = lines.take_while(|line| line.starts_with("    ") || line.is_empty());
    std::iter::once(head).chain(body.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_consumer_may_send_to_the_queue_that_triggers_it() {
    assert!(resource("Deliver").contains("RecursiveLoop: Allow"));
}

#[test]
fn both_mappings_report_single_failures_and_have_a_concurrency_of_their_own() {
    for (name, concurrency) in
        [("DeliverFromDeliveryQueue", "DeliveryConcurrency"), ("DeliverFromRetryQueue", "RetryConcurrency")]
    {
        let mapping = resource(name);
        assert!(mapping.contains("FunctionResponseTypes: [ReportBatchItemFailures]"), "{name}");
        assert!(mapping.contains(&format!("MaximumConcurrency: !Ref {concurrency}")), "{name}");
        assert!(resource(concurrency).contains("MinValue: 2"), "{concurrency}");
    }
}

#[test]
fn queues_hold_large_messages_for_two_weeks_and_encrypt_them() {
    for name in ["DeliveryQueue", "RetryQueue", "DeadLetterQueue"] {
        let queue = resource(name);
        for line in [
            "MaximumMessageSize: 1048576",
            "MessageRetentionPeriod: 1209600",
            "VisibilityTimeout: ",
            "SqsManagedSseEnabled: true",
        ] {
            assert!(queue.contains(line), "{name}: {line}");
        }
    }
    assert!(resource("DeliveryQueue").contains("maxReceiveCount: 100"));
    assert!(resource("RetryQueue").contains("maxReceiveCount: 100"));
    assert!(!include_str!("../../template.yaml").contains(": *"), "CloudFormation knows no YAML aliases");
}

#[test]
fn every_route_asks_who_is_calling() {
    for name in [
        "PostWebhooks",
        "PostWebhooksBatch",
        "GetWebhookStatuses",
        "GetWebhookStatus",
        "PostWebhookCleanup",
        "GetDeadLetters",
        "GetDeadLetter",
        "DeleteDeadLetter",
        "RedriveDeadLetter",
        "RedriveDeadLetters",
        "GetMetrics",
        "GetCircuitBreakers",
        "ResetCircuitBreaker",
        "AnythingElse",
    ] {
        assert!(resource(name).contains("AuthorizationType: !Ref ApiAuth"), "{name}");
    }
}

#[test]
fn every_alarm_and_panel_watches_a_metric_that_is_told() {
    let mut told: Vec<String> = ["health_level", "redis_down", "circuit_breakers_open", "circuit_breakers_half_open"]
        .map(str::to_owned)
        .to_vec();
    for family in adapters::metric::FAMILIES {
        let mut names = vec![family.name.to_owned()];
        for (_, values) in family.labels {
            names = names.iter().flat_map(|name| values.iter().map(move |value| format!("{name}.{value}"))).collect();
        }
        told.extend(names);
    }
    let alarms = include_str!("../../infra/alarms.yaml");
    let words = alarms.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
    let ours = ["webhook_", "redis_", "circuit_", "task_", "health_", "queue_"];
    let mut count = 0;
    for word in words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)) && !word.ends_with(".yaml")) {
        assert!(told.iter().any(|name| name == word), "nobody tells {word}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
    assert_eq!(alarms.matches("Type: AWS::CloudWatch::Alarm").count(), 25);
    assert!(resource("Alarms").contains("Condition: HasAlarms"));
}
