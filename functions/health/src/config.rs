//! The settings of `health`.

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config;
use adapters::config::reader::{Faulted, Reader};

/// What `health` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// The name of the table of dead letters.
    pub table: String,
    /// Over how many keys of Redis each index is split.
    pub index_shards: u8,
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
        index_shards: config::index_shards(reader),
    })
}
