//! The settings of `endpoints`.

use adapters::aws::account::Account;
use adapters::aws::master_keys::MasterKeySource;
use adapters::aws::sqs::QueueUrls;
use adapters::config;
use adapters::config::reader::{Faulted, Reader};
use domain::webhook::Rules;

/// What `endpoints` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// The name of the registry's table.
    pub table: String,
    /// The name of the table of history.
    pub history_table: String,
    /// What the registry's secrets are sealed with.
    pub master_keys: MasterKeySource,
    /// What a URL, and the payload of a test, are judged by.
    pub rules: Rules,
    /// Most endpoints of a tenant.
    pub max_endpoints: u64,
}

/// Reads the settings.
///
/// # Errors
/// When there are no master keys; the reader has the fault.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    let (account, queues) = (config::account(reader), config::queues(reader));
    let rules = Rules { max_payload_bytes: config::max_payload_bytes(reader), guard: config::guard(reader) };
    let (table, history_table) = (config::registry_table(reader), config::history_table(reader));
    let max_endpoints = config::max_endpoints(reader);
    Ok(Config {
        account,
        queues,
        table,
        history_table,
        master_keys: config::master_keys(reader)?,
        rules,
        max_endpoints,
    })
}
