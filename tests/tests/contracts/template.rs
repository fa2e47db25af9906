//! What the template must say, and what no local run would notice if it were missing.

/// One resource of the template, as text.
fn resource(name: &str) -> String {
    let template = include_str!("../../../template.yaml");
    let mut lines = template.lines().skip_while(|line| *line != format!("  {name}:"));
    let head = lines.next().unwrap_or_else(|| panic!("the template lacks {name}")).to_owned();
    let body = lines.take_while(|line| line.starts_with("    ") || line.is_empty());
    std::iter::once(head).chain(body.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

#[test]
fn consumers_may_send_to_the_queues_that_trigger_them() {
    for name in ["Deliver", "Fanout"] {
        assert!(resource(name).contains("RecursiveLoop: Allow"), "{name}");
    }
}

#[test]
fn each_mapping_reports_single_failures_and_has_a_concurrency_of_its_own() {
    for (name, concurrency) in [
        ("DeliverFromDeliveryQueue", "DeliveryConcurrency"),
        ("DeliverFromRetryQueue", "RetryConcurrency"),
        ("DeliverFromWaitQueue", "WaitConcurrency"),
        ("DeliverFromSlowQueue", "SlowConcurrency"),
        ("FanoutFromEventQueue", "FanoutConcurrency"),
        ("FanoutFromIngestQueue", "IngestConcurrency"),
    ] {
        let mapping = resource(name);
        assert!(mapping.contains("FunctionResponseTypes: [ReportBatchItemFailures]"), "{name}");
        assert!(mapping.contains(&format!("MaximumConcurrency: !Ref {concurrency}")), "{name}");
        assert!(resource(concurrency).contains("MinValue: 2"), "{concurrency}");
    }
}

#[test]
fn queues_hold_large_messages_for_two_weeks_and_encrypt_them() {
    for name in [
        "DeliveryQueue",
        "RetryQueue",
        "WaitQueue",
        "SlowQueue",
        "EventQueue",
        "IngestQueue",
        "DeadLetterQueue",
        "IngestDeadLetterQueue",
    ] {
        let queue = resource(name);
        for line in [
            "MaximumMessageSize: 1048576",
            "MessageRetentionPeriod: 1209600",
            "VisibilityTimeout: ",
            "SqsManagedSseEnabled: !If [HasKey, !Ref AWS::NoValue, true]",
            "KmsMasterKeyId: !If [HasKey, !Ref KmsKeyArn, !Ref AWS::NoValue]",
        ] {
            assert!(queue.contains(line), "{name}: {line}");
        }
    }
    for name in ["DeliveryQueue", "RetryQueue", "WaitQueue", "SlowQueue", "EventQueue", "IngestQueue"] {
        assert!(resource(name).contains("maxReceiveCount: 100"), "{name}");
    }
    assert!(!include_str!("../../../template.yaml").contains(": *"), "CloudFormation does not support YAML aliases");
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
        "PostEvent",
        "PostEventsBatch",
        "GetEvent",
        "GetDelivery",
        "GetEvents",
        "GetEventDeliveries",
        "ResendDelivery",
        "GetEndpointDeliveries",
        "GetRecentDeliveries",
        "GetRecentMetrics",
        "PostReplay",
        "GetReplay",
        "DeleteReplay",
        "EraseEventPayload",
        "EraseTenant",
        "PostEndpoint",
        "GetEndpoints",
        "GetEndpoint",
        "PatchEndpoint",
        "DeleteEndpoint",
        "GetEndpointSecret",
        "RotateEndpointSecret",
        "TestEndpoint",
        "GetTenants",
        "GetTenant",
        "GetEventTypes",
        "GetEventType",
        "PutEventType",
        "DeleteEventType",
        "PostReseal",
        "GetReseal",
        "GetTokens",
        "PostToken",
        "DeleteToken",
        "PostTokenLink",
        "PostTokenEpoch",
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
    for family in adapters::metrics::names::FAMILIES {
        let mut names = vec![family.name.to_owned()];
        for (_, values) in family.labels {
            names = names.iter().flat_map(|name| values.iter().map(move |value| format!("{name}.{value}"))).collect();
        }
        told.extend(names);
    }
    let alarms = include_str!("../../../infra/alarms.yaml");
    let words = alarms.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
    let ours = [
        "webhook_",
        "redis_",
        "circuit_",
        "task_",
        "health_",
        "queue_",
        "endpoint_",
        "event_",
        "events_",
        "deliveries_",
        "history_",
        "owed_",
        "endpoints_",
        "replay_",
    ];
    let mut count = 0;
    for word in words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)) && !word.ends_with(".yaml")) {
        assert!(told.iter().any(|name| name == word), "no function writes {word}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
    assert_eq!(alarms.matches("Type: AWS::CloudWatch::Alarm").count(), 49);
    assert!(resource("Alarms").contains("Condition: HasAlarms"));
}

/// What each function may do, and the call in the code that needs it.
const USED: [(&str, &str); 16] = [
    ("sqs:SendMessage", "send_message_batch()"),
    ("events:PutEvents", "put_events()"),
    ("sqs:GetQueueAttributes", "get_queue_attributes()"),
    ("dynamodb:PutItem", "put_item()"),
    ("dynamodb:GetItem", "get_item()"),
    ("dynamodb:UpdateItem", "update_item()"),
    ("dynamodb:DeleteItem", "delete_item()"),
    ("dynamodb:Query", ".query()"),
    ("dynamodb:BatchGetItem", "batch_get_item()"),
    ("dynamodb:BatchWriteItem", "batch_write_item()"),
    ("dynamodb:ConditionCheckItem", ".condition_check("),
    ("secretsmanager:GetSecretValue", "get_secret_value()"),
    // What Lambda itself does with the role of a function: it polls its queue and writes its
    // logs and traces.
    ("sqs:ReceiveMessage", ""),
    ("sqs:DeleteMessage", ""),
    ("logs:PutLogEvents", ""),
    ("xray:PutTraceSegments", ""),
];

/// All files below a folder, as one text.
fn code_below(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { code_below(&path) } else { std::fs::read_to_string(path).unwrap() }).collect()
}

