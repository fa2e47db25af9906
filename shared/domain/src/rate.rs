//! How many calls a second an endpoint takes.

use serde::{Deserialize, Serialize};

/// Calls a second, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Rate(u32);

/// The lowest and the highest rate, in calls a second.
pub const RATES: std::ops::RangeInclusive<f64> = 0.1..=500.0;

/// No rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0.1 to 500, of three decimal places at most")]
pub struct NoRate;

impl Rate {
    /// In thousandths of a call a second.
    pub fn per_1000_s(self) -> u32 {
        self.0
    }
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
    fn rates_are_bounded_and_read_as_they_were_written() {
        for per_s in [0.1, 0.25, 1.0, 33.333, 500.0] {
            assert_eq!(f64::from(Rate::try_from(per_s).unwrap()), per_s);
        }
        for per_s in [0.0, 0.099, 500.001, -1.0, 1.0001, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::try_from(per_s), Err(NoRate));
        }
    }
}
