//! The clock. Nothing else here reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::time::{Millis, whole_ms};

/// Now.
#[allow(clippy::disallowed_methods, reason = "the one place of the command line that reads the clock")]
pub(crate) fn now() -> Millis {
    millis(SystemTime::now())
}

/// The time of an HTTP date (RFC 9110 §5.6.7).
pub(crate) fn of_http_date(text: &str) -> Option<Millis> {
    httpdate::parse_http_date(text).ok().map(millis)
}

fn millis(at: SystemTime) -> Millis {
    Millis(whole_ms(at.duration_since(UNIX_EPOCH).unwrap_or_default()))
}
