//! Everything outside: one file for each service that Steadhook talks to. What a
//! delivery means is decided in `domain`.

pub mod acceptance;
pub mod aws;
pub mod clock;
pub mod config;
pub mod dead_letter_store;
pub mod event_schemas;
pub mod history;
pub mod http;
pub mod metrics;
pub mod notify_bus;
pub mod owed;
pub mod process;
pub mod random;
pub mod receiver_client;
pub mod redis;
pub mod registry;
pub mod replays;
pub mod telemetry;
pub(crate) mod tls;
pub mod tokens;

/// An error of some library, as the source of one of ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
