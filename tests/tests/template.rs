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
