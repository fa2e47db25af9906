//! What SQS hands over.

use aws_lambda_events::sqs::SqsBatchResponse;
use bytes::Bytes;
use serde::Deserialize;

/// An event of SQS. Of a record's dozen fields, three are read.
#[derive(Deserialize)]
pub struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    body: String,
    #[serde(rename = "eventSourceARN", default)]
    source: String,
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
}

impl Event {
    /// The messages of the event.
    pub(crate) fn received(self) -> Vec<Received> {
        let received = |record: Record| Received {
            message_id: record.message_id,
            body: Bytes::from(record.body),
            source: record.source,
        };
        self.records.into_iter().map(received).collect()
    }
}

/// The answer that keeps these messages in their queue.
pub(crate) fn response(kept: Vec<String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    kept.into_iter().for_each(|message_id| response.add_failure(message_id));
    response
}