#[test]
fn no_permission_is_given_that_nothing_uses() {
    let template = include_str!("../../../template.yaml");
    let adapters = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/adapters/src/aws");
    let code = code_below(std::path::Path::new(adapters));
    for (_, call) in USED.iter().filter(|(_, call)| !call.is_empty()) {
        assert!(code.contains(call), "nothing calls {call}");
    }
    let by_lambda =
        ["logs:CreateLogStream", "xray:PutTelemetryRecords", "sts:AssumeRole", "kms:Decrypt", "kms:GenerateDataKey"];
    let services =
        ["sqs:", "dynamodb:", "secretsmanager:", "logs:", "xray:", "kms:", "sts:", "iam:", "s3:", "lambda:", "events:"];
    let mut count = 0;
    // What conditions compare is no action.
    let compared = ["kms:ViaService", "lambda:SourceFunctionArn", "dynamodb:LeadingKeys"];
    for action in template
        .split(['"', ' ', '[', ']', ',', '\n'])
        .filter(|word| services.iter().any(|s| word.starts_with(s)) && !compared.contains(word))
    {
        let known = USED.iter().any(|(used, _)| *used == action) || by_lambda.contains(&action);
        assert!(known || action == "lambda:InvokeFunction", "{action}");
        count += 1;
    }
    assert!(count >= 40, "{count}");
    assert!(!template.contains(":*\"") && !template.contains("Action: \"*\""), "no wildcard actions");
    // The part that all functions share, and each role has.
    let shared = resource("FunctionPolicy");
    let shared: Vec<&str> = shared
        .split(['"', ' ', '[', ']', ',', '\n'])
        .filter(|word| services.iter().any(|service| word.starts_with(service)) && !compared.contains(word))
        .collect();
    assert_eq!(
        shared,
        [
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
            "secretsmanager:GetSecretValue",
            // Under the stack's key, and under those of the secrets.
            "kms:Decrypt",
            "kms:Decrypt",
        ]
    );
    assert_eq!(template.matches("ManagedPolicyArns: [!Ref FunctionPolicy]").count(), 11);
}

