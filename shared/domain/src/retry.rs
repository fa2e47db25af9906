//! When to try again, and when to stop. One budget a delivery: the first
//! attempt and at most `max_retries` more, spaced by backoff with equal jitter.

use std::time::{Duration, SystemTime};

use crate::outcome::Pace;
use crate::time::Millis;

/// The longest `Retry-After` that is honoured.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);

/// The shortest delay of anything that is queued again.
pub const REQUEUE_FLOOR: Duration = Duration::from_secs(1);

/// How retries are spaced.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts after the first one.
    pub max_retries: u8,
    /// First wait after server errors and network trouble.
    pub base: Duration,
    /// First wait after the receiver asked for patience.
    pub base_throttled: Duration,
    /// Each wait is this many times the one before.
    pub factor: f64,
    /// No wait is longer, jitter included; `Retry-After` may be.
    pub cap: Duration,
}

impl RetryPolicy {
    /// The wait after the `failed`-th failed attempt (1 for the first), with
    /// equal jitter: half of it fixed, half of it `spread` (0..1) of chance.
    /// Durations are floats here on purpose: whole seconds would lose the jitter.
    pub fn backoff(&self, failed: u8, pace: Pace, spread: f64) -> Duration {
        let base = match pace {
            Pace::Normal => self.base,
            Pace::Slow => self.base_throttled,
        };
        let grown = base.as_secs_f64() * self.factor.powi(i32::from(failed.saturating_sub(1)));
        let full = grown.min(self.cap.as_secs_f64());
        Duration::from_secs_f64(full * (0.5 + 0.5 * spread.clamp(0.0, 1.0))).max(REQUEUE_FLOOR)
    }

    /// The wait when the receiver also said `retry_after`: the longer of both.
    pub fn wait(&self, failed: u8, pace: Pace, spread: f64, retry_after: Option<Duration>) -> Duration {
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_CAP);
        self.backoff(failed, pace, spread).max(asked)
    }
}

/// Reads a `Retry-After` field (RFC 9110 §10.2.3): seconds or an HTTP date.
/// Nonsense is `None`; a date that has passed is zero.
pub fn parse_retry_after(value: &str, now: Millis) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds is still a wait, and capped by the caller.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(now.until(Millis(crate::time::whole_ms(since_epoch))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_retries: 3,
            base: Duration::from_secs(10),
            base_throttled: Duration::from_secs(30),
            factor: 4.0,
            cap: Duration::from_secs(900),
        }
    }

    #[test]
    fn the_schedule_grows_and_is_capped() {
        let full = |failed, pace| policy().backoff(failed, pace, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 9].map(|n| full(n, Pace::Normal)), [10, 40, 160, 640, 900]);
        assert_eq!([1, 2, 3, 4].map(|n| full(n, Pace::Slow)), [30, 120, 480, 900]);
        assert_eq!(policy().backoff(1, Pace::Normal, 0.0), Duration::from_secs(5));
    }

    #[test]
    fn retry_after_lengthens_and_never_shortens() {
        let wait = |s| policy().wait(1, Pace::Normal, 1.0, s).as_secs();
        assert_eq!(wait(None), 10);
        assert_eq!(wait(Some(Duration::from_secs(1))), 10);
        assert_eq!(wait(Some(Duration::from_secs(1200))), 1200);
        assert_eq!(wait(Some(Duration::from_secs(86_400))), 3600);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_nonsense_is_ignored() {
        let now = Millis(1_445_412_480_000 - 90_000);
        assert_eq!(parse_retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(90)));
        assert_eq!(parse_retry_after("Tue, 21 Oct 2014 07:28:00 GMT", now), Some(Duration::ZERO));
        assert!(parse_retry_after("99999999999999999999999", now) > Some(RETRY_AFTER_CAP));
        for nonsense in ["", "-1", "1.5", "soon", "1e3", "０"] {
            assert_eq!(parse_retry_after(nonsense, now), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_within_half_and_full(failed in 1u8..=12, spread in 0.0f64..1.0, slow: bool) {
            let pace = if slow { Pace::Slow } else { Pace::Normal };
            let full = policy().backoff(failed, pace, 1.0);
            let some = policy().backoff(failed, pace, spread);
            prop_assert!(some <= full && some >= full / 2);
        }

        #[test]
        fn any_retry_after_text_is_survived(text in "\\PC{0,40}", now: u64) {
            parse_retry_after(&text, Millis(now));
        }
    }
}
