//! What SQS hands over to a consumer, and what the consumer answers.

use std::borrow::Cow;

use aws_lambda_events::sqs::SqsBatchResponse;
use bytes::Bytes;
use domain::time::Millis;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest body of an unreadable message that is kept: with its attributes it must
/// fit into the queue again.
const MAX_MALFORMED: usize = 1_000_000;

/// An event of SQS. Of a record's dozen fields, three are read, and its attributes where somebody
/// asks for them: to read them costs a delivery one percent more.
#[derive(Deserialize)]
pub struct SqsEvent<A: Attributes = IgnoredAny> {
    #[serde(rename = "Records", bound(deserialize = "A: Deserialize<'de>"))]
    records: Vec<Record<A>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "A: Deserialize<'de> + Default"))]
struct Record<A> {
    message_id: String,
    body: String,
    #[serde(rename = "eventSourceARN", default)]
    source: String,
    #[serde(default)]
    attributes: A,
}

/// What is read of a record's attributes.
pub trait Attributes: Default {
    /// When the message was sent, if that is read and SQS says so.
    fn sent_at(&self) -> Option<Millis>;
}

impl Attributes for IgnoredAny {
    fn sent_at(&self) -> Option<Millis> {
        None
    }
}

/// When a message was sent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sent {
    #[serde(default)]
    sent_timestamp: Option<String>,
}

impl Attributes for Sent {
    fn sent_at(&self) -> Option<Millis> {
        self.sent_timestamp.as_ref()?.parse().ok().map(Millis)
    }
}

/// A message as a queue handed it over.
#[derive(Clone, Debug)]
pub struct Received {
    /// SQS's id for it, by which its failure is reported.
    pub message_id: String,
    /// Its text.
    pub body: Bytes,
    /// The ARN of its queue.
    pub source: String,
    /// When it was sent, if that was read.
    pub sent_at: Option<Millis>,
}

impl<A: Attributes> SqsEvent<A> {
    /// The messages of the event.
    pub fn received(self) -> Vec<Received> {
        let received = |record: Record<A>| Received {
            message_id: record.message_id,
            body: Bytes::from(record.body),
            source: record.source,
            sent_at: record.attributes.sent_at(),
        };
        self.records.into_iter().map(received).collect()
    }
}

impl Received {
    /// As much of its text as a queue takes again.
    pub fn text_to_keep(&self) -> String {
        let text: Cow<'_, str> = String::from_utf8_lossy(&self.body);
        text.get(..text.floor_char_boundary(MAX_MALFORMED)).unwrap_or_default().to_owned()
    }
}

/// The answer that keeps these messages in their queue.
pub fn response(kept: Vec<String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    kept.into_iter().for_each(|message_id| response.add_failure(message_id));
    response
}
