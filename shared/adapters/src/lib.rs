//! Everything outside: one file for each service that Steadhook talks to. What a
//! delivery means is decided in `domain`.

pub mod aws;
pub mod clock;
pub mod config;
pub mod http;
pub mod metrics;
pub mod process;
pub mod redis;
pub mod telemetry;
pub(crate) mod tls;
