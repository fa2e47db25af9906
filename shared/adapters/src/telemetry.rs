//! Logs: one JSON object a line, on standard output, where Lambda collects them.

use std::backtrace::Backtrace;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use uuid::Uuid;

/// The longest way that logs of dependencies are let through: they would tell of
/// requests and events in whole.
const DEPENDENCIES: LevelFilter = LevelFilter::WARN;
/// Whose logs are ours.
const OURS: [&str; 10] =
    ["adapters", "domain", "fn_", "enqueue", "deliver", "archive", "operate", "health", "cleanup", "sidecar"];

/// Starts logging at `level` (`error`, `warn`, `info`, `debug`, `trace`; `info`
/// when unknown). A second call changes nothing.
pub fn init(level: &str) {
    let level: LevelFilter = level.to_ascii_lowercase().parse().unwrap_or(LevelFilter::INFO);
    // Chance decides who holds a lease, and a process that was thawed from a snapshot
    // must not draw what another one drew.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    fastrand::seed(high ^ low);
    let lines =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    let wanted = filter_fn(move |metadata| {
        let ours = OURS.iter().any(|name| metadata.target().starts_with(name));
        *metadata.level() <= if ours { level } else { level.min(DEPENDENCIES) }
    });
    let started = tracing_subscriber::registry().with(lines.with_filter(wanted).with_filter(level)).try_init();
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
