//! Instants, as milliseconds since the Unix epoch. Nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// An instant in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// The last instant that RFC 3339 can write: 9999-12-31T23:59:59.999Z.
const LAST_WRITABLE: u64 = 253_402_300_799_999;

impl Millis {
    /// This instant, `wait` later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(whole_ms(wait)))
    }

    /// How long until `later`; zero if it has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Reads an RFC 3339 date-time with any offset. Instants before 1970 are
    /// not representable and give `None`, as does anything else unreadable.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let instant = DateTime::parse_from_rfc3339(text).ok()?;
        u64::try_from(instant.timestamp_millis()).ok().map(Self)
    }
}

/// RFC 3339 in UTC with milliseconds, as every time in our JSON is written.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0.min(LAST_WRITABLE)).unwrap_or(i64::MAX);
        let instant = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
        f.write_str(&instant.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// A duration in whole milliseconds, rounded down.
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(Millis(1_700_000_000_005).to_string(), "2023-11-14T22:13:20.005Z");
        assert_eq!(Millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Millis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn any_offset_is_read_and_nonsense_is_not() {
        assert_eq!(Millis::parse_rfc3339("1970-01-01T01:00:01+01:00"), Some(Millis(1000)));
        assert_eq!(Millis::parse_rfc3339("2023-11-14T22:13:20.005Z"), Some(Millis(1_700_000_000_005)));
        for bad in ["", "2023-11-14", "2023-11-14T22:13:20", "1969-12-31T23:59:59Z", "tomorrow"] {
            assert_eq!(Millis::parse_rfc3339(bad), None, "{bad}");
        }
    }
}
