//! The queues: sending, in batches that SQS takes, with an answer for each message.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::error::BoxError;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry};
use domain::delivery::Delivery;
use domain::destination::Destination;
use domain::identity::sha256_hex;
use domain::retry::REQUEUE_FLOOR;
use domain::time::Millis;
use futures_util::future::join_all;
use strum::{EnumIter, IntoStaticStr, VariantNames};

use super::account::Account;

/// The longest delay that one send can carry (`DelaySeconds`, 900 s).
const DELAY_CAP: Duration = Duration::from_secs(900);
/// The longest `MessageGroupId`, in characters.
const MAX_GROUP_ID: usize = 128;
/// Most messages in one `SendMessageBatch`.
pub const MAX_ENTRIES: usize = 10;
/// Most bytes in one `SendMessageBatch`, attributes included: SQS takes 1 MiB.
pub const MAX_BATCH_BYTES: usize = 1_000_000;

/// The codes that blame the message itself. Throttling, a key or a permission that
/// is missing are the sender's fault too, in AWS's words, and pass.
const REFUSALS: [&str; 3] = ["InvalidMessageContents", "InvalidParameterValue", "MessageTooLong"];

/// One of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum QueueName {
    /// Fresh deliveries.
    Delivery,
    /// Successors: retries and parked ones that are due soon.
    Retry,
    /// What is due later than one delay of SQS can last. It comes back to be looked at, and
    /// must not stand before retries that are due.
    Wait,
    /// What goes to receivers that were slow lately: an invocation lasts as long as its slowest
    /// call, and others must not wait for that.
    Slow,
    /// Events, whose fan-out makes deliveries.
    Event,
    /// What was given up.
    DeadLetter,
}

impl QueueName {
    /// The queue's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A message on its way into a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its text.
    pub body: String,
    /// What SQS is to be fair between; empty for none.
    pub group: String,
    /// Seconds until it can be received, at most 900.
    pub delay_s: u16,
    /// String attributes.
    pub attributes: Vec<(&'static str, String)>,
}

impl Outgoing {
    /// A message without attributes.
    pub fn new(body: String, group: String, delay_s: u16) -> Self {
        Self { body, group, delay_s, attributes: Vec::new() }
    }

    /// Its size as SQS counts it: the body and each attribute's name, type and value.
    pub fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + "String".len() + value.len());
        self.body.len() + attributes.sum::<usize>()
    }
}

/// Why something failed: the error of the SDK, or a text.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A message that is not known to be in the queue. After
/// [`SendError::Unavailable`] it may be there all the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// SQS refused this message; sending it again will not help.
    #[error("the queue refused the message")]
    Refused(#[source] Cause),
    /// SQS could not be reached, or failed.
    #[error("the queue is unavailable")]
    Unavailable(#[source] Cause),
}

impl SendError {
    /// A refusal, and why.
    pub fn refused(why: impl Into<BoxError>) -> Self {
        Self::Refused(why.into().into())
    }

    /// A failure to reach SQS, and why.
    pub fn unavailable(why: impl Into<BoxError>) -> Self {
        Self::Unavailable(why.into().into())
    }

    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "queue_refused",
            Self::Unavailable(_) => "queue_unavailable",
        }
    }
}

/// The way into the queues. A trait because SQS does not run inside a test; its
/// in-memory model passes the same contract test.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends all messages and says of each, in order, whether the queue has it.
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>>;
}

/// The delay for one SQS send so that the message is seen at `due` or, if that
/// is further than one send can carry, hops once more. Whole seconds, at least
/// one. SQS may count from the beginning of the second it is sent in, so the
/// delay does too: a message that came early would cost one more send.
pub fn delay_s(now: Millis, due: Millis) -> u16 {
    let seconds = due.0.div_ceil(1000).saturating_sub(now.as_secs());
    u16::try_from(seconds.clamp(REQUEUE_FLOOR.as_secs(), DELAY_CAP.as_secs())).unwrap_or(900)
}

/// What SQS fair queues group by: the destination, or its SHA-256 in hex when it is
/// longer than the 128 characters that a `MessageGroupId` may have; empty when there is
/// none.
pub fn group_id(destination: Option<&Destination>) -> String {
    let Some(origin) = destination.map(Destination::as_str) else { return String::new() };
    if origin.len() <= MAX_GROUP_ID { origin.to_owned() } else { sha256_hex(origin.as_bytes()) }
}

