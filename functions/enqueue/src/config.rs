//! The settings of `enqueue`.

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, Lives};
use domain::webhook::Rules;

/// What `enqueue` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// What a webhook is judged by.
    pub rules: Rules,
    /// How long deliveries and their records live.
    pub lives: Lives,
    /// Whether payloads of events are held against the schemas of their types.
    pub validates_events: bool,
    /// The name of the table with event types.
    pub registry_table: String,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    Ok(Config {
        account: config::account(reader),
        queues: config::queues(reader),
        rules: Rules { max_payload_bytes: config::max_payload_bytes(reader), guard: config::guard(reader) },
        lives: config::lives(reader),
        validates_events: reader.flag("VALIDATE_EVENTS"),
        registry_table: config::registry_table(reader),
    })
}
