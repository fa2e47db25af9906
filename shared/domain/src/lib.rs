//! The rules of webhook delivery, and nothing else: no I/O, no clock, no randomness,
//! no logging. Time and chance come in as arguments, so every rule can be tested
//! exactly and at once.

// What a client asks for.
pub mod address;
pub mod event_request;
pub mod headers;
pub mod ingest;
pub mod webhook;

// What is delivered, and what queues carry.
pub mod delivery;
pub mod destination;
pub mod event;
pub mod job;
pub mod message;
pub mod signature;
pub mod trace;
pub mod work;

// What an attempt came to, and what follows.
pub mod next_step;
pub mod outcome;
pub mod parking;
pub mod reason;
pub mod redaction;
pub mod retry;

// Who it is delivered to, if it is an endpoint of a tenant.
pub mod endpoint;
pub mod endpoint_request;
pub mod filter;
pub mod live_state;
pub mod rate;
pub mod rate_rules;
pub mod schedule;
pub mod seal;
pub mod subscription;

// What is told: event types, and the schemas of their payloads.
pub mod event_type;
pub mod event_type_request;
pub mod json_schema;

// Who may call the API with a token.
pub mod gate;
pub mod scope;
pub mod token;
pub mod token_request;

// What is shared between consumers.
pub mod breaker;
pub mod record;
pub mod record_rules;
pub mod status;

// What was given up, and what is kept of the rest.
pub mod dead_letter;
pub mod history;
pub mod replay_request;

// Small parts of all of the above.
pub mod cursor;
pub mod fault;
pub mod identity;
pub mod json;
pub mod names;
pub mod object;
pub mod place;
pub mod time;
