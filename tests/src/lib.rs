//! The test harness: real Redis servers, real HTTP receivers, the real functions and
//! binaries, and models of SQS and of the dead-letter table. When a backend is missing,
//! the run fails; no test is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in tests a surprise ends the test")]

pub mod binary;
pub mod bus_model;
pub mod client;
pub mod contract;
pub mod dynamodb_proxy;
pub mod endpoints;
pub mod endpoints_world;
pub mod history_model;
pub mod history_rows;
pub mod logs;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis_cluster;
pub mod redis_server;
pub mod registry_model;
pub mod simulation;
pub mod sqs_model;
pub mod stack;
pub mod store_model;
pub mod tls;
pub mod tokens_model;
pub mod torture;
pub mod world;
