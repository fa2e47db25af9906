//! The registry's table in DynamoDB.

/// Which table, and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) client: aws_sdk_dynamodb::Client,
    pub(super) name: String,
}
