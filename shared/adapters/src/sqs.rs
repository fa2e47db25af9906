//! The queues: sending, in batches that SQS takes, with an answer for each message.

use async_trait::async_trait;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry};
use futures_util::future::join_all;

/// Most messages in one `SendMessageBatch`.
const MAX_ENTRIES: usize = 10;
/// Most bytes in one `SendMessageBatch`, attributes included: SQS takes 1 MiB.
pub const MAX_BATCH_BYTES: usize = 1_000_000;

/// The codes that blame the message itself. Throttling, a key or a permission that
/// is missing are the sender's fault too, in AWS's words, and pass.
const REFUSALS: [&str; 3] = ["InvalidMessageContents", "InvalidParameterValue", "MessageTooLong"];

/// One of the three queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Fresh deliveries.
    Delivery,
    /// Successors: retries, parked and delayed ones.
    Retry,
    /// What was given up.
    DeadLetter,
}

impl Lane {
    /// Every queue.
    pub const ALL: [Self; 3] = [Self::Delivery, Self::Retry, Self::DeadLetter];

    /// The queue's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Retry => "retry",
            Self::DeadLetter => "dead_letter",
        }
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

/// A message that is not known to be in the queue. After
/// [`SendError::Unavailable`] it may be there all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// SQS refused this message; sending it again will not help.
    #[error("the queue refused the message: {0}")]
    Refused(String),
    /// SQS could not be reached, or failed.
    #[error("the queue is unavailable: {0}")]
    Unavailable(String),
}

impl SendError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "queue_refused",
            Self::Unavailable(_) => "queue_unavailable",
        }
    }
}

/// The way into the queues. A trait because SQS does not run inside a test; its
/// in-memory twin passes the same contract test.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends all messages and says of each, in order, whether the queue has it.
    async fn send(&self, lane: Lane, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>>;
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
#[error("the queue does not say how full it is: {0}")]
pub struct DepthError(String);

impl DepthError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        "queue_depth"
    }

    /// The queue, or a stand-in for it, is not there.
    pub fn away() -> Self {
        Self("it is away".to_owned())
    }
}

/// The way to ask how full the queues are. Asking changes nothing.
#[async_trait]
pub trait Depths: Send + Sync {
    /// How full one queue is.
    async fn depth(&self, lane: Lane) -> Result<Depth, DepthError>;
}

/// The URLs of the three queues.
#[derive(Clone, Debug)]
pub struct QueueUrls {
    /// Of [`Lane::Delivery`].
    pub delivery: String,
    /// Of [`Lane::Retry`].
    pub retry: String,
    /// Of [`Lane::DeadLetter`].
    pub dead_letter: String,
}

impl QueueUrls {
    /// The URL of one queue.
    pub fn of(&self, lane: Lane) -> &str {
        match lane {
            Lane::Delivery => &self.delivery,
            Lane::Retry => &self.retry,
            Lane::DeadLetter => &self.dead_letter,
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
    pub fn new(client: aws_sdk_sqs::Client, urls: QueueUrls) -> Self {
        Self { client, urls }
    }

    async fn send_batch(&self, lane: Lane, batch: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let count = batch.len();
        let entries: Result<Vec<_>, _> = batch.into_iter().enumerate().map(|(i, message)| entry(i, message)).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return vec![Err(SendError::Refused(error.to_string())); count],
        };
        let sent =
            self.client.send_message_batch().queue_url(self.urls.of(lane)).set_entries(Some(entries)).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let why = DisplayErrorContext(&error).to_string();
                let too_long = error.as_service_error().is_some_and(SendMessageBatchError::is_batch_request_too_long);
                let error = if too_long { SendError::Refused(why) } else { SendError::Unavailable(why) };
                return vec![Err(error); count];
            }
        };
        // What the answer does not name is not known to be in the queue.
        let mut results = vec![Err(SendError::Unavailable("not named in the answer".to_owned())); count];
        for sent in answer.successful() {
            if let Some(result) = sent.id().parse::<usize>().ok().and_then(|i| results.get_mut(i)) {
                *result = Ok(());
            }
        }
        for failed in answer.failed() {
            let why = format!("{} {}", failed.code(), failed.message().unwrap_or_default());
            let refused = REFUSALS.iter().any(|code| failed.code().ends_with(code));
            let error = if refused { SendError::Refused(why) } else { SendError::Unavailable(why) };
            if let Some(result) = failed.id().parse::<usize>().ok().and_then(|i| results.get_mut(i)) {
                *result = Err(error);
            }
        }
        results
    }
}

#[async_trait]
impl Queue for Sqs {
    async fn send(&self, lane: Lane, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let sends = batches(messages).into_iter().map(|batch| self.send_batch(lane, batch));
        join_all(sends).await.into_iter().flatten().collect()
    }
}

#[async_trait]
impl Depths for Sqs {
    async fn depth(&self, lane: Lane) -> Result<Depth, DepthError> {
        const NAMES: [QueueAttributeName; 3] = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let ask = self.client.get_queue_attributes().queue_url(self.urls.of(lane));
        let ask = ask.set_attribute_names(Some(NAMES.to_vec()));
        let answer = ask.send().await.map_err(|error| DepthError(DisplayErrorContext(&error).to_string()))?;
        let figure = |name: &_| answer.attributes().and_then(|all| all.get(name)?.parse().ok());
        let [visible, in_flight, delayed] = NAMES.map(|name| figure(&name));
        let missing = || DepthError("its answer lacks a figure".to_owned());
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

/// Splits messages, in order, into batches that SQS takes.
fn batches(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = message.bytes();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_ENTRIES && bytes + size <= MAX_BATCH_BYTES => {
                bytes += size;
                batch.push(message);
            }
            _ => {
                bytes = size;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize) -> Outgoing {
        Outgoing::new("x".repeat(bytes), String::new(), 0)
    }

    fn sizes(messages: Vec<Outgoing>) -> Vec<usize> {
        batches(messages).iter().map(Vec::len).collect()
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
    fn attributes_count_too() {
        let mut message = of(499_990);
        message.attributes.push(("ERROR_CODE", "x".repeat(10)));
        assert_eq!(message.bytes(), 499_990 + 10 + 6 + 10);
        assert_eq!(sizes(vec![message.clone(), message]), [1, 1]);
    }
}
