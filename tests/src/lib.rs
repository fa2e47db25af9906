//! What the tests stand on: real Redis servers, real HTTP receivers, the real
//! handlers and binaries, and an exact model of SQS in memory. A backend that is
//! missing fails the run; nothing passes silently.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in tests a surprise ends the test")]

pub mod archive_model;
pub mod binary;
pub mod client;
pub mod contract;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis_cluster;
pub mod redis_server;
pub mod simulation;
pub mod sqs_model;
pub mod stack;
pub mod tls;
pub mod torture;
pub mod world;
