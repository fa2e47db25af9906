//! The settings of `cleanup`.

use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, Lives};

/// What `cleanup` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long deliveries and their records live.
    pub lives: Lives,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    Ok(Config { lives: config::lives(reader) })
}
