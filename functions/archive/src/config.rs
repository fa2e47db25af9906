//! The settings of `archive`.

use std::time::Duration;

use adapters::aws::account::Account;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, HistoryConfig, Lives};

/// What `archive` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// The name of the table of dead letters.
    pub table: String,
    /// How long a dead letter is kept.
    pub life: Duration,
    /// Where the history is kept, and for how long.
    pub history: HistoryConfig,
    /// How long deliveries and their records live.
    pub lives: Lives,
    /// The ARN of the queue of what `fanout` could not take from the IngestQueue.
    pub ingest_dead_letter_queue: String,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    Ok(Config {
        account: config::account(reader),
        table: config::dead_letter_table(reader),
        life: config::dead_letter_life(reader),
        history: config::history(reader),
        lives: config::lives(reader),
        ingest_dead_letter_queue: reader.required("INGEST_DEAD_LETTER_QUEUE_ARN").to_owned(),
    })
}
