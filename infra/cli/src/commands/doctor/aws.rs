//! What AWS says of a stack: who asks, the stack itself, its queues, tables and alarms.

use std::collections::BTreeMap;

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_cloudwatch::types::StateValue;
use aws_sdk_dynamodb::types::TableStatus;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_types::SdkConfig;

use super::checkup::{Checkup, Finding};
use crate::connection::Connection;
use crate::target::{self, Described};

/// Looks at everything that AWS can tell.
pub(crate) async fn look(connection: &Connection, checkup: &mut Checkup) {
    let aws = connection.aws().await;
    let Some(region) = aws.region() else {
        checkup.note(Finding::bad("region", "none is configured", "Set AWS_REGION or use --region"));
        return;
    };
    checkup.note(Finding::good("region", region.to_string()));
    if !credentials(&aws, checkup).await {
        return;
    }
    let Some(name) = connection.stack() else {
        let why = "queues, tables and alarms are not looked at. Name the stack with --stack";
        checkup.note(Finding::skipped("stack", why));
        return;
    };
    let stack = match target::describe(&aws, name).await {
        Ok(stack) => stack,
        Err(failure) => {
            let next = "Check the name, the region, and the permission `cloudformation:DescribeStacks`";
            checkup.note(Finding::bad("stack", failure.to_string(), next));
            return;
        }
    };
    checkup.note(stack_finding(name, &stack));
    queues(&aws, &stack.outputs, checkup).await;
    tables(&aws, &stack.outputs, checkup).await;
    alarms(&aws, name, checkup).await;
}

/// Why AWS did not do what was asked, without the request.
fn why<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let refusal = error.as_service_error();
    let told = [refusal.and_then(ProvideErrorMetadata::code), refusal.and_then(ProvideErrorMetadata::message)];
    match told.into_iter().flatten().collect::<Vec<_>>().join(": ") {
        // What is not described is shown as it came, and may be long.
        told if told.is_empty() => DisplayErrorContext(error).to_string().chars().take(200).collect(),
        told => told,
    }
}

/// Whether there are credentials that AWS accepts.
async fn credentials(aws: &SdkConfig, checkup: &mut Checkup) -> bool {
    const NAME: &str = "credentials";
    let next = "Configure them (`aws configure`, `aws sso login`), or set STEADHOOK_TOKEN";
    let found = match aws.credentials_provider() {
        Some(provider) => provider.provide_credentials().await.map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        }),
        None => Err("none are configured".to_owned()),
    };
    if let Err(told) = found {
        checkup.note(Finding::bad(NAME, told, next));
        return false;
    }
    match aws_sdk_sts::Client::new(aws).get_caller_identity().send().await {
        Ok(identity) => {
            let told = identity.arn().unwrap_or("they are accepted").to_owned();
            checkup.note(Finding::good(NAME, told));
            true
        }
        Err(error) => {
            let told = why(&error);
            let next = if told.contains("xpired") { "Log in again, and check this machine's clock" } else { next };
            checkup.note(Finding::bad(NAME, told, next));
            false
        }
    }
}

fn stack_finding(name: &str, stack: &Described) -> Finding {
    let told = format!("{name} is {}", stack.status);
    match stack.status.as_str() {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" => {
            Finding::good("stack", told)
        }
        "UPDATE_ROLLBACK_COMPLETE" => Finding::warning(
            "stack",
            told,
            "The last deployment was taken back, and the version before it runs. See the events of the stack",
        ),
        "CREATE_IN_PROGRESS" | "UPDATE_IN_PROGRESS" => {
            Finding::warning("stack", told, "A deployment is under way. Wait for its end")
        }
        _ => Finding::bad("stack", told, "See the events of the stack in CloudFormation"),
    }
}

async fn queues(aws: &SdkConfig, outputs: &BTreeMap<String, String>, checkup: &mut Checkup) {
    let client = aws_sdk_sqs::Client::new(aws);
    let (mut told, mut well) = (Vec::new(), true);
    for (output, url) in outputs.iter().filter(|(output, _)| output.ends_with("QueueUrl")) {
        let name = output.trim_end_matches("Url");
        let asked = client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages);
        match asked.send().await {
            Ok(answer) => {
                let of = |name| {
                    answer.attributes().and_then(|all| all.get(&name)).and_then(|count| count.parse::<u64>().ok())
                };
                let count = of(QueueAttributeName::ApproximateNumberOfMessages).unwrap_or_default();
                told.push(format!("{name} {count}"));
                if name.contains("DeadLetter") && count > 0 {
                    let next = "`archive` stores them within seconds. If they stay, see its log. Runbook: The dead-letter queue is not drained";
                    checkup.note(Finding::warning("queues", format!("{count} messages wait in {name}"), next));
                    well = false;
                }
            }
            Err(error) => {
                let next = "If it was deleted, deploy the stack again: CloudFormation makes it anew only under another logical name, so see the runbook, Complete failure. If access is denied, this command needs `sqs:GetQueueAttributes`";
                checkup.note(Finding::bad("queues", format!("{name} cannot be read: {}", why(&error)), next));
                well = false;
            }
        }
    }
    if told.is_empty() && well {
        checkup.note(Finding::bad(
            "queues",
            "the stack names none",
            "It is no stack of Steadhook, or was never deployed whole",
        ));
    } else if well {
        checkup.note(Finding::good("queues", told.join(", ")));
    }
}

