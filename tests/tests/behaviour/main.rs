//! Behaviour: the real functions on a real Redis with real receivers, and models of SQS and
//! DynamoDB, in virtual time.

// The layout of a test is that of all futures in it.
#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

mod accepting;
mod archiving;
mod breaking;
mod cards;
mod cluster;
mod cold_starts;
mod console;
mod deliveries_to_endpoints;
mod delivering;
mod endpoint_health;
mod endpoint_secrets;
mod endpoint_states;
mod endpoints;
mod erasing;
mod events;
mod fan_out_crashes;
mod health;
mod history;
mod hostile_receivers;
mod ingesting;
mod isolation;
mod kept_events;
mod limits;
mod master_keys;
mod metrics;
mod notices;
mod on_the_way;
mod operating;
mod owed;
mod rates;
mod rates_model;
mod recording;
mod redis_recovery;
mod redriving;
mod replays;
mod resealing;
mod secrets;
mod sending;
mod simulation;
mod slow_receivers;
mod storm;
mod the_gate;
mod tokens;
mod validating;
mod without_redis;
