//! The settings of `metrics`.

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, Lives};

/// What `metrics` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long deliveries and their records live.
    pub lives: Lives,
    /// Where AWS is and where the queues are, if they are to be shown.
    pub queues: Option<(Account, QueueUrls)>,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    Ok(Config { lives: config::lives(reader), queues: config::optional_queues(reader, config::account) })
}
