//! The services of AWS that Steadhook calls.

pub mod account;
pub mod dynamodb;
pub mod secrets;
pub mod sqs;
