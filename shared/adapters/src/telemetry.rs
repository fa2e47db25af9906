//! Logs: one JSON object a line, on standard output, where Lambda collects them.
//! During an invocation lines are gathered, since each write costs a system call
//! and wakes a reader: a warning or an error takes all of them out at once, and so
//! do steps that may outlast the process.

mod json_lines;

pub(crate) use self::json_lines::is_plain;

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::json_lines::JsonLines;

/// The longest way that logs of dependencies are let through: they would tell of
/// requests and events in whole.
const DEPENDENCIES: LevelFilter = LevelFilter::WARN;
/// Whose logs are ours.
const OURS: [&str; 10] =
    ["adapters", "domain", "fn_", "enqueue", "deliver", "archive", "operate", "health", "cleanup", "sidecar"];

/// Lines that are gathered go out when they are this many bytes.
const GATHERED: usize = 32 * 1024;

/// What waits for its way out.
struct Lines {
    text: Vec<u8>,
    /// How many invocations gather now.
    gathering: usize,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { text: Vec::new(), gathering: 0 });

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn add(&mut self, line: &[u8], urgent: bool) {
        self.text.extend_from_slice(line);
        if urgent || self.gathering == 0 || self.text.len() > GATHERED {
            self.flush();
        }
    }

    /// Where nobody listens, there is nobody to tell.
    fn flush(&mut self) {
        if !self.text.is_empty() {
            let mut out = io::stdout().lock();
            drop(out.write_all(&self.text).and_then(|()| out.flush()));
            self.text.clear();
        }
    }
}

/// Gathers lines until it is dropped.
#[must_use = "lines are gathered while this lives"]
pub(crate) struct Gathering(());

/// Begins to gather lines.
pub(crate) fn gather() -> Gathering {
    lines().gathering += 1;
    Gathering(())
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut lines = lines();
        lines.gathering -= 1;
        lines.flush();
    }
}

/// An error with its causes, each of which says why the one before it happened.
pub fn chain(error: &dyn std::error::Error) -> impl fmt::Display + '_ {
    struct Chain<'e>(&'e dyn std::error::Error);
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            let mut source = self.0.source();
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
            Ok(())
        }
    }
    Chain(error)
}

/// Takes out what was gathered: before a step that may outlast the process.
pub fn flush() {
    lines().flush();
}

/// Writes a line that is JSON already.
pub(crate) fn write_line(line: &str) {
    lines().add(format!("{line}\n").as_bytes(), false);
}

/// Where the lines of one level go.
struct Out {
    urgent: bool,
}

impl Write for Out {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        lines().add(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct MakeOut;

impl MakeWriter<'_> for MakeOut {
    type Writer = Out;

    fn make_writer(&self) -> Out {
        Out { urgent: true }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Out {
        Out { urgent: *metadata.level() <= Level::WARN }
    }
}

/// Starts logging at `level` (`error`, `warn`, `info`, `debug`, `trace`; `info`
/// when unknown). A second call changes nothing.
pub fn init(level: &str) {
    let level: LevelFilter = level.to_ascii_lowercase().parse().unwrap_or(LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer().with_writer(MakeOut).event_format(JsonLines);
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
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, panic = message.unwrap_or_default(), "a panic: this is a fault of ours");
    }));
}
