//! The services of AWS that Steadhook calls.

pub mod account;
pub mod dynamodb;
mod http_client;
pub mod secrets;
pub mod sqs;
