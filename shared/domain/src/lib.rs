//! The rules of webhook delivery, and nothing else: no I/O, no clock, no
//! randomness, no logging. Time and chance come in as arguments, so every rule
//! can be tested exactly and at once.

pub mod address;
pub mod breaker;
pub mod dead_letter;
pub mod delivery;
pub mod destination;
pub mod fault;
pub mod headers;
pub mod identity;
pub mod json;
pub mod ledger;
pub mod message;
pub mod outcome;
pub mod place;
pub mod retry;
pub mod signature;
pub mod status;
pub mod time;
pub mod webhook;
