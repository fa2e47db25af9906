//! HTTP on both sides: calls to receivers, and the answers of our own API.

pub mod answer;
pub mod body;
mod connector;
pub mod entry;
pub mod path;
pub mod query;
pub mod receiver_client;
pub mod server;
