//! Logs: one JSON object a line, on standard output, where Lambda collects them.

use tracing_subscriber::filter::LevelFilter;

/// Starts logging at `level` (`error`, `warn`, `info`, `debug`, `trace`; `info`
/// when unknown). A second call changes nothing.
pub fn init(level: &str) {
    let level: LevelFilter = level.to_ascii_lowercase().parse().unwrap_or(LevelFilter::INFO);
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(level)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
