//! The settings of `console`.

use adapters::config;
use adapters::config::reader::{Faulted, Reader};

/// What `console` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which pages may show the console in a frame, as `frame-ancestors` of a content security
    /// policy takes it.
    pub frame_ancestors: String,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    Ok(Config { frame_ancestors: config::frame_ancestors(reader) })
}
