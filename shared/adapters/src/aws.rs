//! The services of AWS that Steadhook calls.

pub mod account;
mod attributes;
pub mod dynamodb;
pub mod event_bridge;
pub mod history;
mod http_client;
pub mod master_keys;
pub mod registry;
pub mod secrets;
pub mod sqs;
pub mod sqs_event;
