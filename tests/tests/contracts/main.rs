//! Contracts: the rules in Lua against those in Rust, models against the real services, the
//! configuration, the template and the OpenAPI document.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

mod breaker_contract;
mod configuration;
mod deployment;
mod erasing;
mod event_bus_contract;
mod event_patterns;
mod events;
mod gate;
mod history_contract;
mod live_state_contract;
mod openapi;
mod parameters;
mod queue_contract;
mod rate_contract;
mod recent;
mod record_contract;
mod registry_contract;
mod registry_faults;
mod store_contract;
mod template;
mod tokens_contract;
mod waiting;