/// What fair queues group the later messages of a delivery by: its endpoint, or the
/// destination of a direct webhook.
pub fn retry_group(delivery: &Delivery) -> String {
    match &delivery.endpoint {
        Some(target) => target.endpoint.clone(),
        None => group_id(delivery.destination().as_ref()),
    }
}

/// Whether one delay of SQS ends before `due`, so that the message comes back too early.
pub fn is_far(now: Millis, due: Millis) -> bool {
    now.until(due) > DELAY_CAP
}

/// How full a queue is. SQS's figures are approximate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that could be received now.
    pub visible: u64,
    /// Messages that were received and are not acknowledged.
    pub in_flight: u64,
    /// Messages that are not due yet.
    pub delayed: u64,
}

/// A queue does not say how full it is.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the queue does not say how full it is")]
pub struct DepthError(#[source] Cause);

impl DepthError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        "queue_depth"
    }

    /// The queue, or a stand-in for it, is not there.
    pub fn away() -> Self {
        Self::because("it did not answer in time")
    }

    fn because(why: impl Into<BoxError>) -> Self {
        Self(why.into().into())
    }
}

/// The way to ask how full the queues are. Asking changes nothing.
#[async_trait]
pub trait Depths: Send + Sync {
    /// How full one queue is.
    async fn depth(&self, queue_name: QueueName) -> Result<Depth, DepthError>;
}

/// The URLs of the queues.
#[derive(Clone, Debug)]
pub struct QueueUrls {
    /// Of [`QueueName::Delivery`].
    pub delivery: String,
    /// Of [`QueueName::Retry`].
    pub retry: String,
    /// Of [`QueueName::Wait`].
    pub wait: String,
    /// Of [`QueueName::Slow`].
    pub slow: String,
    /// Of [`QueueName::Event`].
    pub event: String,
    /// Of [`QueueName::DeadLetter`].
    pub dead_letter: String,
}

impl QueueUrls {
    /// Whether an ARN is that of a queue.
    pub fn is_arn_of(&self, arn: &str, queue_name: QueueName) -> bool {
        let name = arn.rsplit(':').next().filter(|name| !name.is_empty());
        name.is_some() && name == self.of(queue_name).rsplit('/').next()
    }

    /// The URL of one queue.
    pub fn of(&self, queue_name: QueueName) -> &str {
        match queue_name {
            QueueName::Delivery => &self.delivery,
            QueueName::Retry => &self.retry,
            QueueName::Wait => &self.wait,
            QueueName::Slow => &self.slow,
            QueueName::Event => &self.event,
            QueueName::DeadLetter => &self.dead_letter,
        }
    }
}

/// The real queues.
#[derive(Clone, Debug)]
pub struct Sqs {
    client: aws_sdk_sqs::Client,
    urls: QueueUrls,
}

impl Sqs {
    /// The queues at `urls`.
    pub fn new(account: &Account, urls: QueueUrls) -> Self {
        Self { client: account.sqs(), urls }
    }

    async fn send_batch(&self, queue_name: QueueName, batch: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let count = batch.len();
        let entries: Result<Vec<_>, _> = batch.into_iter().enumerate().map(|(i, message)| entry(i, message)).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return vec![Err(SendError::refused(error)); count],
        };
        let sent = self
            .client
            .send_message_batch()
            .queue_url(self.urls.of(queue_name))
            .set_entries(Some(entries))
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let too_long = error.as_service_error().is_some_and(SendMessageBatchError::is_batch_request_too_long);
                let error = if too_long { SendError::refused(error) } else { SendError::unavailable(error) };
                return vec![Err(error); count];
            }
        };
        // What the answer does not name is not known to be in the queue.
        let mut results = vec![Err(SendError::unavailable("not named in the answer")); count];
        for sent in answer.successful() {
            if let Some(result) = sent.id().parse::<usize>().ok().and_then(|i| results.get_mut(i)) {
                *result = Ok(());
            }
        }
        for failed in answer.failed() {
            let why = format!("{} {}", failed.code(), failed.message().unwrap_or_default());
            let refused = REFUSALS.iter().any(|code| failed.code().ends_with(code));
            let error = if refused { SendError::refused(why) } else { SendError::unavailable(why) };
            if let Some(result) = failed.id().parse::<usize>().ok().and_then(|i| results.get_mut(i)) {
                *result = Err(error);
            }
        }
        results
    }
}

#[async_trait]
impl Queue for Sqs {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let messages = messages.into_iter().map(|message| ((), message));
        let sends = batches(messages).into_iter().map(|(_, batch)| self.send_batch(queue_name, batch));
        join_all(sends).await.into_iter().flatten().collect()
    }
}

