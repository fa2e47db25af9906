//! The contract of an event bus, against the local AWS, which gives events a time of its own.

use std::time::Duration;

use adapters::aws::event_bridge::EventBus;
use adapters::notify_bus::{Announcement, Bus as _};
use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use domain::time::Millis;
use serde_json::{Value, json};
use tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(20);

/// The events that a rule for our source gets from a new bus, as they come into a queue.
async fn rule(stack: &Stack, bus: &str) -> String {
    let (sqs, events) = (stack.sqs(), stack.event_bridge());
    let queue = sqs.create_queue().queue_name(bus).send().await.unwrap().queue_url.unwrap();
    let attributes = sqs.get_queue_attributes().queue_url(&queue).attribute_names(QueueAttributeName::QueueArn);
    let arn = attributes.send().await.unwrap().attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
    events.create_event_bus().name(bus).send().await.unwrap();
    let pattern = json!({ "source": ["steadhook"], "detail-type": ["steadhook.endpoint.disabled"] });
    events.put_rule().event_bus_name(bus).name(bus).event_pattern(pattern.to_string()).send().await.unwrap();
    let target = Target::builder().id("queue").arn(arn).build().unwrap();
    events.put_targets().event_bus_name(bus).rule(bus).targets(target).send().await.unwrap();
    queue
}

#[tokio::test]
async fn a_rule_for_our_source_gets_what_the_bus_is_told() {
    let stack = Stack::running();
    let name = format!("bus-{}", fastrand::u64(..));
    let queue = rule(&stack, &name).await;
    let bus = EventBus::new(&stack.account(), name);
    let at = Millis(1_777_723_200_000);
    for event_type in ["steadhook.delivery.failed", "steadhook.endpoint.disabled"] {
        let payload = json!({ "endpoint_id": "ep_1", "type": event_type }).to_string();
        bus.announce(&Announcement { event_type: event_type.to_owned(), payload, at }).await.unwrap();
    }
    let receive = stack.sqs().receive_message().queue_url(queue).wait_time_seconds(5).max_number_of_messages(10);
    let receive = async {
        loop {
            if let Some(message) = receive.clone().send().await.unwrap().messages.unwrap_or_default().pop() {
                return message.body.unwrap();
            }
        }
    };
    let event: Value = serde_json::from_str(&tokio::time::timeout(PATIENCE, receive).await.unwrap()).unwrap();
    assert_eq!(event["detail-type"], "steadhook.endpoint.disabled");
    assert_eq!((&event["source"], &event["detail"]["endpoint_id"]), (&json!("steadhook"), &json!("ep_1")));
}

#[tokio::test]
async fn a_bus_that_is_away_says_so() {
    let mut account = Stack::running().account();
    account.endpoint = Some(format!("http://127.0.0.1:{}", tests::redis_server::free_port()));
    let bus = EventBus::new(&account, "bus".to_owned());
    let announcement =
        Announcement { event_type: "steadhook.delivery.failed".into(), payload: "{}".into(), at: Millis(1) };
    let error = bus.announce(&announcement).await.unwrap_err();
    assert_eq!(error.code(), "event_bus");
    assert!(adapters::telemetry::chain(&error).to_string().len() > error.to_string().len(), "it says why");
}
