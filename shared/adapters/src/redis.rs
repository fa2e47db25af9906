//! Redis. Keys, fields, scripts and raw commands live below this module and nowhere
//! else.

pub mod breakers;
pub mod dead_letters;
pub mod erasure;
pub mod heartbeats;
pub mod indexes;
pub mod info;
pub mod live_states;
pub mod marks;
pub mod query;
pub mod rates;
pub mod recent;
pub mod records;
pub mod script;
pub mod sums;
pub mod tenants;
pub mod transport;
pub mod waiting;

/// A fresh token, by which a claim, a report or a batch is told from others: 64 random bits in hex.
pub fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}
