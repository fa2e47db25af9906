//! The settings of `cleanup`.

use std::time::Duration;

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, Lives};

/// What `cleanup` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// How long deliveries are owed to endpoints that do not take them now.
    pub owed_life: Duration,
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
        owed_life: config::owed_life(reader),
        lives: config::lives(reader),
    })
}
