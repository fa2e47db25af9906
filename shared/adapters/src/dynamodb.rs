//! The archive: dead letters in DynamoDB, where they outlive Redis.

use async_trait::async_trait;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use domain::dead_letter::DeadLetter;

/// What the archive made of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filed {
    /// It is written.
    Written,
    /// It was there already, or something newer: nothing is changed.
    Known,
    /// Another body is filed under this id; file it apart.
    Foreign,
}

/// Why a dead letter is not filed. It stays in its queue.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be written as JSON.
    #[error("a dead letter cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
    /// The table did not take it.
    #[error("the table did not take a dead letter: {0}")]
    Put(String),
}

impl ArchiveError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Encode(_) => "archive_encode",
            Self::Put(_) => "archive_put",
        }
    }
}

/// The way into the archive. A trait because DynamoDB does not run inside a test;
/// its in-memory twin passes the same contract test.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Files a dead letter unless its id holds a newer one or another body.
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, ArchiveError>;
}

/// The real table.
#[derive(Clone, Debug)]
pub struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
    life_s: u64,
}

/// Attribute names.
mod attribute {
    pub(super) const ID: &str = "id";
    pub(super) const RECORD: &str = "record";
    pub(super) const BODY_HASH: &str = "body_hash";
    pub(super) const ACCEPTED_AT: &str = "accepted_at";
    pub(super) const HOP: &str = "hop";
    pub(super) const FAILED_AT: &str = "failed_at";
    pub(super) const EXPIRES_AT: &str = "expires_at";
}

impl Table {
    /// The table `name`, whose items live `life_s` seconds.
    pub fn new(client: aws_sdk_dynamodb::Client, name: String, life_s: u64) -> Self {
        Self { client, name, life_s }
    }
}

#[async_trait]
impl Archive for Table {
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, ArchiveError> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let number = |value: u64| AttributeValue::N(value.to_string());
        let expires_at = letter.failed_at.as_secs().saturating_add(self.life_s);
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .item(attribute::ID, text(&letter.webhook_id))
            .item(attribute::RECORD, AttributeValue::S(serde_json::to_string(letter)?))
            .item(attribute::BODY_HASH, text(&letter.body_hash))
            .item(attribute::ACCEPTED_AT, number(letter.accepted_at.0))
            .item(attribute::HOP, number(u64::from(letter.hop)))
            .item(attribute::FAILED_AT, number(letter.failed_at.0))
            .item(attribute::EXPIRES_AT, number(expires_at))
            .condition_expression(
                "attribute_not_exists(id) OR (body_hash = :hash AND \
                 (accepted_at < :at OR (accepted_at = :at AND hop < :hop)))",
            )
            .expression_attribute_values(":hash", text(&letter.body_hash))
            .expression_attribute_values(":at", number(letter.accepted_at.0))
            .expression_attribute_values(":hop", number(u64::from(letter.hop)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Filed::Written),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    let theirs = failed.item().and_then(|item| item.get(attribute::BODY_HASH)?.as_s().ok());
                    Ok(if theirs.is_some_and(|hash| *hash != letter.body_hash) { Filed::Foreign } else { Filed::Known })
                }
                _ => Err(ArchiveError::Put(DisplayErrorContext(&error).to_string())),
            },
        }
    }
}

/// The Redis key of a dead letter's view.
pub fn view_key(id: &str) -> String {
    format!("dead_letter:webhook:{id}")
}
