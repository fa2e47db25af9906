//! The settings of `operate`.

use std::time::Duration;

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, HistoryConfig, Lives};

/// What `operate` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// The name of the table of dead letters.
    pub table: String,
    /// How long a dead letter is kept.
    pub life: Duration,
    /// The name of the table of endpoints.
    pub registry_table: String,
    /// Where the history is kept, and for how long.
    pub history: HistoryConfig,
    /// How long deliveries and their records live.
    pub lives: Lives,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    Ok(Config {
        account: config::account(reader),
        queues: config::queues(reader),
        table: config::dead_letter_table(reader),
        life: config::dead_letter_life(reader),
        registry_table: config::registry_table(reader),
        history: config::history(reader),
        lives: config::lives(reader),
    })
}
