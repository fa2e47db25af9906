//! Everything outside: one file for each service that Steadhook talks to, and
//! nothing about what a delivery means. The rules live in `domain`.

pub mod api;
pub mod aws;
pub mod breaker;
pub mod clock;
pub mod config;
pub mod dynamodb;
pub mod exposition;
pub mod heartbeat;
pub mod index;
pub mod ledger;
pub mod meter;
pub mod metric;
pub mod query;
pub mod redis;
pub mod redis_info;
pub mod secrets;
pub mod sender;
pub mod sqs;
pub mod telemetry;

/// A delivery is some hundred short-lived pieces of memory: what hands them out is
/// a quarter of its cost with the system's allocator, and a tenth with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
