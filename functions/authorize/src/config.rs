//! The settings of `authorize`.

use adapters::aws::account::Account;
use adapters::aws::master_keys::MasterKeySource;
use adapters::config;
use adapters::config::reader::{Faulted, Reader};

/// What `authorize` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// The name of the registry's table.
    pub table: String,
    /// What tokens are authenticated with.
    pub master_keys: MasterKeySource,
}

/// Reads the settings.
///
/// # Errors
/// When there are no master keys; the reader has the fault.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    let (account, table) = (config::account(reader), config::registry_table(reader));
    Ok(Config { account, table, master_keys: config::master_keys(reader)? })
}
