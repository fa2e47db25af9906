//! One contract for the real queues and for their model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use adapters::aws::sqs::{Outgoing, Queue, QueueName, QueueUrls, SendError, Sqs};
use adapters::clock::Clock;
use async_trait::async_trait;
use tests::sqs_model::SqsModel;
use tests::stack::Stack;
use tests::world::BEGINNING;

/// A queue that can also be received from.
#[async_trait]
trait Inbox: Queue {
    /// Waits so long, in the backend's own time.
    async fn wait(&self, time: Duration);
    /// Receives and deletes what is visible: bodies and attributes.
    async fn drain(&self, queue_name: QueueName) -> Vec<(String, BTreeMap<String, String>)>;
}

struct InMemory(SqsModel, Clock);

#[async_trait]
impl Queue for InMemory {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        self.0.send(queue_name, messages).await
    }
}

#[async_trait]
impl Inbox for InMemory {
    async fn wait(&self, time: Duration) {
        self.1.advance(time);
    }

    async fn drain(&self, queue_name: QueueName) -> Vec<(String, BTreeMap<String, String>)> {
        let mut drained = Vec::new();
        loop {
            let taken = self.0.receive(queue_name, 10);
            if taken.is_empty() {
                return drained;
            }
            for taken in taken {
                self.0.delete(queue_name, &taken);
                let attributes = taken.message.attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
                drained.push((taken.message.body, attributes));
            }
        }
    }
}

struct Local {
    queue: Sqs,
    client: aws_sdk_sqs::Client,
    urls: QueueUrls,
}

impl Local {
    async fn create(name: &str) -> Self {
        let stack = Stack::running();
        let client = stack.sqs();
        let mut urls = Vec::new();
        for queue_name in ["delivery", "retry", "wait", "slow", "event", "dead"] {
            let name = format!("contract-{name}-{queue_name}-{}", fastrand::u64(..));
            let queue = client.create_queue().queue_name(name).send().await.unwrap();
            urls.push(queue.queue_url().unwrap().to_owned());
        }
        let [delivery, retry, wait, slow, event, dead_letter] = <[String; 6]>::try_from(urls).unwrap();
        let urls = QueueUrls { delivery, retry, wait, slow, event, dead_letter };
        Self { queue: Sqs::new(&stack.account(), urls.clone()), client, urls }
    }
}

#[async_trait]
impl Queue for Local {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        self.queue.send(queue_name, messages).await
    }
}

#[async_trait]
impl Inbox for Local {
    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn drain(&self, queue_name: QueueName) -> Vec<(String, BTreeMap<String, String>)> {
        let url = self.urls.of(queue_name);
        let mut drained = Vec::new();
        loop {
            let receive = self.client.receive_message().queue_url(url).max_number_of_messages(10);
            let received = receive.message_attribute_names("All").send().await.unwrap();
            if received.messages().is_empty() {
                return drained;
            }
            for message in received.messages() {
                let attributes = message.message_attributes().into_iter().flatten();
                let attributes = attributes.map(|(k, v)| (k.clone(), v.string_value().unwrap().to_owned())).collect();
                let message_of = (message.body().unwrap().to_owned(), attributes);
                // A call whose answer came too late is made again: at least once is the promise.
                if !drained.contains(&message_of) {
                    drained.push(message_of);
                }
                let handle = message.receipt_handle().unwrap();
                self.client.delete_message().queue_url(url).receipt_handle(handle).send().await.unwrap();
            }
        }
    }
}

async fn everything_sent_is_received_as_it_was(queue: &impl Inbox) {
    let messages: Vec<Outgoing> = (0..25)
        .map(|i| {
            let body = format!("{{\"n\":{i},\"é漢\\u0001\":\"{}\"}}", "x".repeat(i * 20_000));
            let group = format!("https://a.example:{i}");
            let attributes = vec![("ERROR_CODE", format!("code-{i}")), ("ERROR_MESSAGE", "ü\n".to_owned())];
            Outgoing { attributes, ..Outgoing::new(body, group, 0) }
        })
        .collect();
    let results = queue.send(QueueName::DeadLetter, messages.clone()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(results.len(), 25);
    let mut got = queue.drain(QueueName::DeadLetter).await;
    got.sort_by_key(|(body, _)| body.len());
    assert_eq!(got.len(), 25);
    for (message, (body, attributes)) in messages.into_iter().zip(got) {
        assert_eq!(message.body, body);
        let sent: BTreeMap<String, String> = message.attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        assert_eq!(sent, attributes);
    }
    assert!(queue.drain(QueueName::Delivery).await.is_empty() && queue.drain(QueueName::Retry).await.is_empty());
}

async fn a_delayed_message_is_not_seen_early(queue: &impl Inbox) {
    queue.send(QueueName::Retry, vec![Outgoing::new("later".into(), String::new(), 3)]).await.pop().unwrap().unwrap();
    assert!(queue.drain(QueueName::Retry).await.is_empty());
    queue.wait(Duration::from_secs(5)).await;
    assert_eq!(queue.drain(QueueName::Retry).await[0].0, "later");
}

async fn one_refused_message_does_not_cost_its_batch_mates(queue: &impl Inbox) {
    let messages = vec![
        Outgoing::new("good".into(), String::new(), 0),
        Outgoing::new("x".repeat(1_048_577), String::new(), 0),
        Outgoing::new("fine".into(), String::new(), 0),
    ];
    let results = queue.send(QueueName::Delivery, messages).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(SendError::Refused(_))), "{results:?}");
    let mut got: Vec<_> = queue.drain(QueueName::Delivery).await.into_iter().map(|(body, _)| body).collect();
    got.sort();
    assert_eq!(got, ["fine", "good"]);
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    let clock = Clock::fixed(BEGINNING);
    let queue = InMemory(SqsModel::new(clock.clone(), Duration::from_secs(30), 100), clock);
    everything_sent_is_received_as_it_was(&queue).await;
    a_delayed_message_is_not_seen_early(&queue).await;
    one_refused_message_does_not_cost_its_batch_mates(&queue).await;
}

#[tokio::test]
async fn the_real_queue_keeps_the_contract() {
    let queue = Local::create("real").await;
    everything_sent_is_received_as_it_was(&queue).await;
    a_delayed_message_is_not_seen_early(&queue).await;
    one_refused_message_does_not_cost_its_batch_mates(&queue).await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_unavailable() {
    let clock = Clock::fixed(BEGINNING);
    let mut account = Stack::running().account();
    account.endpoint = Some(format!("http://127.0.0.1:{}", tests::redis_server::free_port()));
    let [delivery, retry, wait, slow, event, dead_letter] =
        ["1", "2", "3", "4", "5", "6"].map(|name| format!("http://x/{name}"));
    let urls = QueueUrls { delivery, retry, wait, slow, event, dead_letter };
    let began = Instant::now();
    let results =
        Sqs::new(&account, urls).send(QueueName::Retry, vec![Outgoing::new("x".into(), String::new(), 0)]).await;
    assert!(matches!(results[..], [Err(SendError::Unavailable(_))]), "{results:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "an invocation must be left time to report");
    let model = SqsModel::new(clock, Duration::from_secs(30), 100);
    model.breaks(Some(QueueName::Retry));
    let results = model.send(QueueName::Retry, vec![Outgoing::new("x".into(), String::new(), 0)]).await;
    assert!(matches!(results[..], [Err(SendError::Unavailable(_))]));
}
