//! Logs: one JSON object a line, on standard output, where Lambda collects them.

use std::backtrace::Backtrace;

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
        return;
    }
    // Lambda would log a panic as text that nobody finds; what was being worked on
    // is told by the line that says what the panic cost.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::force_capture();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, panic = message.unwrap_or_default(), %backtrace, "a panic: this is a fault of ours");
    }));
}
