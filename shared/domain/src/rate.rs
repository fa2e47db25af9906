//! How many calls a second an endpoint takes: the rate of its card, and the one that it
//! teaches by a 429. How calls are granted is in `rate_rules`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Millis, whole_ms};

/// Calls a second, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Rate(u32);

/// The lowest and the highest rate, in calls a second.
pub const RATES: std::ops::RangeInclusive<f64> = 0.1..=500.0;

/// The longest block: a `Retry-After` that says more counts as this.
pub const MAX_BLOCK: Duration = Duration::from_secs(3600);
/// No advice is further ahead.
pub const MAX_ADVICE: Duration = Duration::from_secs(4 * 3600);
/// How long an endpoint is limited after a block, if its card has no rate: the learned rate
/// begins at 10 calls a second and doubles every minute for as long as it is below the highest rate.
pub const LEARNING: Duration = Duration::from_secs(360);

/// The learned rate during a block and in the first minute after it, in thousandths of a call a second.
const FIRST_LEARNED: u32 = 10_000;
/// How often the learned rate doubles, in ms.
const DOUBLING_MS: u64 = 60_000;

/// No rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0.1 to 500, of three decimal places at most")]
pub struct NoRate;

impl Rate {
    /// In thousandths of a call a second.
    pub fn per_1000_s(self) -> u32 {
        self.0
    }

    /// The highest rate.
    pub(crate) const HIGHEST: Self = Self(500_000);

    /// A rate from thousandths of a call a second, as Redis keeps it.
    ///
    /// # Errors
    /// When it is outside [`RATES`].
    pub fn from_per_1000_s(thousandths: u32) -> Result<Self, NoRate> {
        Self::try_from(f64::from(thousandths) / 1000.0)
    }
}

/// The rate that an endpoint taught by a block: `None` without one, and when it doubled
/// until it would pass the highest rate.
fn learned(blocked_until: Option<Millis>, now: Millis) -> Option<Rate> {
    let doublings = whole_ms(blocked_until?.until(now)) / DOUBLING_MS;
    let highest = u64::from(Rate::HIGHEST.0);
    let rate =
        (0..doublings).try_fold(u64::from(FIRST_LEARNED), |rate, _| Some(rate * 2).filter(|rate| *rate <= highest));
    rate.and_then(|rate| u32::try_from(rate).ok()).map(Rate)
}

/// The limit at `now`: the lower one of the card's rate and the learned one. `None`: there is none.
pub fn limit(own: Option<Rate>, blocked_until: Option<Millis>, now: Millis) -> Option<Rate> {
    own.into_iter().chain(learned(blocked_until, now)).min()
}

/// What is seen of an endpoint's limit without asking for calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSeen {
    /// Until when nothing is granted, because the receiver asked for that. It may have passed.
    pub blocked_until: Option<Millis>,
    /// The last time that was advised to a delivery. It may have passed.
    pub advised_until: Option<Millis>,
}

impl RateSeen {
    /// Whether calls have to be asked for. Without a rate of its own, an endpoint is limited
    /// only during a block and for a while after it.
    pub fn must_ask(&self, own: Option<Rate>, now: Millis) -> bool {
        self.limit(own, now).is_some()
    }

    /// The limit at `now`; see [`limit`].
    pub fn limit(&self, own: Option<Rate>, now: Millis) -> Option<Rate> {
        limit(own, self.blocked_until, now)
    }
}

/// When a delivery with this advice is due, if its message is sent at `now`. SQS delays are
/// whole seconds, so the *wait* is rounded up to whole seconds, and counted from the beginning
/// of the second as `delay_s` counts it. Then the message comes less than a second after
/// its advice, and those that were advised one after the other do not come together. If the
/// advice itself were rounded up, one that was sent late in a second would come up to two
/// seconds late, together with those that were sent early in the next.
pub fn due(now: Millis, advice: Millis) -> Millis {
    let wait_s = whole_ms(now.until(advice)).div_ceil(1000).max(1);
    Millis((now.as_secs() + wait_s) * 1000)
}

impl TryFrom<f64> for Rate {
    type Error = NoRate;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 500,000, and not negative")]
    fn try_from(per_s: f64) -> Result<Self, NoRate> {
        let thousandths = (per_s * 1000.0).round();
        let is_exact = (per_s * 1000.0 - thousandths).abs() < 1e-6;
        if RATES.contains(&per_s) && is_exact { Ok(Self(thousandths as u32)) } else { Err(NoRate) }
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        f64::from(rate.0) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_rate_doubles_every_minute_and_then_there_is_none() {
        let blocked = Some(Millis(1_000_000));
        let at = |now| limit(None, blocked, Millis(now)).map(f64::from);
        assert_eq!([0, 999_999, 1_000_000, 1_059_999].map(at), [Some(10.0); 4]);
        let minutes = [1, 2, 3, 4, 5].map(|minute| at(1_000_000 + minute * 60_000));
        assert_eq!(minutes, [20.0, 40.0, 80.0, 160.0, 320.0].map(Some));
        let end = Millis(1_000_000).after(LEARNING);
        assert_eq!((at(end.0 - 1), at(end.0), at(u64::MAX)), (Some(320.0), None, None));
    }

    #[test]
    fn the_lower_limit_counts_and_without_one_nobody_asks() {
        let (low, high) = (Rate::try_from(0.5).unwrap(), Rate::try_from(100.0).unwrap());
        let seen = RateSeen { blocked_until: Some(Millis(5)), advised_until: None };
        assert_eq!(seen.limit(Some(low), Millis(0)), Some(low));
        assert_eq!(seen.limit(Some(high), Millis(0)).map(f64::from), Some(10.0));
        assert_eq!(seen.limit(Some(high), Millis(10_000_000)), Some(high));
        assert!(seen.must_ask(None, Millis(0)) && !seen.must_ask(None, Millis(10_000_000)));
        assert!(!RateSeen::default().must_ask(None, Millis(0)) && RateSeen::default().must_ask(Some(low), Millis(0)));
    }

    #[test]
    fn a_message_comes_less_than_a_second_after_its_advice() {
        for (now, advice, wanted) in [
            (10_000, 10_001, 11_000),
            (10_000, 11_000, 11_000),
            (10_900, 11_900, 11_000),
            (10_900, 11_901, 12_000),
            (10_900, 5_000, 11_000),
        ] {
            assert_eq!(due(Millis(now), Millis(advice)), Millis(wanted), "{now} {advice}");
        }
    }

    #[test]
    fn rates_are_bounded_and_read_as_they_were_written() {
        for per_s in [0.1, 0.25, 1.0, 33.333, 500.0] {
            assert_eq!(f64::from(Rate::try_from(per_s).unwrap()), per_s);
        }
        for per_s in [0.0, 0.099, 500.001, -1.0, 1.0001, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::try_from(per_s), Err(NoRate));
        }
    }
}