/// What the role of each function allows beside what all share.
#[test]
fn each_function_may_do_what_it_does_and_no_more() {
    let template = include_str!("../../../template.yaml");
    let may = |function: &str| -> Vec<&str> {
        let role = template.split(&format!("- PolicyName: {function}\n")).nth(1).unwrap();
        let role = role.split("\n\n").next().unwrap();
        let mut found: Vec<&str> =
            USED.iter().map(|(action, _)| *action).filter(|action| role.contains(&format!("\"{action}\""))).collect();
        found.retain(|action| !["logs:", "xray:", "secretsmanager:"].iter().any(|service| action.starts_with(service)));
        found
    };
    assert_eq!(may("enqueue"), ["sqs:SendMessage", "dynamodb:BatchGetItem"]);
    assert_eq!(
        may("fanout"),
        [
            "sqs:SendMessage",
            // Only with a bus.
            "events:PutEvents",
            "sqs:GetQueueAttributes",
            "dynamodb:PutItem",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:Query",
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage"
        ]
    );
    assert_eq!(
        may("deliver"),
        [
            "sqs:SendMessage",
            "sqs:GetQueueAttributes",
            "dynamodb:PutItem",
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage"
        ]
    );
    assert_eq!(
        may("endpoints"),
        [
            "sqs:SendMessage",
            "dynamodb:PutItem",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:Query",
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem"
        ]
    );
    assert_eq!(may("authorize"), ["dynamodb:BatchGetItem"]);
    assert!(may("console").is_empty());
    assert_eq!(
        may("archive"),
        [
            "sqs:GetQueueAttributes",
            "dynamodb:PutItem",
            "dynamodb:BatchWriteItem",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage"
        ]
    );
    assert_eq!(
        may("operate"),
        [
            "sqs:SendMessage",
            "dynamodb:PutItem",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:Query",
            "dynamodb:BatchGetItem"
        ]
    );
    assert_eq!(may("health"), ["sqs:GetQueueAttributes", "dynamodb:GetItem"]);
    assert_eq!(may("metrics"), ["sqs:GetQueueAttributes"]);
    assert_eq!(may("cleanup"), ["sqs:SendMessage"]);
}

#[test]
fn the_hot_functions_take_over_step_by_step() {
    for name in ["Enqueue", "Deliver"] {
        let function = resource(name);
        assert!(function.contains("AutoPublishAlias: live"), "{name}");
        // Without it, a change of parameters alone would publish no version.
        assert!(function.contains("AutoPublishCodeSha256: !Ref Release"), "{name}");
        assert!(function.contains(&format!("Alarms: [!GetAtt Rollback.Outputs.{name}Fails, ")), "{name}");
    }
    for mapping in ["DeliverFromDeliveryQueue", "DeliverFromRetryQueue", "DeliverFromWaitQueue", "DeliverFromSlowQueue"]
    {
        assert!(resource(mapping).contains("FunctionName: !Ref Deliver.Alias"), "{mapping}");
    }
    assert!(resource("EnqueueIntegration").contains("IntegrationUri: !Ref Enqueue.Alias"));
    assert!(resource("EnqueuePermission").contains("FunctionName: !Ref Enqueue.Alias"));
}

#[test]
fn the_api_is_limited_and_its_access_log_holds_no_content() {
    let stage = resource("Stage");
    assert!(stage.contains("ThrottlingRateLimit: !Ref ApiRateLimit"));
    for content in ["queryString", "body", "header"] {
        assert!(!stage.contains(content), "{content}");
    }
    assert!(stage.contains("$context.status"));
}
