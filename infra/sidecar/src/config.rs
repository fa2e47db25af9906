//! The settings of the sidecar.

use std::net::SocketAddr;

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, Lives};
use adapters::redis::transport::RedisConfig;

use crate::credentials;

/// What the sidecar needs.
pub(crate) struct Config {
    /// Where Redis is.
    pub(crate) redis: RedisConfig,
    /// How long deliveries and their records live.
    pub(crate) lives: Lives,
    /// Where AWS is and where the queues are, if they are to be shown.
    pub(crate) queues: Option<(Account, QueueUrls)>,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
}

/// Reads the settings.
///
/// # Errors
/// When there is no address to listen on; the reader has the fault.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    let redis = config::redis_as(reader, account);
    let lives = config::lives(reader);
    let queues = config::optional_queues(reader, account);
    let listen = reader.optional("LISTEN_ADDRESS").unwrap_or("0.0.0.0:8000").parse();
    let wants = "must be an address and a port such as 0.0.0.0:8000";
    let listen = listen.map_err(|_| reader.refuse("LISTEN_ADDRESS", wants))?;
    Ok(Config { redis, lives, queues, listen })
}

/// Where AWS is, and who is calling: a user whose keys are given, or the role.
fn account(reader: &mut Reader<'_>) -> Account {
    match reader.optional("AWS_ACCESS_KEY_ID") {
        Some(_) => config::account(reader),
        None => config::account_of(reader, credentials::of_the_role()),
    }
}