async fn tables(aws: &SdkConfig, outputs: &BTreeMap<String, String>, checkup: &mut Checkup) {
    let client = aws_sdk_dynamodb::Client::new(aws);
    let mut active = Vec::new();
    let mut well = true;
    for output in ["RegistryTable", "HistoryTableName", "DeadLetterTable"] {
        let Some(table) = outputs.get(output) else { continue };
        let name = output.trim_end_matches("Name");
        match client.describe_table().table_name(table).send().await {
            Ok(answer) => match answer.table().and_then(|table| table.table_status()) {
                Some(TableStatus::Active | TableStatus::Updating) => active.push(name),
                status => {
                    let told = format!("{name} is {}", status.map_or("unknown", TableStatus::as_str));
                    checkup.note(Finding::bad(
                        "tables",
                        told,
                        "Wait until it is ACTIVE. If it does not become so, see its events in DynamoDB",
                    ));
                    well = false;
                }
            },
            Err(error) => {
                let next = match output {
                    "RegistryTable" => {
                        "Deliveries to endpoints and events wait. Restore it: DEPLOYMENT, disaster recovery. Runbook: The registry of endpoints"
                    }
                    "HistoryTableName" => {
                        "Deliveries go on. Restore it: DEPLOYMENT, disaster recovery. Runbook: History is not written"
                    }
                    _ => "Dead letters wait in their queue. Restore it: DEPLOYMENT, disaster recovery",
                };
                checkup.note(Finding::bad("tables", format!("{name} cannot be read: {}", why(&error)), next));
                well = false;
            }
        }
    }
    if active.is_empty() && well {
        checkup.note(Finding::bad(
            "tables",
            "the stack names none",
            "It is no stack of Steadhook, or was never deployed whole",
        ));
    } else if well {
        checkup.note(Finding::good("tables", format!("{} are active", active.join(", "))));
    }
}

async fn alarms(aws: &SdkConfig, stack: &str, checkup: &mut Checkup) {
    let client = aws_sdk_cloudwatch::Client::new(aws);
    let asked = client.describe_alarms().alarm_name_prefix(format!("{stack}-")).into_paginator().send();
    let alarms: Vec<_> = match asked.collect::<Result<Vec<_>, _>>().await {
        Ok(pages) => pages.into_iter().flat_map(|page| page.metric_alarms.unwrap_or_default()).collect(),
        Err(error) => {
            let next = "This command needs `cloudwatch:DescribeAlarms`";
            checkup.note(Finding::warning("alarms", format!("cannot be read: {}", why(&error)), next));
            return;
        }
    };
    // The name of another stack may begin with that of this one.
    let of_this = |name: &str| {
        let rest = name.strip_prefix(stack).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| !rest.contains('-') || rest.starts_with("Rollback-"))
    };
    let alarms: Vec<_> = alarms.into_iter().filter(|alarm| alarm.alarm_name().is_some_and(of_this)).collect();
    let mut ringing = 0;
    for alarm in &alarms {
        if alarm.state_value() == Some(&StateValue::Alarm) {
            ringing += 1;
            let name = alarm.alarm_name().unwrap_or_default().trim_start_matches(stack).trim_start_matches('-');
            let about = alarm.alarm_description().unwrap_or("it has no description");
            checkup.note(Finding::bad("alarms", format!("{name} is in alarm"), about));
        }
    }
    // Those that guard a deployment always exist. Those that tell somebody come with a topic.
    let tell = alarms.iter().any(|alarm| alarm.alarm_name() == Some(&format!("{stack}-HealthFailing")));
    if !tell {
        checkup
            .note(Finding::skipped("alarms", "nobody is told when something is wrong. Deploy with CriticalTopicArn"));
    } else if ringing == 0 {
        checkup.note(Finding::good("alarms", format!("none of {} is in alarm", alarms.len())));
    }
}