#[async_trait]
impl Depths for Sqs {
    async fn depth(&self, queue_name: QueueName) -> Result<Depth, DepthError> {
        const NAMES: [QueueAttributeName; 3] = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let ask = self.client.get_queue_attributes().queue_url(self.urls.of(queue_name));
        let ask = ask.set_attribute_names(Some(NAMES.to_vec()));
        let answer = ask.send().await.map_err(DepthError::because)?;
        let figure = |name: &_| answer.attributes().and_then(|all| all.get(name)?.parse().ok());
        let [visible, in_flight, delayed] = NAMES.map(|name| figure(&name));
        let missing = || DepthError::because("its answer lacks a figure");
        Ok(Depth {
            visible: visible.ok_or_else(missing)?,
            in_flight: in_flight.ok_or_else(missing)?,
            delayed: delayed.ok_or_else(missing)?,
        })
    }
}

fn entry(i: usize, message: Outgoing) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(i.to_string())
        .message_body(message.body)
        .delay_seconds(i32::from(message.delay_s));
    if !message.group.is_empty() {
        entry = entry.message_group_id(message.group);
    }
    for (name, value) in message.attributes {
        entry = entry.message_attributes(
            name,
            MessageAttributeValue::builder().data_type("String").string_value(value).build()?,
        );
    }
    entry.build()
}

/// Splits messages, in order, into batches that SQS takes. Each message comes with what its sender
/// knows it by.
pub fn batches<K>(messages: impl IntoIterator<Item = (K, Outgoing)>) -> Vec<(Vec<K>, Vec<Outgoing>)> {
    let mut batches: Vec<(Vec<K>, Vec<Outgoing>)> = Vec::new();
    let mut bytes = 0;
    for (known_by, message) in messages {
        let size = message.bytes();
        match batches.last_mut() {
            Some((keys, batch)) if batch.len() < MAX_ENTRIES && bytes + size <= MAX_BATCH_BYTES => {
                bytes += size;
                keys.push(known_by);
                batch.push(message);
            }
            _ => {
                bytes = size;
                batches.push((vec![known_by], vec![message]));
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    fn of(bytes: usize) -> Outgoing {
        Outgoing::new("x".repeat(bytes), String::new(), 0)
    }

    fn sizes(messages: Vec<Outgoing>) -> Vec<usize> {
        let numbered = batches(messages.into_iter().enumerate());
        let order: Vec<usize> = numbered.iter().flat_map(|(places, _)| places.clone()).collect();
        assert!(order.iter().copied().eq(0..order.len()), "{order:?}");
        numbered.iter().map(|(_, batch)| batch.len()).collect()
    }

    #[test]
    fn a_batch_has_ten_messages_and_a_million_bytes_at_most() {
        assert_eq!(sizes(vec![]), [0usize; 0]);
        assert_eq!(sizes(vec![of(1); 10]), [10]);
        assert_eq!(sizes(vec![of(1); 21]), [10, 10, 1]);
        assert_eq!(sizes(vec![of(300_000); 10]), [3, 3, 3, 1]);
        assert_eq!(sizes(vec![of(500_000), of(500_000), of(1)]), [2, 1]);
    }

    #[test]
    fn a_send_waits_at_least_a_second_and_at_most_what_sqs_carries() {
        let at = |ms| delay_s(Millis(1999), Millis(ms));
        assert_eq!([0, 1000, 1999, 2000, 2001, 3_000_000].map(at), [1, 1, 1, 1, 2, 900]);
    }

    #[test]
    fn a_group_id_is_ascii_and_at_most_128_characters() {
        let group = |url: &str| group_id(Some(&Destination::of(&Url::parse(url).unwrap())));
        let long = format!("https://{}.example/", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("."));
        for url in [long.as_str(), "https://bücher.example/", "https://例え.テスト/", "http://[2001:db8::1]:99/"]
        {
            let group = group(url);
            assert!(group.len() <= 128 && group.bytes().all(|b| b.is_ascii_graphic()), "{group}");
        }
        assert_eq!(group(&long).len(), 64);
    }

    #[test]
    fn attributes_count_too() {
        let mut message = of(499_990);
        message.attributes.push(("ERROR_CODE", "x".repeat(10)));
        assert_eq!(message.bytes(), 499_990 + 10 + 6 + 10);
        assert_eq!(sizes(vec![message.clone(), message]), [1, 1]);
    }
}
